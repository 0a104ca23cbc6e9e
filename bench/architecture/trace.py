"""Flow of data through a model, from the operations of one forward pass on tensors without values.

Every operation passes through a dispatch mode, which notes the boxes that each tensor comes from. A module of the list
of units is one box, whatever it does inside. Between units, sums of two branches are boxes of their own, and so is
what an attention computes from its queries, keys and values; reshaping passes data on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.architecture.graph import Graph, Node

_SUMS = ("aten::add", "aten::add_", "aten::sub")
_SCALES = ("aten::mul", "aten::mul_", "aten::div", "aten::div_")
_COMPUTES = ("bmm", "mm", "addmm", "baddbmm", "matmul", "softmax", "scaled_dot_product", "einsum", "mul", "add", "div")


class Recorder(TorchDispatchMode):
    """Records the flow of data between the units of a model while it is active.

    Args:
        root: the model, all of whose modules may be called.
        units: nodes by the full name of the module that each stands for.
        cores: nodes by the full name of the module whose own computation each stands for.
        parameter: gives the node of a parameter that is read between units, from its full name.
    """

    def __init__(
        self, root: nn.Module, units: Mapping[str, Node], cores: Mapping[str, Node], parameter: Callable[[str], Node]
    ) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], float] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._root, self._units, self._cores, self._parameter = root, units, cores, parameter
        self._owners = {id(p): name for name, p in root.named_parameters()}
        self._parameters = dict(root.named_parameters())
        self._sources: dict[int, frozenset[str]] = {}
        self._scales: dict[int, float] = {}
        self._alive: list[Any] = []  # an id may be used again once its tensor is gone
        self._stack: list[str] = []

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Record while the block runs."""
        handles = []
        for name, module in self._root.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True, prepend=True))
            # Before the strategy's own hooks, whose operations are then not counted as the module's.
            handles.append(module.register_forward_hook(self._leave(name), with_kwargs=True, prepend=True))
        try:
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def mark(self, value: Any, node: Node) -> None:
        """Make the tensors in `value` come from a node, and nothing else."""
        self.nodes.setdefault(node.key, node)
        for tensor in _tensors(value):
            self._set(tensor, frozenset((node.key,)))

    def end(self, value: Any, node: Node) -> None:
        """Add a node that the tensors in `value` flow into."""
        self._connect(self._of(value), node)
        self.shapes[node.key] = _shape(value)

    def graph(self) -> Graph:
        """Return what was recorded."""
        nodes = {key: replace(node, shape=self.shapes.get(key, node.shape)) for key, node in self.nodes.items()}
        return Graph(nodes, dict(self.edges))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note where the results of one operation come from."""
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        inputs = [*_tensors(args), *_tensors(kwargs)]
        if (unit := self._unit()) is not None:
            sources = frozenset((unit,)) if unit in self.nodes else self._of(inputs)
        else:
            sources = self._between_units(name, args, inputs)
        for tensor in _tensors(out):
            self._set(tensor, sources)
            scale = self._scale(name, args)
            if scale != 1 and len(sources) == 1:
                self._scales[id(tensor)] = scale
        return out

    def _between_units(self, name: str, args: Any, inputs: list[Tensor]) -> frozenset[str]:
        sources = self._of(inputs) | self._read_parameters(inputs)
        top = self._stack[-1] if self._stack else ""
        short = name.removeprefix("aten::").lstrip("_")
        if top in self._cores:
            if sources and short.rstrip("_").startswith(_COMPUTES):
                node = self._cores[top]
                self._connect(sources - {node.key}, node)
                return frozenset((node.key,))
            return sources
        branches = [self._data(value) for value in inputs if id(value) not in self._owners]
        if name in _SUMS and len(branches) > 1 and all(branches) and branches[0] != branches[1]:
            node = Node(f"sum {len(self.nodes)}", "add", "+")
            self._connect(sources, node, {key: self._scales.get(id(v), 1.0) for v in inputs for key in self._of([v])})
            return frozenset((node.key,))
        return sources

    def _read_parameters(self, inputs: list[Tensor]) -> frozenset[str]:
        """Add nodes of parameters that an operation between units reads, unless a core's module owns them."""
        names = dict.fromkeys(self._owners[id(value)] for value in inputs if id(value) in self._owners)
        read = set()
        for name in names:
            owner = name.rpartition(".")[0]
            if owner in self._cores:
                continue
            unit = next((key for key in self._units if owner == key or owner.startswith(f"{key}.")), None)
            node = self._units[unit] if unit else self._parameter(name)
            if node.key not in self.nodes:
                self.nodes[node.key] = node
                self.shapes[node.key] = tuple(self._parameters[name].shape)
            read.add(node.key)
        return frozenset(read)

    def _scale(self, name: str, args: Any) -> float:
        """Return the factor by which a tensor is multiplied, on the way of one branch."""
        if name not in _SCALES or len(args) < 2 or isinstance(args[1], Tensor):
            return 1.0
        factor = float(args[1]) if "mul" in name else 1 / float(args[1])
        return factor * self._scales.get(id(args[0]), 1.0)

    def _unit(self) -> str | None:
        """Return the key of the outermost unit that is being called."""
        return next((self._units[name].key for name in map(self._unit_of, self._stack) if name), None)

    def _unit_of(self, name: str) -> str | None:
        parts = name.split(".")
        names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        return next((candidate for candidate in names if candidate in self._units), None)

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            outside = self._unit() is None
            self._stack.append(name)
            unit = self._unit_of(name)
            if outside and unit is not None:
                node = self._units[unit]
                inputs = [*_tensors(args), *_tensors(kwargs)]
                self._connect(self._of(inputs) - {node.key}, node)

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._stack.pop()
            unit = self._unit_of(name)
            if unit is None or self._unit() is not None:
                return
            given = {id(value) for value in (*_tensors(args), *_tensors(kwargs))}
            results = [value for value in _tensors(output) if id(value) not in given]
            key = self._units[unit].key
            for tensor in results:
                self._set(tensor, frozenset((key,)))
            if results and (name == unit or key not in self.shapes):  # a dictionary of modules is never called itself
                self.shapes[key] = _shape(results)
            elif name == unit:  # it handed on what it was given: dropout while nothing is trained
                self._forget(key)

        return hook

    def _connect(self, sources: frozenset[str], node: Node, scales: Mapping[str, float] | None = None) -> None:
        self.nodes.setdefault(node.key, node)
        for source in sorted(sources, key=list(self.nodes).index):
            self.edges.setdefault((source, node.key), (scales or {}).get(source, 1.0))

    def _forget(self, key: str) -> None:
        self.nodes.pop(key, None)
        self.edges = {pair: scale for pair, scale in self.edges.items() if key not in pair}

    def _of(self, value: Any) -> frozenset[str]:
        return frozenset().union(*(self._sources.get(id(tensor), frozenset()) for tensor in _tensors(value)))

    def _data(self, tensor: Tensor) -> frozenset[str]:
        """Return the sources of a tensor without parameters: a position embedding that is added is no branch."""
        return frozenset(key for key in self._of([tensor]) if self.nodes[key].kind != "parameter")

    def _set(self, tensor: Tensor, sources: frozenset[str]) -> None:
        self._sources[id(tensor)] = sources
        self._alive.append(tensor)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape, without the batch, of the tensor that has the most dimensions."""
    return max((tuple(tensor.shape[1:]) for tensor in _tensors(value)), key=len, default=())
