"""The demo's text: four domains out of what this Python installation carries, and a tokenizer trained on them.

code: source of the standard library. headers: C++ headers shipped with torch. prose: docstrings of the installed
scientific packages (read with `ast`, nothing is imported). reference: the language reference of `pydoc`.
Files are taken in the order of a hash of their names, so that every installation of the same versions gets the
same text, spread over whole packages.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

PARTS = ("train", "validation", "test")
PROSE_PACKAGES = ("scipy", "numpy", "torch", "sympy", "sklearn", "pandas", "transformers", "pyarrow", "datasets")
_CHUNK = 2_000  # characters of a document: a part of a file, so that every part of the split has many
_DOMAIN = 1_500_000  # characters of a domain at most
VOCABULARY = 2_048


def write_corpora(folder: Path) -> dict[str, dict[str, Path]]:
    """`{domain: {part: JSONL file}}`, written unless there. Whole source files fall into one part each:
    8 in 10 train, 1 validation, 1 test; text met before (vendored copies, repeated licences) is left out, so that no
    part knows another's."""
    seen: set[bytes] = set()
    files = {name: {part: folder / name / f"{part}.jsonl" for part in PARTS} for name in _SOURCES}
    for name, source in _SOURCES.items():
        if all(file.exists() for file in files[name].values()):
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        lines: dict[str, list[str]] = {part: [] for part in PARTS}
        size = 0
        for title, text in source():
            if size > _DOMAIN:
                break
            size += len(text)
            part = {8: "validation", 9: "test"}.get(_hash(title, "part") % 10, "train")
            for chunk in _chunks(text):
                digest = hashlib.sha256(chunk.strip().encode()).digest()
                if digest not in seen:
                    seen.add(digest)
                    lines[part].append(json.dumps({"text": chunk}))
        for part, file in files[name].items():
            if not lines[part]:
                raise RuntimeError(f"this Python installation has too little text for the demo's domain {name!r}")
            partial = file.with_name(f"{file.name}.{os.getpid()}")
            partial.write_text("\n".join(lines[part]) + "\n")
            partial.replace(file)
    return files


def train_tokenizer(folder: Path, corpora: dict[str, dict[str, Path]]) -> Path:
    """A byte-level BPE of 2,048 tokens, trained on equal shares of the domains' training parts, unless there."""
    if (folder / "tokenizer.json").exists():
        return folder
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    share = [
        json.loads(line)["text"] for parts in corpora.values() for line in parts["train"].read_text().splitlines()[:150]
    ]
    bpe.train_from_iterator(share, vocab_size=VOCABULARY, special_tokens=["<|end|>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.save_pretrained(folder)
    return folder


def _hash(*names: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:8], "big")


def _chunks(text: str) -> Iterator[str]:
    """Pieces of about `_CHUNK` characters, cut at line ends."""
    piece: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield "".join(piece)
            piece, size = [], 0
    if size > 40:
        yield "".join(piece)


def _files(roots: Iterable[Path], suffixes: tuple[str, ...], skip: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    found = [
        (str(path.relative_to(root.parent)), path)
        for root in roots
        for path in root.rglob("*")
        if path.suffix in suffixes and not any(part in skip for part in path.parts)
    ]
    for title, path in sorted(found, key=lambda pair: _hash(pair[0])):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) > 500:
            yield title, text[:60_000]  # one huge table must not be a domain


def _package(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _code() -> Iterator[tuple[str, str]]:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    yield from _files([stdlib], (".py",), ("site-packages", "dist-packages", "test", "tests", "pydoc_data", "idlelib"))


def _headers() -> Iterator[tuple[str, str]]:
    torch = _package("torch")
    yield from _files([torch / "include"] if torch else [], (".h", ".hpp", ".cuh"), ())


def _prose() -> Iterator[tuple[str, str]]:
    roots = [root for name in PROSE_PACKAGES if (root := _package(name)) is not None]
    for title, text in _files(roots, (".py",), ("tests", "test", "testing", "_vendor", "externals")):
        if docs := "\n\n".join(_docstrings(text)):
            yield title, docs


def _docstrings(source: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # old escapes in other people's files
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > 200:
                yield text


def _reference() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for title in sorted(topics, key=_hash):
        yield title, topics[title]


_SOURCES = {"code": _code, "headers": _headers, "prose": _prose, "reference": _reference}
