"""Boxes as they are drawn: their lines of text, their colours by what is trained, and the size that this takes."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import Any

from bench.architecture.equations import widths
from bench.architecture.graph import Counts, Node, State
from bench.units import significant

FONT = "DejaVu Sans"
"""Matplotlib brings it, so a figure looks the same everywhere."""
TITLE, BODY = 6.5, 5.5
"""Points of a box's title, and of its other lines."""
LEADING, PADDING = 1.25, 2.5
LONGEST = 24
"""Characters of a line in a box; names that are longer are broken, and in the end shortened."""
FILLS: dict[State, str] = {"frozen": "#dfe3e8", "trained": "#f0b030", "added": "#0b6fb8"}
INKS: dict[State, str] = {"frozen": "#1a1a1a", "trained": "#1a1a1a", "added": "#ffffff"}
"""Grey, orange and blue: apart for every kind of colour vision, and in lightness too when printed in grey."""
PLUS = 8.0
"""Diameter of a sum's circle in points."""


@dataclass(frozen=True)
class Line:
    """A line of text in a box: its points, and whether it is bold."""

    text: str
    size: float = BODY
    bold: bool = False


@dataclass(frozen=True)
class Box:
    """A node as it is drawn.

    Attributes:
        node: the node.
        lines: its texts from top to bottom.
        strips: coloured lines below them, one per state.
        fill: state whose colour the whole box has; None for white.
    """

    node: Node
    lines: tuple[Line, ...]
    strips: tuple[tuple[State, str], ...] = ()
    fill: State | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        if self.node.kind == "add":
            return PLUS, PLUS
        texts = [*self.lines, *(Line(text) for _, text in self.strips)]
        width = max(text_width(line.text, line.size, line.bold) for line in texts)
        height = sum(line.size * LEADING for line in texts)
        return width + 2 * PADDING, height + 2 * PADDING - (PADDING if self.strips else 0)


@cache
def text_width(text: str, size: float, bold: bool = False, math: bool = False) -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font: Any = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    text = text if math else text.replace("$", r"\$")  # which the path of a text would take for mathtext
    return float(TextPath((0, 0), text, prop=font).get_extents().width) if text.strip() else 0.0


def part_box(node: Node) -> Box:
    """Return the box of a part of the model, with the numbers of its parameters by state."""
    if node.kind == "add":
        return Box(node, (Line("+", TITLE),))
    shape = [Line(shape_text(node.shape))] if node.shape else []
    if node.kind == "end":
        return Box(node, (Line(node.title, TITLE), *shape))
    kinds = [layer.kind for layer in node.layers]
    if node.count > 1 and kinds:
        kinds[0] = f"{node.count} × {kinds[0]}"
    elif kinds and kinds[0].lower() == node.title.replace(" ", "").lower():
        kinds = kinds[1:]
    lines = (*_title(node.title), *(Line(text) for text in _packed(kinds)), *shape)
    return Box(node, lines, strips(node.counts))


def layer_box(node: Node) -> Box:
    """Return the box of a layer in a block, in the colour of what is done with it."""
    if node.kind == "add":
        return Box(node, (Line("+", TITLE),))
    if node.kind in ("end", "scale"):
        return Box(node, (Line(node.title, TITLE),))
    lines = _title(node.title)
    for layer in node.layers:
        if layer.inputs:
            name = f"{layer.name.removeprefix('lora_')}: " if len(node.layers) > 1 and node.counts.added else ""
            lines.append(Line(f"{shortened(name, 12)}{widths(layer)}"))
        elif node.kind == "core" or len(node.layers) > 1 or layer.kind.lower() != node.title.replace(" ", "").lower():
            lines.append(Line(shortened(layer.kind)))
    counts = node.counts
    fill: State | None = (
        "added" if counts.added else "frozen" if counts.frozen else "trained" if counts.trained else None
    )
    is_mixed = len(counts.present()) > 1
    return Box(node, tuple(lines), strips(counts) if is_mixed else (), None if is_mixed else fill)


def strips(counts: Counts) -> tuple[tuple[State, str], ...]:
    """Return the coloured lines of a box: ``frozen 5.4 M``."""
    return tuple((state, f"{state} {significant(number)}") for state, number in counts.present().items())


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as height × width × channels, whatever order and flattening the model has for it."""
    if len(shape) == 1:
        return f"{shape[0]} values"
    if len(shape) == 3 and shape[1] == shape[2]:
        shape = (*shape[1:], shape[0])
    elif len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    elif len(shape) == 2 and shape[0] > 16 and isqrt(shape[0]) ** 2 == shape[0]:
        shape = (isqrt(shape[0]), isqrt(shape[0]), shape[1])
    return " × ".join(map(str, shape))


def _title(text: str) -> list[Line]:
    return [Line(line, TITLE, bold=True) for line in broken(text, LONGEST - 4)]


def _packed(kinds: list[str]) -> list[str]:
    """Return classes of modules in as few lines as they need, none of them broken."""
    lines: list[str] = []
    for kind in map(shortened, kinds):
        if lines and len(lines[-1]) + len(kind) + 2 <= LONGEST:
            lines[-1] += f", {kind}"
        else:
            lines.append(kind)
    return lines


def broken(text: str, most: int = LONGEST, lines: int = 2) -> list[str]:
    """Return a text in lines of a length that a box can have; what does not fit is left out, with an ellipsis."""
    wrapped = textwrap.wrap(shortened(text, most * lines + 2), most)
    return [*wrapped[: lines - 1], shortened(" ".join(wrapped[lines - 1 :]), most)] if len(wrapped) > lines else wrapped


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a name of a module as it can be drawn: printable, and not longer than a box may be wide."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
