"""Static figures of the page, drawn by the functions that `bench plot` uses, and kept as files beside it."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.report.canvas import report_style, save
from bench.report.figure_rows import MOST_ROWS, Drawable
from bench.report.overall import Overall, csv_frame
from bench.report.site.parts import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_SVG = 600_000
"""Bytes; a larger drawing becomes an image of points, which a browser shows faster."""
_DPI = 160
_SHOWN = 120
"""Pixels of the page for an inch: letters of a paper's figure are small on a screen."""
_QUALITY = 82


def ranks(overall: Overall, stem: str) -> tuple[Picture, bytes]:
    """Return the mean ranks of all rows in one score, with bars over those that can't be told apart."""
    from bench.report import rank_diagram

    figure = rank_diagram.draw(csv_frame([overall], {}))
    names = ", ".join(overall.names[:5])
    alt = f"Critical-difference diagram: mean ranks of {len(overall.names)} rows, among them {names}."
    return _file(figure, stem, "Mean ranks; bars join rows that can't be told apart", alt)


def curves(drawable: Drawable, stem: str) -> tuple[Picture, bytes, list[str]] | None:
    """Return loss and validation PQ per epoch of the best rows, with notes; None where no epoch has a number."""
    from bench.report import learning_curves

    methods = list(dict.fromkeys(drawable.frame["method"]))
    shown = drawable.frame[drawable.frame["method"].isin(methods[:MOST_ROWS])]
    try:
        figure = learning_curves.draw(shown)
    except BenchError:
        return None
    notes = [f"The best {MOST_ROWS} of {len(methods):,} rows."] if len(methods) > MOST_ROWS else []
    alt = f"Training loss and PQ on the validation images per epoch of {min(len(methods), MOST_ROWS)} rows."
    return *_file(figure, stem, "Loss and PQ on the validation images, per epoch", alt), notes


def tuning(drawable: Drawable, stem: str) -> tuple[Picture, bytes] | None:
    """Return the curves of tuning, without the note that the page has; None where every rate diverged."""
    from bench.report import tuning_curves

    try:
        figure = tuning_curves.draw(drawable.frame, notes=None)
    except BenchError:
        return None
    alt = f"PQ on the validation images against {len(drawable.frame)} encoder rates; the chosen ones have a ring."
    return _file(figure, stem, "Validation PQ against the encoder's rate", alt)


def webp(figure: Figure, *, dpi: int = _DPI, quality: int = _QUALITY) -> bytes:
    """Return a figure as WebP, a fifth of the size of a PNG where it shows photographs."""
    buffer = io.BytesIO()
    with report_style():
        figure.savefig(buffer, format="webp", dpi=dpi, pil_kwargs={"quality": quality, "method": 4})
    return buffer.getvalue()


def _file(figure: Figure, stem: str, title: str, alt: str) -> tuple[Picture, bytes]:
    """Return a drawing of lines as SVG, or as WebP where that would be large."""
    with tempfile.TemporaryDirectory(prefix="nuclei-bench-") as folder:
        content, suffix = save(figure, Path(folder) / "figure.svg").read_bytes(), "svg"
    if len(content) > LARGEST_SVG:
        content, suffix = webp(figure), "webp"
    width, height = figure.get_size_inches() * _SHOWN
    return Picture(f"{stem}.{suffix}", title, alt, round(width), round(height)), content
