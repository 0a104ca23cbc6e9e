"""Backbones, strategies, heads and datasets by name: the part that users extend. Imports nothing from `bench`."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry import backbones, datasets, heads, strategies

__all__ = ["backbones", "datasets", "heads", "strategies"]


def __getattr__(name: str) -> ModuleType:
    """Import a package when it is first used: each of them imports modules of this one, which would be a circle."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
