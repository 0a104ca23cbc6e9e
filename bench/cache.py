"""Where datasets lie when no folder is given: the user's cache, by the XDG convention."""

from __future__ import annotations

from pathlib import Path


def data_folder(dataset: str) -> Path:
    """Default folder of a dataset: ``$XDG_CACHE_HOME/nuclei-bench/data/NAME`` (``~/.cache`` where it is not set)."""
    from registry import weights

    return weights.cache_dir().parent / "data" / dataset
