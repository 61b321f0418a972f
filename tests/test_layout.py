"""The layout of DESIGN section 4: which package may import which, no circle, what an import costs, file lengths."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jobs_ray"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)
FLOORS = ("space", "trials", "models", "search", "tune", "report", "cli")
"""Each may import those before it."""

HEAVY = {"ray", "torch", "botorch", "gpytorch", "transformers", "datasets", "peft", "accelerate"}
LIGHT = set(sys.stdlib_module_names) | {"numpy", "scipy", "jobs_ray"}
OF_OTHERS = {
    "space": LIGHT,
    "trials": LIGHT,
    "models": LIGHT | {"torch", "botorch", "gpytorch"},
    "search": LIGHT | {"botorch", "torch"},
    "tune": LIGHT | {"ray", "pyarrow", "rich"},
    "report": LIGHT | {"plotly", "pyarrow", "torch", "botorch", "gpytorch"},
    "cli": LIGHT,
}
LONGEST = 250
LONGER = {
    "search/optimizer.py": "the one public class of the search: ask, report, tell and the answers, with their docs",
    "tune/searcher.py": "Ray's Searcher interface, one class; all it does is translate and delegate",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Every module that `path` imports: anywhere, also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            below = {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES}
            found |= below or {base}
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name in MODULES}


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def floor_of(module: str) -> str:
    """`jobs_ray.search.budget` -> `search`; the package itself -> ``."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    floor = floor_of(name_of(path))
    targets = {floor_of(name) for name in ours(path)} - {floor}
    if floor in FLOORS:
        allowed = set(FLOORS[: FLOORS.index(floor)]) | {"_lazy"} | ({"cluster"} if floor == "tune" else set())
        assert targets <= allowed | ({"lm", ""} if floor == "cli" else set())  # "": the version
        assert roots(path) <= OF_OTHERS[floor]
    elif floor == "lm" and not path.stem.startswith("demo"):  # the demo is a program: it uses the whole package
        assert targets <= {"cluster", "_lazy", ""}  # "": the public `mixture`, for lm.param_space
    elif floor == "cluster":
        assert not targets


def test_there_is_no_import_circle() -> None:
    """Not even behind TYPE_CHECKING or inside a function."""
    # the package's own __init__ hands names on, and imports a module only when a name is asked for
    graph = {name: ours(path) - {name, "jobs_ray"} for name, path in MODULES.items() if name != "jobs_ray"}
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name in done:
            return
        for target in graph.get(name, set()):
            # a package that hands on a module's names is no part of a circle through that module
            if not (target in packages and name.startswith(f"{target}.")):
                visit(target, (*above, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_or_say_why_not(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = path.relative_to(PACKAGE).as_posix()
    assert lines <= (380 if name in LONGER else LONGEST)
    assert name not in LONGER or lines > LONGEST, f"{name} is short now: take it off the list"


@pytest.mark.parametrize("package", [*FLOORS[:-1], "lm"])
def test_a_package_says_what_it_is_for_and_hands_on_its_names(package: str) -> None:
    module = __import__(f"jobs_ray.{package}", fromlist=["__all__"])
    assert 1 <= len(module.__doc__.strip().splitlines()) <= 6
    assert all(getattr(module, name) is not None for name in module.__all__)


def imported_by(code: str) -> set[str]:
    """Modules loaded in a fresh interpreter after `code`."""
    program = f"{code}\nimport sys\nprint('\\n' + '\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import jobs_ray",
        "from jobs_ray.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from jobs_ray.cli import main\nmain(['plan', '--budget', '20', '--max-t', '25'])",
    ],
    ids=["import", "--help", "plan"],
)
def test_what_must_answer_at_once_imports_nothing_heavy(code: str) -> None:
    loaded = imported_by(code)
    assert "jobs_ray" in loaded
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | {"numpy", "scipy"})


def test_the_optimiser_is_made_without_ray_and_torch_and_asks_in_learn_without_them() -> None:
    """torch comes with the first model, which Ray's adapters fit in their worker thread."""
    loaded = imported_by(
        "from jobs_ray import JoBSOptimizer, Mixture, FINISHED\n"
        "optimizer = JoBSOptimizer({'m': Mixture(['a', 'b'])}, mode='min', max_t=25, budget=5, seed=0)\n"
        "optimizer.ask('one'); optimizer.report('one', 1.0, 2.0)"
    )
    assert "jobs_ray.search.optimizer" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_public_names_resolve_or_say_what_they_need() -> None:
    import jobs_ray

    core = ["Real", "Integer", "Categorical", "Mixture", "SearchSpace", "JoBSOptimizer", "Suggestion", "Recommendation"]
    for name in [*core, "Decision", "Phase", "FINISHED", "ScalingLawPredictor", "Prediction", "StateError"]:
        assert name in jobs_ray.__all__
        assert getattr(jobs_ray, name) is not None
    assert set(jobs_ray.__all__) <= set(dir(jobs_ray))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jobs_ray.nonsense


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their bare names."""
    names = [path.name for path in (PACKAGE.parent / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names)
