"""Texts of a gallery, broken into lines by the widths of their letters: cells are as narrow as two centimetres."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from bench.report.canvas import FONT
from bench.report.figure_text import legible

MOST_CHARACTERS = 1_000


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line of text in inches."""
    font = _font(bold)
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 72


def packed(words: Sequence[str], between: str, room: float, size: float) -> list[str]:
    """Return words in as few lines of `room` inches as they fit, none of them broken."""
    lines = [words[0]]
    for word in words[1:]:
        joined = f"{lines[-1]}{between}{word}"
        if text_width(joined, size) <= room:
            lines[-1] = joined
        else:
            lines[-1] += between.rstrip()
            lines.append(word)
    return lines


def wrapped(text: str, room: float, size: float, *, bold: bool = False, most: int = 8) -> list[str]:
    """Return a text in at most `most` lines of `room` inches, broken at spaces where there are any.

    Args:
        text: may be a name of the user's, of any length and with any characters.
        room: inches.
        size: of the letters, in points.
        bold: the text is bold.
        most: lines; the last one ends in … where there is more.
    """
    rest = legible(text, MOST_CHARACTERS).strip()
    lines: list[str] = []
    while rest and len(lines) < most:
        end = _fitting(rest, room, size, bold)
        space = rest.rfind(" ", 0, end + 1)
        end = space if end < len(rest) and space > 0 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        last = lines[-1]
        while len(last) > 1 and text_width(f"{last}…", size, bold=bold) > room:
            last = last[:-1]
        lines[-1] = f"{last}…"
    return lines


def _fitting(text: str, room: float, size: float, bold: bool) -> int:
    """Return the number of characters of the start of a text that fits, at least 1."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], size, bold=bold) <= room else (low, middle - 1)
    return low


@cache
def _font(bold: bool) -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(family=FONT, weight="bold" if bold else "normal")))
