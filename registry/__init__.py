"""Backbones, strategies, heads and datasets by name: the part that users extend. Imports nothing from `bench`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry import backbones, datasets, heads, strategies
    from registry.sam import Sam

__all__ = ["backbones", "datasets", "heads", "load", "strategies"]


def load(path: str | Path, *, weights: str | Path | None = None) -> Sam:
    """Return the fine-tuned model of a run's folder or of a folder that `bench export` wrote, in eval mode, on the CPU.

    ``registry.load("results/runs/1a2b3c4d5e6f")``; see `registry.loading.load`.

    Args:
        path: a run's folder (``results/runs/<id>``), its folder ``trained``, or an exported folder.
        weights: folder of the official checkpoints; the user's cache by default.

    Raises:
        WeightsError: no model there, an official checkpoint that is missing or another one, a damaged trained part.
    """
    from registry import loading

    return loading.load(path, weights=weights)


def __getattr__(name: str) -> ModuleType:
    """Import a package when it is first used: each of them imports modules of this one, which would be a circle."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
