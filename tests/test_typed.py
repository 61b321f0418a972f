"""What a user's type checker sees of the package: classes, not Any; a misspelt argument is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SNIPPET = """
import jobs_ray
reveal_type(jobs_ray.JoBSSearcher)
reveal_type(jobs_ray.JoBSOptimizer)
reveal_type(jobs_ray.recommend)
jobs_ray.JoBSSearcher(budgett=3)
"""


def test_a_type_checker_knows_the_public_names(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    (tmp_path / "snippet.py").write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(tmp_path / "snippet.py")],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert "jobs_ray.tune.searcher.JoBSSearcher" in done.stdout
    assert "jobs_ray.search.optimizer.JoBSOptimizer" in done.stdout
    assert "Recommendation | None" in done.stdout
    assert 'Unexpected keyword argument "budgett"' in done.stdout
