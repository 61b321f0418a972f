"""The layout of DESIGN section 4: who imports whom, what an import costs, and how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jobs_ray"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)

# Each module of the core, and the modules of ours it may import. Left of an arrow in DESIGN section 4 is later here.
MAY_IMPORT: dict[str, set[str]] = {
    "parameters": set(),
    "trials": set(),
    "state": set(),
    "scale": set(),
    "gp": set(),
    "threads": set(),
    "space": {"parameters"},
    "budget": {"trials"},
    "settings": {"trials"},
    "records": {"settings", "space", "state", "trials"},
    "predictor": {"gp", "scale", "trials"},
    "surrogate": {"gp"},
    "acquisition": {"parameters", "space", "surrogate"},
}
MIDDLE = set(MAY_IMPORT) | {"belief", "chooser", "situation", "policy"}  # anything but the optimiser
MAY_IMPORT |= {
    "belief": MIDDLE - {"chooser", "situation", "policy"},
    "chooser": MIDDLE - {"situation", "policy"},
    "situation": MIDDLE - {"chooser", "policy"},
    "policy": MIDDLE,
    "optimizer": MIDDLE | {"summary"},
    "summary": {"trials", "optimizer"},
}
HEAVY = {"ray", "torch", "transformers", "datasets", "peft", "accelerate"}


def imports(path: Path) -> set[str]:
    """Every module that `path` imports anywhere, by its full dotted name; those of ours down to the file."""
    found: set[str] = set()
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module or ""
            found.add(base)
            if base == "jobs_ray" or (PACKAGE.parent / base.replace(".", "/")).is_dir():
                found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The first name below `jobs_ray` of everything of ours that `path` imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("jobs_ray.")}


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_a_module_of_the_core_imports_only_what_lies_below_it(module: str) -> None:
    path = PACKAGE / f"{module}.py"
    assert ours(path) <= MAY_IMPORT[module] | {module}
    assert roots(path) <= set(sys.stdlib_module_names) | {"numpy", "scipy", "threadpoolctl", "jobs_ray"}


def test_every_module_of_the_core_is_in_the_table() -> None:
    top = {path.stem for path in PACKAGE.glob("*.py")}
    assert set(MAY_IMPORT) <= top
    edge = {name for name in top if name.startswith(("report", "cli"))}
    assert top - set(MAY_IMPORT) - edge <= {"__init__", "__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_tune_and_lm_import_the_heavy_packages(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    allowed = {"tune": {"ray"}, "lm": HEAVY}.get(folder, set())
    assert roots(path) & HEAVY <= allowed
    if "tune" not in (folder, path.stem) and folder != "lm":
        assert not any(name.startswith("ray") for name in imports(path))


@pytest.mark.parametrize("path", sorted((PACKAGE / "lm").rglob("*.py")), ids=lambda p: p.name)
def test_lm_imports_nothing_of_the_core(path: Path) -> None:
    """It gets a plain configuration dict. (Its demo is a program: it may use the whole package.)"""
    core = set(MAY_IMPORT) | {"tune"}
    if not path.stem.startswith("demo"):
        assert not ours(path) & core


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def imported_by(code: str) -> set[str]:
    """Modules loaded in a fresh interpreter after `code`."""
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = imported_by("import jobs_ray")
    assert "jobs_ray" in loaded
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | {"numpy", "scipy"})


def test_the_optimiser_needs_neither_ray_nor_torch_nor_scipy_stats() -> None:
    loaded = imported_by("import jobs_ray; jobs_ray.JoBSOptimizer; jobs_ray.Mixture; jobs_ray.FINISHED")
    assert "jobs_ray.optimizer" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert "scipy.stats" not in loaded


def test_public_names_resolve_or_say_what_they_need() -> None:
    import jobs_ray

    core = ["Real", "Integer", "Categorical", "Mixture", "SearchSpace", "JoBSOptimizer", "Suggestion", "Recommendation"]
    for name in [*core, "Decision", "Phase", "FINISHED", "ScalingLawPredictor", "Prediction", "StateError"]:
        assert name in jobs_ray.__all__
        assert getattr(jobs_ray, name) is not None
    assert set(jobs_ray.__all__) <= set(dir(jobs_ray))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jobs_ray.nonsense
