"""The package as others get it: its version, its metadata, and a wheel in an empty environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import jobs_ray

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_version_is_one() -> None:
    for command in ([sys.executable, "-m", "jobs_ray"], [Path(sys.executable).with_name("jobs-ray")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == f"jobs-ray {jobs_ray.__version__}\n"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert PROJECT["version"] == jobs_ray.__version__ == citation["version"]


def test_forms_for_issues_are_valid_and_ask_for_versions() -> None:
    forms = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github").rglob("*.yml")}
    assert {"bug.yml", "question.yml", "config.yml"} <= set(forms)
    assert [part["id"] for part in forms["bug.yml"]["body"]] == ["what", "how", "versions"]


@pytest.mark.slow
def test_a_wheel_is_built_and_works_where_nothing_else_of_the_project_is(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: what an earlier build left in build/ would get into the wheel
    shutil.copytree(ROOT / "jobs_ray", source / "jobs_ray", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True, text=True)
    [wheel] = tmp_path.glob("jobs_ray-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"jobs_ray/py.typed", "jobs_ray/report/assets/page.css", "jobs_ray/report/assets/page.js"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True, text=True)
    code = (
        "import jobs_ray; print(jobs_ray.__file__)\n"
        "from jobs_ray import JoBSOptimizer, Mixture\n"
        "o = JoBSOptimizer({'m': Mixture(['a', 'b'])}, mode='min', max_t=9, budget=3, seed=0)\n"
        "print(sorted(o.ask('1').config['m']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": str(target), "PATH": ""},
    )  # fmt: skip
    assert done.stdout == f"{target}/jobs_ray/__init__.py\n['a', 'b']\n"
