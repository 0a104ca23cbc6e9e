"""Matplotlib as the report uses it: drawn into files, and the same on every computer."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.report.output import explained
from registry import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {"font.size": 8, "axes.grid": True, "grid.color": "0.93"}


def load_seaborn() -> ModuleType:
    """Import seaborn, and Matplotlib with it, whatever the environment says about backends and folders.

    MPLBACKEND names the backend of a notebook there, which need not be installed here, and Matplotlib refuses to start
    without it. Its own folder is for caches only: without a home folder it takes a temporary one, and its advice about
    that is of no use to readers of a plot.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if not _has_home():
        os.environ.setdefault("MPLCONFIGDIR", os.devnull)  # no folder can be made there, so it makes a temporary one
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "agg"
    try:
        import seaborn
    finally:
        if backend is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = backend
    return seaborn


@contextmanager
def report_style() -> Iterator[None]:
    """Draw in the report's style while the block runs; a matplotlibrc of the user changes nothing."""
    seaborn = load_seaborn()
    from matplotlib import style

    with style.context(["default", seaborn.axes_style("ticks"), STYLE]):
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the suffix; the same records give the same bytes.

    Raises:
        BenchError: nothing can be written there.
    """
    from matplotlib import style

    volatile = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    rc = {"svg.hashsalt": "nuclei-bench"}
    with explained(path, "STEM"), atomic.replacing(path) as temporary, style.context(["default", rc]):
        figure.savefig(temporary, format=path.suffix[1:], metadata=volatile)
    return path


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True
