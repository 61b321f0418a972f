"""torch comes late: it takes a second or more to import, and a process that only plans or reports needs no model.

Ray's adapters import it before Ray's loop starts. Tried instead: their worker thread while the first trials train. But
loading torch's libraries holds the interpreter for .3 s at a time, more than a result may wait; and a process that ends
or fails in the middle of such an import crashes.
"""

from __future__ import annotations

import importlib
from threading import Lock

_NEEDED = ("jobs_ray.models.surrogate", "jobs_ray.models.heads", "botorch.acquisition.analytic", "scipy.stats")
_turn = Lock()


def import_models() -> None:
    """Imports all that the models and first suggestions need; at once when it is there. By one thread at a time: two
    of them inside torch's own import circles leave half of it undefined."""
    with _turn:
        for module in _NEEDED:
            importlib.import_module(module)
        # imports sympy at its first call, which is in the first posterior: half a second while trials wait
        importlib.import_module("torch").broadcast_shapes((1,))
