"""Figure of an architecture: its encoder, its decoder and one block, with a legend of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.architecture import boxes, layout
from bench.architecture.boxes import BODY, FILLS, FONT, INKS, LEADING, PADDING, TITLE, Box
from bench.architecture.graph import STATES, Graph, Node
from bench.architecture.layout import Layout
from bench.units import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.architecture.parts import Architecture

WIDTH = 7.2 * 72
"""Points: two columns of a paper. A model that needs more makes a wider figure, so that all text stays legible."""
MARGIN, BETWEEN = 6.0, 14.0
HEADING = 7.0
EDGE = "#5a6470"


@dataclass(frozen=True)
class _Panel:
    """A graph with its heading and the lines below it."""

    heading: str
    boxes: Mapping[str, Box]
    places: Layout
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        return HEADING * 2 + self.places.size[1] + len(self.notes) * TITLE * 1.8


def draw(architecture: Architecture) -> Figure:
    """Return the figure; the same architecture gives the same figure where `dot` is, or is not, installed."""
    from matplotlib.figure import Figure

    panels = _panels(architecture)
    legend = HEADING * 3.0
    title = HEADING * 2
    widths = [panel.places.size[0] for panel in panels] + [_note_width(panel) for panel in panels]
    width = max(WIDTH, max(widths) + 2 * MARGIN)
    height = sum(panel.height + BETWEEN for panel in panels) + title + legend + 2 * MARGIN
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    _text(axes, MARGIN, height - MARGIN - HEADING / 2, _title(architecture), size=7.5, bold=True, align="left")
    top = height - MARGIN - title
    for panel in panels:
        _draw_panel(axes, panel, left=MARGIN, top=top, width=width - 2 * MARGIN)
        top -= panel.height + BETWEEN
    _draw_legend(axes, architecture, y=MARGIN + legend - HEADING / 2)
    return figure


def _title(architecture: Architecture) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in architecture.options.items())
    image = next(iter(architecture.encoder.nodes.values())).shape
    size = f", input {image[1]} × {image[2]}" if len(image) == 3 else ""
    return f"{architecture.title} with {architecture.strategy}{f' ({options})' if options else ''}{size}"


def _panels(architecture: Architecture) -> list[_Panel]:
    counts = architecture.counts
    encoder = f"a   Image encoder, {significant(counts['image_encoder'].total)} parameters"
    decoder = (
        f"b   Prompt encoder, {significant(counts['prompt_encoder'].total)}, and mask decoder, "
        f"{significant(counts['mask_decoder'].total)} parameters"
    )
    notes = tuple(
        f"{equation.place}:   {equation.formula}   with   {equation.dimensions}" for equation in architecture.equations
    )
    name = boxes.shortened(architecture.block_title, 90)
    return [
        _panel(encoder, architecture.encoder, boxes.part_box, straight=True),
        _panel(decoder, architecture.decoder, boxes.part_box),
        _panel(f"c   B{name[1:]}", architecture.block.with_scales_as_nodes(), boxes.layer_box, notes, straight=True),
    ]


def _panel(
    heading: str, graph: Graph, box: Callable[[Node], Box], notes: tuple[str, ...] = (), *, straight: bool = False
) -> _Panel:
    drawn = {key: box(node) for key, node in graph.nodes.items()}
    places = layout.place({key: one.size for key, one in drawn.items()}, graph.edges, straight=straight)
    return _Panel(heading, drawn, places, notes)


def _note_width(panel: _Panel) -> float:
    return max((boxes.text_width(note, TITLE, math=True) for note in (*panel.notes, panel.heading)), default=0.0)


def _draw_panel(axes: Axes, panel: _Panel, *, left: float, top: float, width: float) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    _text(axes, left, top - HEADING, panel.heading, size=HEADING, bold=True, align="left")
    x0 = left + (width - panel.places.size[0]) / 2
    y0 = top - HEADING * 2 - panel.places.size[1]
    for route in panel.places.routes.values():
        points = [(x0 + x, y0 + y) for x, y in route]
        codes = [Path.MOVETO, *[Path.CURVE4] * (len(points) - 1)]
        arrow = FancyArrowPatch(
            path=Path(points, codes),
            arrowstyle="-|>",
            mutation_scale=5,
            linewidth=0.7,
            color=EDGE,
            shrinkA=0,
            shrinkB=0,
        )
        axes.add_patch(arrow)
    for key, box in panel.boxes.items():
        x, y = panel.places.centres[key]
        _draw_box(axes, box, x0 + x, y0 + y)
    for number, note in enumerate(panel.notes):
        _text(axes, left, y0 - (number + 0.8) * TITLE * 1.8, note, size=TITLE, align="left", math=True)


def _draw_box(axes: Axes, box: Box, x: float, y: float) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

    width, height = box.size
    if box.node.kind == "add":
        axes.add_patch(Circle((x, y), width / 2, facecolor="white", edgecolor=EDGE, linewidth=0.7, zorder=3))
        _text(axes, x, y, "+", size=TITLE, zorder=4)
        return
    if box.node.kind not in ("end", "scale"):
        fill = FILLS[box.fill] if box.fill else "white"
        corner = (x - width / 2, y - height / 2)
        style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=2", "edgecolor": EDGE, "linewidth": 0.6}
        dashes: dict[str, Any] = {"linestyle": (0, (3, 1.5))} if box.node.kind in ("core", "function") else {}
        frame = FancyBboxPatch(corner, width, height, facecolor=fill, zorder=3, **style, **dashes)
        axes.add_patch(frame)
    else:
        frame = None
    ink = INKS[box.fill] if box.fill else "#1a1a1a"
    top = y + height / 2 - PADDING
    for line in box.lines:
        top -= line.size * LEADING
        _text(axes, x, top + line.size * LEADING / 2, line.text, size=line.size, bold=line.bold, color=ink, zorder=5)
    top = y - height / 2 + len(box.strips) * BODY * LEADING
    for state, text in box.strips:
        top -= BODY * LEADING
        strip = Rectangle((x - width / 2, top), width, BODY * LEADING, facecolor=FILLS[state], linewidth=0, zorder=4)
        axes.add_patch(strip)
        if frame is not None:
            strip.set_clip_path(frame)
        _text(axes, x, top + BODY * LEADING / 2, text, size=BODY, color=INKS[state], zorder=5)


def _draw_legend(axes: Axes, architecture: Architecture, *, y: float) -> None:
    from matplotlib.patches import Rectangle

    model, x = architecture.counts["model"], MARGIN
    for state in STATES:
        number = getattr(model, state)
        share = f" ({_percent(number / model.total)})" if number else ""
        label = f"{state} {significant(number)}{share}"
        axes.add_patch(Rectangle((x, y - 3.5), 10, 7, facecolor=FILLS[state], edgecolor=EDGE, linewidth=0.5))
        _text(axes, x + 13, y, label, size=TITLE, align="left")
        x += 13 + boxes.text_width(label, TITLE) + 16
    x, y = MARGIN, y - HEADING * 1.7
    rest = f"{significant(model.total)} parameters in all"
    if architecture.unused.total:
        rest += f", {significant(architecture.unused.total)} of them in modules that the forward pass never calls"
    _text(axes, x, y, rest, size=TITLE, align="left")


def _percent(share: float) -> str:
    """Return a share in per cent with two digits: 0.16 %, 36 %, 99.9 %."""
    return f"{100 * share:.2g} %" if share < 0.99 else f"{100 * share:.3g} %"


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    bold: bool = False,
    color: str = "#1a1a1a",
    align: Any = "center",
    math: bool = False,
    zorder: float = 2,
) -> None:
    axes.text(
        x,
        y,
        text,
        fontsize=size,
        fontweight="bold" if bold else "normal",
        family=FONT,
        color=color,
        ha=align,
        va="center_baseline" if align == "center" else "center",
        parse_math=math,
        zorder=zorder,
    )
