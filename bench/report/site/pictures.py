"""Static figures of the page, drawn by the functions that `bench plot` uses, and kept as files beside it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bench.report.site.parts import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
QUALITY = 82


def svg(figure: Figure, file: str, title: str, alt: str) -> tuple[Picture, bytes]:
    """Return a figure of lines and letters as SVG; the same figure gives the same bytes."""
    from matplotlib import style

    buffer = io.BytesIO()
    with style.context(["default", {"svg.hashsalt": "nuclei-bench"}]):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    width, height = figure.get_size_inches() * 96
    return Picture(file, title, alt, round(width), round(height)), buffer.getvalue()


def webp(figure: Figure, file: str, title: str, alt: str) -> tuple[Picture, bytes]:
    """Return a figure that shows images as WebP, a fifth of the size of a PNG."""
    from matplotlib import style

    buffer = io.BytesIO()
    with style.context("default"):
        options = {"quality": QUALITY, "method": 4}
        figure.savefig(buffer, format="webp", dpi=DPI, pil_kwargs=options)
    width, height = figure.get_size_inches() * DPI
    return Picture(file, title, alt, round(width), round(height)), buffer.getvalue()
