"""A hash of the code that makes a teacher's tokens, so that tokens of other code are not taken.

It covers the files that a class is defined with, and all of this package that these import, on and
on. What changes nothing does not count: comments, docstrings, layout. Libraries are not covered.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_of(*kinds: type) -> str:
    """SHA-256 of the code behind some classes, 64 hex digits.

    Raises:
        TypeError: If one is built into Python.
    """
    waiting = [Path(inspect.getfile(kind)).resolve() for kind in kinds]
    found: dict[Path, str] = {}
    while waiting:
        file = waiting.pop()
        if file not in found:
            digest, imported = _read(file, file.stat().st_mtime_ns)
            found[file] = digest
            waiting += imported
    lines = sorted(f"{file.name} {digest}" for file, digest in found.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.cache
def _read(file: Path, changed_ns: int) -> tuple[str, tuple[Path, ...]]:
    """Hash of what a file does, and the files of this package that it imports."""
    tree = ast.parse(file.read_bytes())
    imported = tuple(sorted(set(_imports(tree))))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and body:
            first = body[0]
            is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            if is_text and isinstance(first.value.value, str):
                node.body = body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _imports(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            first, *rest = name.split(".")
            place = PACKAGE.joinpath(*rest)
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if first == PACKAGE.name and rest and file.is_file():
                    yield file.resolve()
