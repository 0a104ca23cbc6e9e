"""Packages that load what their ``__init__`` imports only when something of it is used.

segment_anything's ``__init__`` imports torchvision for its predictor, and torchvision imports torch's compiler: thrice
the time of torch itself, for every start of the program, where ``segment_anything.modeling`` alone is needed.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any


def defer(name: str) -> None:
    """Let modules of a package be imported without running its ``__init__``, which runs when a name of it is read.

    A package that is imported already, or not installed, is left as it is.

    Args:
        name: of a top-level package.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):  # asked by the import system, which has to get on without
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        del package.__dict__["__getattr__"]
        try:
            loader.exec_module(package)
        except BaseException:
            package.__dict__["__getattr__"] = load
            raise
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package
