"""Colour and line of a strategy, marker of a backbone: the same in every figure of every version.

Shipped names have a place in `registry.figure_order`; all others a place that the digest of the name chooses, among
colours and markers that no shipped name has yet. Two of those may look alike: `bench.report.look_alikes` tells them
apart in a figure.
"""

from __future__ import annotations

import hashlib

from registry.figure_order import BACKBONES, STRATEGIES

SHIPPED_COLOURS = (
    "#56b4e9",
    "#009e73",
    "#d55e00",
    "#882255",
    "#e6b400",
    "#2338a8",
    "#960f00",
    "#963cff",
    "#96d2a5",
    "#876996",
    "#b44b3c",
    "#69000f",
    "#874b4b",
    "#3ce178",
    "#69005a",
    "#b47896",
    "#3c96ff",
    "#87d2e1",
    "#d28796",
    "#e1874b",
)
"""Colours by place: farthest first in CIEDE2000 (Sharma et al. 2005), the smallest distance of normal sight,
protanopia, deuteranopia and tritanopia as Machado et al. 2009 simulate them, and away from the greys of references.
They differ in lightness as much as in hue. A change of one changes every figure that was published."""
OTHER_COLOURS = (
    *("#784b78", "#5a5ab4", "#0000ff", "#1e4b2d", "#8778c3", "#69b478", "#c3695a", "#5aa5b4"),
    *SHIPPED_COLOURS[12:],
)
"""Colours of strategies that are not shipped; the last are those of the thirteenth shipped one and later."""
# Filled shapes only (a plus would pass for an error bar, and an incomplete row is hollow).
SHIPPED_MARKERS = ("s", "D", "^", "o", "v", "X", "P", "*", "p", "<", ">", "h")
OTHER_MARKERS = ("8", "d", "H", ">", "<", "h", "p")
"""Markers of backbones that are not shipped; there are few shapes, so the last are the last of the shipped ones."""
LINES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def strategy_colour(name: str) -> str:
    """Return the colour of a strategy as ``#rrggbb``."""
    place = _place(name, STRATEGIES, len(SHIPPED_COLOURS))
    return OTHER_COLOURS[_digest(name) % len(OTHER_COLOURS)] if place is None else SHIPPED_COLOURS[place]


def strategy_line(name: str) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of a strategy, as Matplotlib takes it: it tells lines apart where colours are close."""
    place = _place(name, STRATEGIES, len(SHIPPED_COLOURS))
    return LINES[(_digest(name) >> 8 if place is None else place) % len(LINES)]


def backbone_marker(name: str) -> str:
    """Return the marker of a backbone, as Matplotlib names it."""
    place = _place(name, BACKBONES, len(SHIPPED_MARKERS))
    return OTHER_MARKERS[_digest(name) % len(OTHER_MARKERS)] if place is None else SHIPPED_MARKERS[place]


def _place(name: str, order: tuple[str, ...], n: int) -> int | None:
    """Return the place of a shipped name; None for other names, and where all `n` places are taken."""
    return order.index(name) if name in order[:n] else None


def _digest(name: str) -> int:
    # Python's own hash() differs in every process.
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
