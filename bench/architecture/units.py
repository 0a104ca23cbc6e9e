"""Boxes of a graph from modules of a model, and the rules by which boxes are merged until a figure can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from torch import nn

from bench.architecture.built import Built
from bench.architecture.graph import Graph, Kind, Layer, Node, total


def unit(built: Built, name: str, module: nn.Module) -> Node:
    """Return the box of a module."""
    counts = built.counts(name)
    layer = Layer(_own_name(built, name), type(module).__name__, *_sides(module))
    kind: Kind = "unit" if counts.total else "function"
    layers = _children(module) if isinstance(module, nn.Sequential | nn.ModuleDict) else (layer, *_lists(module))
    return Node(name, kind, _title(built, name), layers or (layer,), counts=counts)


def parameter(built: Built, name: str) -> Node:
    """Return the box of a parameter that is read between modules: a position embedding, say."""
    return Node(name, "parameter", _words(name.rpartition(".")[2]), counts=built.counts(name))


def core(built: Built, name: str, title: str, kind: str) -> Node:
    """Return the box of what a module computes between those that it holds."""
    own = [parameter for parameter, _ in built.sam.get_submodule(name).named_parameters(recurse=False)]
    counts = total(built.counts(f"{name}.{parameter}") for parameter in own)
    return Node(f"{name} core", "core", title, (Layer("", kind),), counts=counts)


def equal_blocks(first: Node, second: Node, *, names: Collection[str]) -> Node | None:
    """Return a box for two transformer blocks of one class and shape, of which the first may stand for several."""
    if first.key not in names or second.key not in names or first.shape != second.shape:
        return None
    if first.layers[0].kind != second.layers[0].kind or _parent(first) != _parent(second):
        return None
    counts = first.counts + second.counts
    return replace(first, title="blocks", layers=first.layers[:1], count=first.count + 1, counts=counts)


def stage(first: Node, second: Node) -> Node | None:
    """Return a box for two modules in a row that one module, other than the encoder itself, holds."""
    holder = _holder(first)
    if "unit" not in (first.kind, second.kind) or first.kind != second.kind:
        return None
    if holder != _holder(second) or holder.count(".") < 2:
        return None
    layers = (*_counted(first), *_counted(second))
    counts = first.counts + second.counts
    title = _words(" ".join(holder.split(".")[1:]))
    return replace(first, title=title, layers=layers, count=1, shape=second.shape, counts=counts)


def with_its_function(first: Node, second: Node) -> Node | None:
    """Return a box for a module and the function without parameters behind it: an activation."""
    if first.kind != "unit" or second.kind != "function":
        return None
    return replace(first, layers=(*first.layers, *second.layers), shape=second.shape)


def added_branch(first: Node, second: Node) -> Node | None:
    """Return a box for two modules in a row that the strategy has added."""
    if any(node.kind != "unit" or not node.counts.added or node.counts.frozen for node in (first, second)):
        return None
    layers = (*first.layers, *second.layers)
    is_lora = all(layer.name.startswith("lora_") for layer in layers)
    title = "LoRA" if is_lora else _words(_parent(first).rpartition(".")[2])
    return replace(first, title=title, layers=layers, shape=second.shape, counts=first.counts + second.counts)


def with_equal_siblings_merged(graph: Graph) -> Graph:
    """Return the graph with boxes side by side as one: same class, same neighbours, trained alike."""
    groups: dict[object, list[Node]] = {}
    for key, node in graph.nodes.items():
        if node.kind == "unit" and node.layers:
            states = tuple(node.counts.present())
            neighbours = (frozenset(graph.before(key)), frozenset(graph.after(key)))
            groups.setdefault((node.layers[0].kind, states, neighbours), []).append(node)
    nodes, edges = dict(graph.nodes), dict(graph.edges)
    for members in groups.values():
        if len(members) == 1:
            continue
        first, others = members[0], {node.key for node in members[1:]}
        counts = total(node.counts for node in members)
        shape = first.shape if len({node.shape for node in members}) == 1 else ()
        title = _joint_title(members)
        nodes[first.key] = replace(first, title=title, count=len(members), counts=counts, shape=shape)
        nodes = {key: node for key, node in nodes.items() if key not in others}
        edges = {pair: scale for pair, scale in edges.items() if not others & set(pair)}
    return Graph(nodes, edges)


def _joint_title(members: list[Node]) -> str:
    parents = {_parent(node) for node in members}
    numbers = [node.key.rpartition(".")[2] for node in members]
    if len(parents) == 1 and all(number.isdecimal() for number in numbers):
        is_row = [int(number) for number in numbers] == list(range(int(numbers[0]), int(numbers[-1]) + 1))
        span = f"{numbers[0]}–{numbers[-1]}" if is_row else ", ".join(numbers)
        return f"{_words(parents.pop().rpartition('.')[2])} {span}"
    return ", ".join(node.title for node in members)


def _counted(node: Node) -> tuple[Layer, ...]:
    """Return the layers of a box, one that stands for several equal modules with their number."""
    if node.count == 1:
        return node.layers
    return tuple(replace(layer, kind=f"{node.count} × {layer.kind}") for layer in node.layers)


def _holder(node: Node) -> str:
    """Return the module of which a box shows a part; of blocks in a list, what holds the list."""
    parent = _parent(node)
    return parent.rpartition(".")[0] if node.title == "blocks" or node.key.rpartition(".")[2].isdecimal() else parent


def _parent(node: Node) -> str:
    return node.key.rpartition(".")[0]


def _own_name(built: Built, name: str) -> str:
    """Return the name by which a layer is known: that of the dictionary which holds it, or of the layer it wraps."""
    parent, _, own = name.rpartition(".")
    if own == "base_layer" or (parent and isinstance(built.sam.get_submodule(parent), nn.ModuleDict)):
        return parent.rpartition(".")[2]
    return own


def _title(built: Built, name: str) -> str:
    own, parent = _own_name(built, name), name.rpartition(".")[0].rpartition(".")[2]
    return _words(f"{parent} {own}" if own.isdecimal() else own)


def _words(name: str) -> str:
    return name.replace("_", " ").strip() or name


def _children(module: nn.Module) -> tuple[Layer, ...]:
    """Return the classes of a module's children that have parameters, with their numbers."""
    kinds = Counter(type(child).__name__ for child in module.children() if any(True for _ in child.parameters()))
    return tuple(Layer("", f"{count} × {kind}" if count > 1 else kind) for kind, count in kinds.items())


def _lists(module: nn.Module) -> tuple[Layer, ...]:
    """Return the lists of equal modules that a module holds, with their lengths."""
    lists = [child for child in module.children() if isinstance(child, nn.ModuleList) and len(child) > 1]
    kinds = [({type(member).__name__ for member in members}, len(members)) for members in lists]
    return tuple(Layer("", f"{count} × {kind.pop()}") for kind, count in kinds if len(kind) == 1)


def _sides(module: nn.Module) -> tuple[int | None, int | None]:
    """Return the inputs and outputs of a linear layer, or the channels of a convolution."""
    for first, second in (("in_features", "out_features"), ("in_channels", "out_channels")):
        inputs, outputs = getattr(module, first, None), getattr(module, second, None)
        if isinstance(inputs, int) and isinstance(outputs, int):
            return inputs, outputs
    return None, None
