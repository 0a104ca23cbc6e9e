"""Matplotlib as the report uses it: at the size of a paper's column, into files, and the same on every computer."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.report.output import explained
from registry import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = {1: 3.5, 2: 7.2}
"""Inches of one and two columns of a paper, as IEEE and Nature have them."""
SUFFIXES = (".png", ".svg", ".pdf")
DPI = 300
"""Of PNG files: what journals ask for at the least."""
SMALL, SMALLEST = 6.5, 5.5
"""Points of legends and ticks, and of notes and names in a panel: figures are printed at their own size."""
FONT = "DejaVu Sans"
"""Matplotlib brings it, so a figure looks the same everywhere."""
STYLE: dict[str, Any] = {
    "font.size": 7,
    "font.family": FONT,
    "axes.labelsize": 7,
    "axes.titlesize": 7.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "grid.color": "0.93",
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    # A dollar in a name is a dollar; tick labels must be set as plain text, too.
    "text.parse_math": False,
}


def figure_width(columns: int) -> float:
    """Return the width of a figure of one or two columns of a paper, in inches.

    Raises:
        BenchError: another number of columns.
    """
    if columns not in WIDTHS:
        raise BenchError(f"a figure has the width of 1 or 2 columns of a paper, not of {columns}.")
    return WIDTHS[columns]


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
    """Write a figure as PNG, SVG or PDF, as the suffix says; the same records give the same bytes.

    Raises:
        BenchError: another suffix, or nothing can be written there.
    """
    import matplotlib as mpl

    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"a figure is written as {', '.join(SUFFIXES)}, not as {path.name}; give another suffix.")
    volatile = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}[path.suffix.lower()]
    # PDF: fonts as outlines that publishers accept (type 42), rather than Matplotlib's type 3.
    rc: Any = {"svg.hashsalt": "nuclei-bench", "pdf.fonttype": 42}
    # In the report's style, because Matplotlib makes ticks and texts as late as now.
    with explained(path, "STEM"), atomic.replacing(path) as temporary, report_style(), mpl.rc_context(rc):
        figure.savefig(temporary, format=path.suffix[1:].lower(), metadata=volatile, dpi=DPI)
    return path


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True
