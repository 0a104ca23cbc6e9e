"""Digest of the source code that models are built from: its change outdates stored step costs and embeddings.

Comments, docstrings and layout don't change a model, so the digest is taken of the syntax tree without docstrings. It
covers the files that define a backbone's builder, a strategy and a head, and the files that these import, directly or
through others. So a change to a dataset, or to a backbone, strategy or head that a model doesn't use, outdates nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import registry

REGISTRY = Path(registry.__file__).resolve().parent
NOT_PART_OF_A_MODEL = frozenset(
    REGISTRY / name
    for name in ("__init__.py", "contract.py", "errors.py", "store.py", "strategy_options.py", "weights.py")
)
"""Imported by builders, but without effect on the cost of a step: the package's own names, protocols, error texts, the
store of names, types of options, and official checkpoints, which are not loaded for counting."""


def source_digest(*objects: Any) -> str:
    """Return a digest of the code that defines functions, classes or instances of classes, and of what it imports.

    Imports are followed within `registry`, within the package of the importing file, and to what lies beside that file
    (plug-ins needn't be installed); other libraries are left out. So is an object without a source file.
    """
    return _digest(frozenset(path for path in map(_source_file, objects) if path))


@cache
def _digest(files: frozenset[Path]) -> str:
    codes = sorted(_code_digest(path) for path in _with_imports(files))
    return hashlib.sha256("".join(codes).encode()).hexdigest()


def _source_file(thing: Any) -> Path | None:
    thing = inspect.unwrap(thing.func if isinstance(thing, partial) else thing)
    if not (inspect.isroutine(thing) or inspect.isclass(thing)):
        thing = type(thing)
    try:
        path = Path(inspect.getsourcefile(thing) or "")
    except (OSError, TypeError):
        return None
    return path.resolve() if path.is_file() else None


def _with_imports(files: Iterable[Path]) -> set[Path]:
    visited: set[Path] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path not in visited:
            visited.add(path)
            waiting += _imported_files(path)
    return visited


@cache
def _imported_files(path: Path) -> frozenset[Path]:
    """Return the files that a file imports, anywhere in it, but for those of other libraries."""
    top = path.parent
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    packages = {"registry": REGISTRY}
    if (top / "__init__.py").is_file():
        packages[top.name] = top
    candidates: list[Path] = []
    for level, name in _imported_names(ast.parse(path.read_bytes())):
        first, *parts = name.split(".")
        if level:
            start = path.parents[level - 1] / first
        elif first in packages or path.parent.name not in ("site-packages", "dist-packages"):
            start = packages.get(first, path.parent / first)
        else:
            continue  # another library, installed beside a module of one file
        folders = [start.joinpath(*parts[:length]) for length in range(len(parts) + 1)]  # a, a.b and a.b.c
        candidates += [folder / "__init__.py" for folder in folders]
        candidates += [folder.with_name(f"{folder.name}.py") for folder in folders]
    return frozenset(file for file in candidates if file.is_file()) - NOT_PART_OF_A_MODEL


def _imported_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the level (leading dots) and the dotted name of every import but those for type checkers only.

    ``from a import b`` gives a and a.b, since b may be a module.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            yield from ((node.level, f"{prefix}{alias.name}") for alias in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from _imported_names(node)


@cache
def _code_digest(path: Path) -> str:
    return hashlib.sha256(ascii(_without_docstrings(ast.parse(path.read_bytes()))).encode()).hexdigest()


def _without_docstrings(node: Any) -> Any:
    """Return a syntax tree as nested lists, without statements that are only a string.

    Empty fields are left out, because every version of Python has others: `ast.dump` and `ast.unparse` give different
    texts for the same code, and the counts that come with the program must be valid in all versions.
    """
    if isinstance(node, list):
        return [_without_docstrings(item) for item in node if not _is_docstring(item)]
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *((name, _without_docstrings(value)) for name, value in fields)]
    return node


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
