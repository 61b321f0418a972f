"""Every code block and every command in README and docs/ is checked: run where nothing is trained, else read closely.

A Python block is compiled, its imports are made, every name that it uses must exist, and calls of this package's own
functions must fit their signatures. A command of ours is parsed by our parser; files, extras and targets must exist.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from jobs_ray import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FOREIGN = {"ray", "srun", "sleep", "cd", "git", "RAY_ADDRESS"}
"""First words of commands that are not ours."""

GIVEN = {"prepare", "trainable", "train", "new_name", "task"}
"""Names that stand for the reader's own code."""


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    found, text = [], path.read_text("utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        line = text[: match.start()].count("\n") + 2
        found.append(Block(path.name, line, match[1], match[2]))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language in ("sh", "bash")]
INLINE = [
    (page.name, command)
    for page in PAGES
    for command in re.findall(r"`((?:jobs-ray|python|pip install|make) [^`\n]+)`", page.read_text("utf-8"))
]


@pytest.mark.slow
def test_the_readmes_first_search_runs_as_it_stands(tmp_path: Path) -> None:
    """As a user would paste it. Once every trial failed: Ray saves classes at their end, and this one saves nothing."""
    [block] = [b for b in PYTHON if b.page == "README.md" and "class Training(tune.Trainable)" in b.text]
    script = tmp_path / "first.py"
    script.write_text(f"import ray\nray.init('local', num_cpus=2, include_dashboard=False)\n{block.text}", "utf-8")
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "confirmed=True" in done.stdout.splitlines()[-1]
    assert "recommended (confirmed by a full run)" in done.stdout, done.stdout[-2000:]


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}"


def test_every_block_has_a_language_that_is_checked() -> None:
    assert len(BLOCKS) > 20
    assert {block.language for block in BLOCKS} <= {"python", "sh", "bash", "yaml", "bibtex"}


def imported(tree: ast.Module) -> dict[str, Any]:
    """What the block's imports bind. Raises ImportError or AttributeError for what is not there."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert module is not None
            root = module.split(".")[0]
            if importlib.util.find_spec(root) is None:
                assert root in {"trl", "lightning"}, f"{root} is not installed"
                found |= {alias.asname or alias.name.split(".")[0]: None for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                loaded = importlib.import_module(module)
                found |= {alias.asname or alias.name: attribute(loaded, alias.name) for alias in node.names}
            else:
                importlib.import_module(module)
                found[root] = importlib.import_module(root)
    return found


def attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        return importlib.import_module(f"{module.__name__}.{name}")


def called(node: ast.expr, names: dict[str, Any]) -> Any:
    """The object that `name` or `module.name` is, if an import bound it."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := called(node.value, names)) is not None and inspect.ismodule(owner):
        return getattr(owner, node.attr)  # AttributeError: the page names something that is not there
    return None


@pytest.mark.parametrize("block", PYTHON, ids=name_of)
def test_python_is_what_it_says(block: Block) -> None:
    if "ray.tune.integration.pytorch_lightning" in block.text:
        pytest.importorskip("lightning")
    tree = ast.parse(block.text)
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            called(node, names)
        if isinstance(node, ast.Call) and (target := called(node.func, names)) is not None:
            home = str(getattr(target, "__module__", ""))
            if callable(target) and home.startswith(("jobs_ray", "ray.tune.tune_config", "ray.tune.tuner")):
                given = [None] * len([a for a in node.args if not isinstance(a, ast.Starred)])
                inspect.signature(target).bind_partial(*given, **{k.arg: None for k in node.keywords if k.arg})
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert used <= bound | set(names) | set(dir(builtins)) | GIVEN | readme_names(block)


def readme_names(block: Block) -> set[str]:
    """A second example of the README goes on from its first."""
    return {"tune", "ScalingConfig"} if block.page == "README.md" else set()


@pytest.mark.parametrize(
    "block", [b for b in PYTHON if "JoBSOptimizer(" in b.text and b.page != "README.md"], ids=name_of
)
def test_what_needs_no_ray_runs(block: Block) -> None:
    names: dict[str, Any] = {}
    exec(compile(block.text, name_of(block), "exec"), names)
    assert names["optimizer"].recommendation().confirmed


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=name_of)
def test_yaml_is_valid(block: Block) -> None:
    data = yaml.safe_load(block.text)
    assert data.get("cluster_name") or data["kind"] == "RayJob"
    if "available_node_types" in data:
        assert data["head_node_type"] in data["available_node_types"]


def check(command: str) -> None:
    """One command line; raises when a part of it does not exist."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    if not words:
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if words[0] == "jobs-ray":
        if words[1:] and words[1] in ("demo", "report", "plan", "watch") and "..." not in words:
            if words[2:]:  # the bare name of a command stands for it
                cli._parser().parse_args(words[1:])
        else:
            assert set(words[1:]) & {"--version", "--help", "|", "..."} or words[1:] == []
    elif words[0] in ("python", ".venv/bin/python"):
        if words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None
        elif words[1].endswith(".py") and words[1] != "search.py":
            assert (ROOT / words[1]).is_file()
    elif words[:2] == ["pip", "install"]:
        for name, extras in re.findall(r"(jobs-ray|\.)\[([\w,]+)\]", command):
            assert name
            assert set(extras.split(",")) <= set(project["optional-dependencies"])
    elif words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
        assert set(words[1:]) <= targets
    else:
        assert words[0] in FOREIGN, f"{command!r} is checked by nothing"


@pytest.mark.parametrize("block", [b for b in SHELL if not b.text.startswith("#!")], ids=name_of)
def test_commands_exist(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        check(line)


@pytest.mark.parametrize(("page", "command"), INLINE, ids=lambda value: value[:40])
def test_commands_in_the_text_exist(page: str, command: str) -> None:
    check(command)


@pytest.mark.parametrize("block", [b for b in SHELL if b.text.startswith("#!")], ids=name_of)
def test_scripts_are_bash(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(block.text)
    subprocess.run(["bash", "-n", script], check=True)


def test_every_message_in_troubleshooting_is_one_of_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    messages = [
        text for heading in re.findall(r"^## (.*`.*)$", page, re.M) for text in re.findall(r"`([^`]+)`", heading)
    ]
    assert len(messages) > 10
    ours = " ".join(said(path) for path in (ROOT / "jobs_ray").rglob("*.py"))
    assert [message for message in messages if message not in ours] == []


def said(path: Path) -> str:
    """All text of a module, strings joined as Python joins them; a gap where a value goes in."""
    parts = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts.append(node.value)
    return "\n".join(parts)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        ROOT / "mkdocs.yml",
        "-d",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "JoBSSearcher" in (tmp_path / "site" / "api" / "index.html").read_text("utf-8")
