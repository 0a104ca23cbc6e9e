"""Texts of a figure: title, notes and names of rows, however long they are and whatever characters they have."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.characters import shortened
from bench.report.appearance import backbone_marker, strategy_colour
from bench.report.canvas import figure_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

GREY = "0.35"
TITLE_SIZE, NOTE_SIZE, NAME_SIZE = 7, 5.5, 6
NAME_LENGTH = {1: 32, 2: 44}
"""Characters of the name of a row, in a figure of one and of two columns of a page."""
_LINE = {1: 70, 2: 150}
_MOST_LINES = 6
_MOST_CHARACTERS = 1_000


def legible(text: str, length: int) -> str:
    """Return a text that the font of the figures can show, at most `length` characters of it, the middle left out.

    Fonts of the computer were refused: which it has would decide how a figure looks.

    Args:
        text: a name of the user's, which may be anything.
        length: most characters, the sign of the omission included.
    """
    return shortened("".join(_shown(character) for character in str(text)), length)


def shown_names(texts: Sequence[str], length: int) -> list[str]:
    """Return texts that the font can show, of at most `length` characters; names that become the same get a number."""
    names = [legible(text, length) for text in texts]
    for place, name in enumerate(names):
        if name in names[:place]:
            number = f" #{names[:place].count(name) + 1}"
            names[place] = legible(texts[place], max(length - len(number), 3)) + number
    return names


def set_title(figure: Figure, title: str, *, columns: int) -> None:
    """Write the title of a whole figure, in as many lines as it needs."""
    if title:
        text = figure.suptitle(_wrapped(title, columns, TITLE_SIZE, "bold"), x=0.01, ha="left", fontsize=TITLE_SIZE)
        plain(text).set_fontweight("bold")


def set_notes(figure: Figure, notes: Sequence[str], *, columns: int) -> None:
    """Write sentences below a figure."""
    if notes:
        text = figure.supxlabel(_wrapped(" ".join(notes), columns, NOTE_SIZE), x=0.01, ha="left", fontsize=NOTE_SIZE)
        plain(text).set_color(GREY)


def n_lines(texts: Sequence[str], *, columns: int) -> int:
    """Return the number of lines that notes take."""
    return len(_wrapped(" ".join(texts), columns, NOTE_SIZE).splitlines())


def plain(text: Text) -> Text:
    """Have a text shown as it is: a dollar in a name starts no formula."""
    text.set_parse_math(False)
    return text


def label_rows(
    axes: Axes,
    rows: pd.DataFrame,
    *,
    columns: int,
    size: float = NAME_SIZE,
    numbered: bool = False,
    offset: float = 0.0,
) -> None:
    """Name the rows of a panel at its left, the first one on top, with colour and marker of each.

    Args:
        axes: row `i` is at height `i`, downwards.
        rows: method, backbone and strategy of each row.
        columns: width of the figure in columns of a page.
        size: of the letters, in points.
        numbered: write the number of each row behind its name.
        offset: what is added to the heights.
    """
    names = shown_names(rows["method"].tolist(), NAME_LENGTH[columns])
    heights = [place + offset for place in range(len(names))]
    numbers = [f"  {number}" if numbered else "" for number in range(1, len(names) + 1)]
    axes.set_yticks(heights, [f"{name}{number}" for name, number in zip(names, numbers, strict=True)], fontsize=size)
    axes.tick_params(axis="y", length=0, pad=3 + 1.4 * size)
    for label in axes.get_yticklabels():
        plain(label)
    place = axes.get_yaxis_transform() + _shift(axes, -(2 + 0.7 * size))
    for height, (_, row) in zip(heights, rows.iterrows(), strict=True):
        (line,) = axes.plot([0], [height], **mark(row, size=0.75 * size), transform=place, clip_on=False, label="_row")
        line.set_in_layout(False)  # it is beside its name, which the layout minds


def mark(row: pd.Series, *, size: float) -> dict[str, Any]:
    """Return the style of a row's marker: shape of the backbone, colour of the strategy."""
    return {
        "marker": backbone_marker(row["backbone"]),
        "color": strategy_colour(row["strategy"]),
        "markersize": size,
        "markeredgecolor": "white",
        "markeredgewidth": 0.3,
        "linestyle": "none",
    }


def _shift(axes: Axes, points: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure()
    assert figure is not None
    return ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _wrapped(text: str, columns: int, size: float, weight: str = "normal") -> str:
    """Return a text in lines that fit into the width of a figure; a line of wide letters holds fewer of them."""
    text = legible(text, _MOST_CHARACTERS)
    width = round(_LINE[columns] * NOTE_SIZE / size)
    room = 72 * 0.94 * figure_width(columns)  # hinted letters of a PNG are wider
    while True:
        lines = textwrap.wrap(text, width, max_lines=_MOST_LINES, placeholder=" …", break_on_hyphens=False)
        if width < 20 or all(_points(line, size, weight) < room for line in lines):
            return "\n".join(lines)
        width = int(0.95 * width)


def _points(line: str, size: float, weight: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight=weight)
    return float(TextPath((0, 0), line.replace("$", r"\$"), size=size, prop=font).get_extents().width)


@cache
def _shown(character: str) -> str:
    """Return a character; its code where the font has no glyph, so that two names never look the same."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    if character.isprintable() and font.get_char_index(ord(character)):
        return character
    return " " if character.isspace() else f"[U+{ord(character):04X}]"
