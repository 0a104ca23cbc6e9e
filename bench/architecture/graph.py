"""Graph of a model's parts: boxes with shapes and parameter counts, and the data that flows between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

State = Literal["frozen", "trained", "added"]
STATES: tuple[State, ...] = ("frozen", "trained", "added")
Kind = Literal["unit", "core", "parameter", "function", "add", "scale", "end"]


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters: of the backbone and frozen, of the backbone and trained, added by the strategy."""

    frozen: int = 0
    trained: int = 0
    added: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.frozen + other.frozen, self.trained + other.trained, self.added + other.added)

    @property
    def total(self) -> int:
        """Number of all parameters."""
        return self.frozen + self.trained + self.added

    def present(self) -> dict[State, int]:
        """Return the numbers that are not 0, by state."""
        return {state: getattr(self, state) for state in STATES if getattr(self, state)}


@dataclass(frozen=True)
class Layer:
    """A layer inside a box.

    Attributes:
        name: last part of its module's name.
        kind: class of the module.
        inputs, outputs: widths of a linear layer or channels of a convolution; None for others.
    """

    name: str
    kind: str
    inputs: int | None = None
    outputs: int | None = None


@dataclass(frozen=True)
class Node:
    """A box of a graph.

    Attributes:
        key: unique in the graph: full name of the module, for most.
        kind: ``unit`` (a module), ``core`` (what a module computes between those that it holds: attention),
            ``parameter`` (read directly), ``function`` (a module without parameters), ``add`` (sum of two branches),
            ``scale`` (product with a number) or ``end`` (input or output of the graph).
        title: what the box is called.
        layers: what it holds, in the order of the forward pass.
        count: number of equal modules that it stands for.
        shape: of its output without the batch; empty where it is not known.
        counts: of its parameters.
    """

    key: str
    kind: Kind
    title: str
    layers: tuple[Layer, ...] = ()
    count: int = 1
    shape: tuple[int, ...] = ()
    counts: Counts = Counts()


@dataclass(frozen=True)
class Graph:
    """Boxes and the flow of data between them.

    Attributes:
        nodes: by key, in the order of the forward pass.
        edges: pairs of keys with the factor that the data are multiplied by on their way, 1 for most.
    """

    nodes: Mapping[str, Node]
    edges: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def before(self, key: str) -> list[str]:
        """Return the keys of the boxes from which data flow into one."""
        return [source for source, target in self.edges if target == key]

    def after(self, key: str) -> list[str]:
        """Return the keys of the boxes into which data flow from one."""
        return [target for source, target in self.edges if source == key]

    def merged(self, first: str, second: str, node: Node) -> Graph:
        """Return the graph with two boxes, the second right behind the first, replaced by one at the first's place."""
        nodes = {node.key if key == first else key: node if key == first else old for key, old in self.nodes.items()}
        del nodes[second]
        edges = {
            (node.key if a in (first, second) else a, node.key if b in (first, second) else b): scale
            for (a, b), scale in self.edges.items()
            if (a, b) != (first, second)
        }
        return Graph(nodes, edges)

    def with_scales_as_nodes(self) -> Graph:
        """Return the graph with a box on every edge whose factor is not 1."""
        nodes, edges = dict(self.nodes), {}
        for (tail, head), scale in self.edges.items():
            if scale == 1:
                edges[tail, head] = 1.0
                continue
            node = Node(f"{tail} × {head}", "scale", f"× {scale:g}")
            nodes[node.key] = node
            edges |= {(tail, node.key): 1.0, (node.key, head): 1.0}
        return Graph(nodes, edges)

    def with_merged_chains(self, combine: Callable[[Node, Node], Node | None]) -> Graph:
        """Return the graph with pairs of boxes merged as long as `combine` returns a box for one.

        Args:
            combine: called with two boxes of which the second is the only one behind the first, and the first the only
                one before the second; None leaves them apart.
        """
        graph = self
        for key in list(self.nodes):
            while key in graph.nodes and len(after := graph.after(key)) == 1 and len(graph.before(after[0])) == 1:
                node = combine(graph.nodes[key], graph.nodes[after[0]])
                if node is None or graph.edges[key, after[0]] != 1:
                    break
                graph = graph.merged(key, after[0], replace(node, key=key))
        return graph


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of some counts."""
    return sum(counts, Counts())
