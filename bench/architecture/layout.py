"""Places of the boxes of a graph, from left to right: by graphviz's `dot`, or in layers where it is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from math import dist

Point = tuple[float, float]
Size = tuple[float, float]
GAP, RANK_GAP, LAYER_GAP = 5.0, 8.5, 11.0
"""Points between boxes above one another, and between one layer and the next as `dot` and `in_layers` place them."""
SHORTEST = 0.5
"""Points that a piece of an edge is long at least: the direction of an arrowhead is that of the last piece."""


@dataclass(frozen=True)
class Layout:
    """Places in points, from the lower left corner.

    Attributes:
        size: width and height of everything.
        centres: of the boxes, by key.
        routes: of the edges: a first point, then three points for each Bézier curve.
    """

    size: Size
    centres: Mapping[str, Point]
    routes: Mapping[tuple[str, str], tuple[Point, ...]]


def has_dot() -> bool:
    """Return whether graphviz's Python package and its program `dot` are both here."""
    return find_spec("graphviz") is not None and shutil.which("dot") is not None


def place(sizes: Mapping[str, Size], edges: Iterable[tuple[str, str]], *, straight: bool = False) -> Layout:
    """Return places for boxes of these sizes in points, so that edges go to the right.

    Args:
        sizes: width and height of each box.
        edges: pairs of boxes.
        straight: draw the longest way through the graph as one line.
    """
    pairs = list(edges)
    return by_dot(sizes, pairs, straight=straight) if has_dot() else in_layers(sizes, pairs)


def by_dot(sizes: Mapping[str, Size], edges: list[tuple[str, str]], *, straight: bool = False) -> Layout:
    """Return the layout of `dot` (Gansner et al., IEEE TSE 19:214, 1993)."""
    import graphviz

    names = {key: f"n{number}" for number, key in enumerate(sizes)}  # keys may hold what its language can't
    keys = {name: key for key, name in names.items()}
    graph = graphviz.Digraph(
        graph_attr={"rankdir": "LR", "nodesep": f"{GAP / 72:.3f}", "ranksep": f"{RANK_GAP / 72:.3f}"},
        node_attr={"shape": "box", "fixedsize": "true", "label": ""},
        edge_attr={"dir": "none"},  # edges end at the boxes; the arrowheads are drawn later
    )
    line = _longest_path(list(sizes), edges) if straight else set()
    for key, (width, height) in sizes.items():
        graph.node(names[key], width=f"{width / 72:.4f}", height=f"{height / 72:.4f}")
    for tail, head in edges:
        graph.edge(names[tail], names[head], weight="50" if (tail, head) in line else "1")
    size, centres, routes = (0.0, 0.0), {}, {}
    for text in graph.pipe(format="plain", encoding="utf-8").splitlines():
        kind, *words = text.split()
        if kind == "graph":
            size = (72 * float(words[1]), 72 * float(words[2]))
        elif kind == "node":
            centres[keys[words[0]]] = (72 * float(words[1]), 72 * float(words[2]))
        elif kind == "edge":
            numbers = [72 * float(word) for word in words[3 : 3 + 2 * int(words[2])]]
            routes[keys[words[0]], keys[words[1]]] = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return Layout(size, centres, routes)


def in_layers(sizes: Mapping[str, Size], edges: list[tuple[str, str]]) -> Layout:
    """Return a layout with each box in the layer behind the last that flows into it; longer edges go around."""
    ranks = _ranks(list(sizes), edges)
    layers: dict[int, list[str]] = {}
    for key, rank in ranks.items():
        layers.setdefault(rank, []).append(key)
    tallest = max(sum(sizes[key][1] + GAP for key in keys) - GAP for keys in layers.values())
    detours = sum(ranks[head] - ranks[tail] > 1 for tail, head in edges)
    centres: dict[str, Point] = {}
    left, rights = 0.0, dict.fromkeys(sizes, 0.0)
    for rank in sorted(layers):
        width = max(sizes[key][0] for key in layers[rank])
        top = tallest / 2 + (sum(sizes[key][1] + GAP for key in layers[rank]) - GAP) / 2
        for key in layers[rank]:
            centres[key] = (left + width / 2, top - sizes[key][1] / 2)
            top -= sizes[key][1] + GAP
        left += width
        rights |= dict.fromkeys(layers[rank], left)
        left += LAYER_GAP
    above, routes = tallest, {}
    for tail, head in edges:
        is_long = ranks[head] - ranks[tail] > 1
        above += GAP * is_long
        routes[tail, head] = _route(
            (centres[tail], sizes[tail], rights[tail]),
            (centres[head], sizes[head], rights[head] - max(sizes[key][0] for key in layers[ranks[head]])),
            detour=above if is_long else None,
            is_top=(tail == layers[ranks[tail]][0], head == layers[ranks[head]][0]),
        )
    return Layout((left - LAYER_GAP, tallest + (detours + 1) * GAP * bool(detours)), centres, routes)


