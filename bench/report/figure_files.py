"""Files that figures are written to: one that is named, or PNG, SVG and PDF of each figure under a common start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.report.canvas import SUFFIXES, save
from bench.report.output import STDOUT
from registry import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OTHER_SUFFIXES = (".eps", ".gif", ".jpeg", ".jpg", ".pgf", ".ps", ".svgz", ".tif", ".tiff", ".webp")
"""Endings that nobody means as a part of a name."""


def check_output(output: Path | None) -> None:
    """Raise an error where figures can't be written to `output`, before they are drawn.

    Raises:
        BenchError: standard output, a pipe or a device, or the ending of another format.
    """
    if output is None:
        return
    if output == STDOUT or atomic.is_stream(output):
        raise BenchError(
            f"a plot is written as several files, so it can't go to {output}; give the start of their names with "
            "-o STEM, or a file that ends in .png, .svg or .pdf."
        )
    if output.suffix.lower() in OTHER_SUFFIXES:
        raise BenchError(f"figures are written as {', '.join(SUFFIXES)}, not as {output.name}; choose one of them.")


def write_figures(figures: list[tuple[str, Figure]], name: str, output: Path | None, default: Path) -> list[Path]:
    """Write figures, and return the files.

    Args:
        figures: each with the part of the file name that tells it apart.
        name: what the figures are, which starts their names in a folder.
        output: a file that ends in .png, .svg or .pdf, for a single figure; a folder; else the start of the names of
            PNG, SVG and PDF files; None takes `default`.
        default: a folder.

    Raises:
        BenchError: more than one figure for one file, or a place that can't be written.
    """
    if output is not None and output.suffix.lower() in SUFFIXES and not output.is_dir():
        if len(figures) > 1:
            parts = ", ".join(part for part, _ in figures)
            raise BenchError(
                f"there are {len(figures)} figures ({parts}), and {output} is one file; give the start of their names "
                f"with -o {output.with_suffix('')}."
            )
        return [save(figure, output) for _, figure in figures]
    stem = (output or default) / name if output is None or output.is_dir() else output
    return [
        save(figure, stem.with_name(f"{stem.name}_{part}{suffix}")) for part, figure in figures for suffix in SUFFIXES
    ]
