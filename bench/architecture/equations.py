"""Equations of what a strategy adds to a block, read from the graph of the block."""

from __future__ import annotations

from dataclasses import dataclass

from bench.architecture.graph import Graph, Layer, Node


@dataclass(frozen=True)
class Equation:
    """Equation of a branch that was added.

    Attributes:
        place: where it is: ``beside q, v`` or ``after proj``.
        formula: in Matplotlib's mathtext.
        dimensions: of its layers, in mathtext.
    """

    place: str
    formula: str
    dimensions: str


def equations(block: Graph) -> tuple[Equation, ...]:
    """Return an equation for each kind of branch that is added to a block; places of one kind stand together."""
    places: dict[tuple[str, str], list[tuple[str, Node, float]]] = {}
    for key, node in block.nodes.items():
        if node.kind != "unit" or not node.counts.added or node.counts.frozen:
            continue
        for join in block.after(key):
            others = [block.nodes[name] for name in block.before(join) if name != key]
            if block.nodes[join].kind != "add" or len(others) != 1:
                continue
            base, scale = others[0], block.edges[key, join]
            is_parallel = base.key not in block.before(key)
            relation = "beside" if is_parallel else "after"
            titles = _between(block, key, base.key) if is_parallel else [base.title]
            formula = _formula(node, scale, is_parallel=is_parallel)
            places.setdefault((relation, formula), []).append(("–".join(titles), node, scale))
    result = []
    for (relation, formula), branches in places.items():
        names = ", ".join(dict.fromkeys(title for title, _, _ in branches))
        dimensions = dict.fromkeys(_dimensions(node, scale) for _, node, scale in branches)
        if len(dimensions) > 1:
            dimensions = dict.fromkeys(_variable_dimensions(node, scale) for _, node, scale in branches)
        result.append(Equation(f"{relation} {names}", formula, "; ".join(dimensions)))
    return tuple(result)


def _between(block: Graph, branch: str, last: str) -> list[str]:
    """Return the titles of the first and the last box on the way that a branch is parallel to."""
    start, first = set(block.before(branch)), last
    while not start & set(before := block.before(first)) and len(before) == 1:
        first = before[0]
    return list(dict.fromkeys((block.nodes[first].title, block.nodes[last].title)))


def is_lora(node: Node) -> bool:
    """Return whether a box holds the two matrices of LoRA, by the names that peft gives them."""
    return [layer.name for layer in node.layers] == ["lora_A", "lora_B"]


def _formula(node: Node, scale: float, *, is_parallel: bool) -> str:
    factor = "" if scale == 1 else rf"{scale:g}\,"
    if is_lora(node):
        return r"$y = W x + \frac{\alpha}{r}\,B A\,x$"
    inner = "x" if is_parallel else "h"
    for layer in node.layers:
        name = _upright(layer.name if layer.inputs else layer.kind)
        inner = rf"{name}({inner})"
    return rf"$y = {'f(x)' if is_parallel else 'h'} + {factor}{inner}$"


def _dimensions(node: Node, scale: float) -> str:
    if is_lora(node):
        a, b = node.layers
        return (
            rf"$A \in \mathbb{{R}}^{{{a.outputs} \times {a.inputs}}}$, "
            rf"$B \in \mathbb{{R}}^{{{b.outputs} \times {b.inputs}}}$, $r = {a.outputs}$, $\alpha/r = {scale:g}$"
        )
    return ", ".join(rf"${_upright(layer.name)}$: {widths(layer)}" for layer in node.layers if layer.inputs)


def _variable_dimensions(node: Node, scale: float) -> str:
    """Return the dimensions of branches that differ in their widths, which stand in the boxes."""
    if not is_lora(node):
        return _dimensions(node, scale)
    return (
        r"$A \in \mathbb{R}^{r \times d}$, $B \in \mathbb{R}^{k \times r}$ (widths $d \rightarrow k$ in the boxes), "
        rf"$r = {node.layers[0].outputs}$, $\alpha/r = {scale:g}$"
    )


def widths(layer: Layer) -> str:
    """Return the inputs and outputs of a layer as text; empty where they are not known."""
    return f"{layer.inputs} → {layer.outputs}" if layer.inputs else ""


def _upright(name: str) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else r"\_" if c == "_" else "?" for c in name)
    return rf"\mathrm{{{plain}}}"