def _route(
    tail: tuple[Point, Size, float], head: tuple[Point, Size, float], *, detour: float | None, is_top: tuple[bool, bool]
) -> tuple[Point, ...]:
    """Return an edge through the gaps between layers.

    Args:
        tail: centre and size of the box that it leaves, and the right border of its layer.
        head: centre and size of the box that it reaches, and the left border of its layer.
        detour: height at which it passes above the layers between; None if there are none.
        is_top: whether nothing stands above the one and the other, so that it may leave and reach them from above.
    """
    ((x0, y0), (w0, h0), right), ((x1, y1), (w1, h1), left) = tail, head
    points = [(x0 + w0 / 2, y0), (right, y0)]
    ends = [(left, y1), (x1 - w1 / 2, y1)]
    if detour is None:
        middle = (right + left) / 2
        return _joined([*points, *ends], bends={1: ((middle, y0), (middle, y1))})
    if is_top[0]:
        points = [(x0, y0 + h0 / 2)]
    if is_top[1]:
        ends = [(x1, y1 + h1 / 2)]
    rise, fall = points[-1][0] + LAYER_GAP / 2, ends[0][0] - LAYER_GAP / 2
    up, down = (points[-1][0] + LAYER_GAP * 0.2 * (not is_top[0]), detour), (ends[0][0], detour)
    if not is_top[1]:
        down = (ends[0][0] - LAYER_GAP * 0.2, detour)
    number = len(points)
    bends = {number - 1: (up, up), number + 1: (down, down)}
    return _joined([*points, (rise, detour), (fall, detour), *ends], bends=bends)


def _joined(points: list[Point], bends: Mapping[int, tuple[Point, Point]]) -> tuple[Point, ...]:
    """Return Bézier curves through some points, straight but for those between a point in `bends` and the next."""
    route = [points[0]]
    for number, (start, end) in enumerate(pairwise(points)):
        if dist(start, end) > SHORTEST:
            (x0, y0), (x1, y1) = start, end
            thirds = ((2 * x0 + x1) / 3, (2 * y0 + y1) / 3), ((x0 + 2 * x1) / 3, (y0 + 2 * y1) / 3)
            route += [*bends.get(number, thirds), end]
    return tuple(route)


def _longest_path(keys: list[str], edges: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges of the longest way through a graph, which is drawn as a straight line."""
    ranks = _ranks(keys, edges)
    key = max(keys, key=lambda name: ranks[name])
    path = set()
    while before := [(tail, head) for tail, head in edges if head == key and ranks[tail] == ranks[key] - 1]:
        path.add(before[0])
        key = before[0][0]
    return path


def _ranks(keys: list[str], edges: list[tuple[str, str]]) -> dict[str, int]:
    """Return the length of the longest way to each box; a box that nothing flows into stands right before its next."""
    before: dict[str, list[str]] = {key: [] for key in keys}
    after: dict[str, list[str]] = {key: [] for key in keys}
    for tail, head in edges:
        before[head].append(tail)
        after[tail].append(head)
    ranks: dict[str, int] = {}

    def rank(key: str) -> int:
        if key not in ranks:
            ranks[key] = max((rank(other) + 1 for other in before[key]), default=0)
        return ranks[key]

    for key in keys:
        rank(key)
    for key in keys:
        if not before[key] and after[key]:
            ranks[key] = max(0, min(ranks[other] for other in after[key]) - 1)
    return ranks
