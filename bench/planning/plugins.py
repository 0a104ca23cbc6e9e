"""Plug-ins beside a grid: files and folders of Python that register backbones, strategies, heads or datasets."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_loaded: set[Path] = set()


def load(sources: Sequence[Path]) -> None:
    """Import plug-ins, each file once per process.

    Args:
        sources: Python files, and folders whose Python files are imported in the order of their names.
    """
    for path in files(sources):
        if path in _loaded:
            continue
        _loaded.add(path)
        sys.path.insert(0, str(path.parent))
        try:
            importlib.import_module(path.stem)
        finally:
            sys.path.remove(str(path.parent))


def files(sources: Sequence[Path]) -> list[Path]:
    """The Python files of some sources."""
    return [
        file.resolve() for source in sources for file in (sorted(source.glob("*.py")) if source.is_dir() else [source])
    ]


def digests(sources: Sequence[Path]) -> Mapping[str, str]:
    """SHA-256 (hex) of each file, by its path."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(sources)}
