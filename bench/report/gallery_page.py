"""Page of a gallery: cells with images and outlines, texts below them, and the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.metrics.object_errors import error_counts
from bench.metrics.overlaps import overlaps
from bench.report.canvas import SMALL, SMALLEST, figure_width, load_seaborn, report_style
from bench.report.figure_text import GREY, plain
from bench.report.gallery_choice import GalleryRow
from bench.report.gallery_outlines import (
    COLOURS,
    TRUE_COLOUR,
    by_category,
    draw_lines,
    legend_handles,
    outlines,
    reduced,
)
from bench.report.gallery_text import packed, wrapped
from bench.units import SCORE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELL_PIXELS, CELL_DPI = 512, 400
"""Pixels of an image on its longer side, and for each inch of a narrow cell."""
MARGIN, GAP, LINE, TALLEST = 0.03, 0.05, 0.098, 2.0
"""Inches: the figure's margin, between two cells, and a line of text; and the largest height of a cell in widths."""
LEGEND_LINE = 0.15
"""Inches of a line of the legend."""
LEGEND_COLUMNS = {1: 2, 2: 5}
NOTE = (
    "Outlines are of predictions, and of the nuclei that were missed. Merged: more than half of each of two or more "
    "nuclei lies in the prediction; split: two or more predictions lie in the nucleus by more than half. Scores are of "
    "the image, in %."
)


@dataclass(frozen=True)
class _Page:
    """A figure in which places are inches from its upper left corner.

    Attributes:
        figure: of `width` × `height` inches.
        cell: width of a cell.
    """

    figure: Figure
    width: float
    height: float
    cell: float

    def x(self, place: int) -> float:
        """Left side of a cell."""
        return MARGIN + place * (self.cell + GAP)

    def axes(self, place: int, y: float, height: float) -> Axes:
        """Axes of a cell."""
        axes = self.figure.add_axes(
            (self.x(place) / self.width, 1 - (y + height) / self.height, self.cell / self.width, height / self.height)
        )
        axes.set_axis_off()
        return axes

    def lines(
        self, x: float, y: float, lines: Sequence[str], *, size: float, weight: str = "normal", color: str = "black"
    ) -> None:
        """Write lines of text, the first one's upper edge at `y`."""
        for number, line in enumerate(lines):
            down = y + number * LINE * size / SMALLEST
            style: dict[str, Any] = {"fontsize": size, "fontweight": weight, "color": color, "va": "top"}
            plain(self.figure.text(x / self.width, 1 - down / self.height, line, **style))


def draw_page(
    made: Sequence[GalleryRow], names: Sequence[str], *, title: str, notes: Sequence[str], columns: int
) -> Figure:
    """Draw a gallery; see `bench.report.gallery.draw`."""
    load_seaborn()
    from matplotlib.figure import Figure

    width, n_cells = figure_width(columns), len(names) + 2
    cell = (width - 2 * MARGIN - (n_cells - 1) * GAP) / n_cells
    longest = min(MOST_CELL_PIXELS, round(cell * CELL_DPI))
    heads = [["image"], ["ground truth"], *(_head(name, cell) for name in names)]
    texts = [_texts(row, cell) for row in made]
    heights = [cell * min(TALLEST, row.image.true.shape[0] / row.image.true.shape[1]) for row in made]
    below = [LINE * (max(map(len, own)) + 1) for own in texts]
    above = wrapped(title, width - 2 * MARGIN, SMALL, bold=True)
    end = wrapped(" ".join([NOTE, *notes]), width - 2 * MARGIN, SMALLEST)
    legend = LEGEND_LINE * -(-len(COLOURS) // LEGEND_COLUMNS[columns])
    top = LINE * (1.3 * len(above) + max(map(len, heads)) + 1.2)
    total = top + sum(heights) + sum(below) + legend + LINE * (len(end) + 0.8)
    with report_style():
        page = _Page(Figure(figsize=(width, total), dpi=200), width, total, cell)
        page.lines(MARGIN, 0.3 * LINE, above, size=SMALL, weight="bold")
        for place, head in enumerate(heads):
            page.lines(page.x(place), top - LINE * (len(head) + 0.4), head, size=SMALLEST, weight="bold")
        y = top
        for row, text, height, under in zip(made, texts, heights, below, strict=True):
            for place in range(n_cells):
                _draw_cell(page.axes(place, y, height), row, place, longest=longest)
                page.lines(page.x(place), y + height + 0.25 * LINE, text[place], size=SMALLEST)
            y += height + under
        _draw_legend(page, y, LEGEND_COLUMNS[columns])
        page.lines(MARGIN, y + legend, end, size=SMALLEST, color=GREY)
    return page.figure


def _draw_cell(axes: Axes, row: GalleryRow, place: int, *, longest: int) -> None:
    """Draw the image, and in all but the first cell outlines on it."""
    height, width = row.image.true.shape
    # The extent keeps the coordinates of the label maps, whatever the number of pixels that are drawn.
    axes.imshow(reduced(row.image.pixels, longest), extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="equal")
    axes.set_anchor("NW")
    if place == 1:
        draw_lines(axes, [line for own in outlines(row.image.true).values() for line in own], *TRUE_COLOUR)
    elif place > 1:
        lines = by_category(row.image.true, row.predictions[place - 2].label_map)
        for category, own in lines.items():
            draw_lines(axes, own, *COLOURS[category], dashed=category == "missed")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _texts(row: GalleryRow, room: float) -> list[list[str]]:
    """Return the lines below each cell of a row."""
    n_true = len(np.unique(row.image.true[row.image.true > 0]))
    nuclei = "1 nucleus" if n_true == 1 else f"{n_true} nuclei"
    cells = [[line for text in row.heading for line in wrapped(text, room, SMALLEST, most=2)], [nuclei]]
    for prediction in row.predictions:
        scores = [f"{title} {_percent(prediction.scores, name)}" for name, title in SCORE_TITLES.items()]
        counts = error_counts(overlaps(row.image.true, prediction.label_map))
        errors = [f"{number} {name[2:]}" for name, number in counts.items()]
        cells.append([*packed(scores, "  ", room, SMALLEST), *packed(errors, ", ", room, SMALLEST)])
    return cells


def _percent(scores: Mapping[str, float], name: str) -> str:
    value = scores.get(name, float("nan"))
    return "–" if np.isnan(value) else f"{100 * value:.1f}"


def _head(name: str, room: float) -> list[str]:
    """Return the name of a method, its parts in lines of their own."""
    parts = name.replace("/", "/\n").replace(",", "\n").split("\n")
    return [line for part in parts for line in wrapped(part, room, SMALLEST, bold=True, most=2)]


def _draw_legend(page: _Page, y: float, n_columns: int) -> None:
    page.figure.legend(
        handles=legend_handles(),
        loc="upper left",
        bbox_to_anchor=(MARGIN / page.width, 1 - y / page.height),
        ncols=n_columns,
        frameon=False,
        fontsize=SMALL - 0.5,
        handlelength=2.0,
        columnspacing=1.4,
        borderaxespad=0,
        borderpad=0,
    )
