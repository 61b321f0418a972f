"""How large a demo the benchmarks of the language model train. It imports no Ray: `lm_curves` has many processes."""

from __future__ import annotations

from jobs_ray.lm.demo import FULL, QUICK, Size

SIZES = {"full": FULL, "quick": QUICK, "tiny": Size(max_steps=12, eval_every=2, short=2, budget=2.0)}
