"""Parts of a built model as graphs: the stages of its image encoder, its decoder with the prompt encoder, one block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bench.architecture import units
from bench.architecture.built import Built, build, usable
from bench.architecture.equations import Equation, equations
from bench.architecture.graph import Counts, Graph, Node, total
from bench.architecture.trace import Recorder
from registry import backbones, blocks
from registry.features import Features
from registry.sam import Sam

IMAGE, EMBEDDING, MASKS, IOU = "image", "embedding", "masks", "IoU"


@dataclass(frozen=True)
class Architecture:
    """All that a figure of a backbone with a strategy shows.

    Attributes:
        backbone, strategy: registered names.
        title: of the backbone, as publications write it.
        options: of the strategy.
        encoder: its stages, from the image to the embedding.
        decoder: prompt encoder and mask decoder, from the embedding to the masks.
        block: one transformer block of the encoder.
        block_title: which block that is.
        equations: of what the strategy adds to the block.
        counts: of the whole model (``model``) and of its three parts.
        unused: of parameters in modules that the forward pass never calls; part of the other counts.
    """

    backbone: str
    strategy: str
    title: str
    options: Mapping[str, Any]
    encoder: Graph
    decoder: Graph
    block: Graph
    block_title: str
    equations: tuple[Equation, ...]
    counts: Mapping[str, Counts]
    unused: Counts


def read(
    backbone: str,
    strategy: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    head: str = "distance",
    image_size: int | None = None,
) -> Architecture:
    """Build a pair without weights, run it once, and return what it is made of.

    Args:
        backbone, strategy: registered names.
        options: of the strategy, other than its defaults.
        head: registered name; its mask tokens are trained, and its modules are part of the decoder.
        image_size: side of the input in pixels; that of the backbone's training by default.

    Raises:
        RegistryError: an unknown name, a strategy that can't be applied, or targets that don't fit the model.
    """
    built = build(backbone, strategy, head=head, options=options, image_size=image_size)
    names = blocks.names(built.sam)
    shown = _block_to_show(names)
    with usable(built) as sam:
        with _captured(sam.get_submodule(shown)) as calls:
            encoder, given = _encoder(built, sam)
        block = _block(built, sam, shown, *calls[0])
        decoder = _decoder(built, sam, given)
    own = {part: built.counts(part) for part in ("image_encoder", "prompt_encoder", "mask_decoder")}
    used = total(node.counts for graph in (encoder, decoder) for node in graph.nodes.values())
    model = built.counts()
    block = block.with_merged_chains(units.with_its_function).with_merged_chains(units.added_branch)
    return Architecture(
        backbone=backbone,
        strategy=strategy,
        title=backbones.card(backbone).title,
        options=built.options,
        encoder=_stages(encoder, names),
        decoder=units.with_equal_siblings_merged(decoder),
        block=block,
        block_title=f"block {names.index(shown) + 1} of {len(names)}: {shown}",
        equations=equations(block),
        counts={"model": model, **own},
        unused=Counts(model.frozen - used.frozen, model.trained - used.trained, model.added - used.added),
    )


def _encoder(built: Built, sam: Sam) -> tuple[Graph, torch.Tensor | Features]:
    """Return the graph of the encoder, a box per module that holds no block or is one, and the decoder's input."""
    names = blocks.names(sam)
    modules: dict[str, Node] = {}

    def expand(name: str, module: nn.Module) -> None:
        if name in names or not any(block.startswith(f"{name}.") for block in names):
            modules[name] = units.unit(built, name, module)
            return
        for child, below in module.named_children():
            expand(f"{name}.{child}", below)

    expand("image_encoder", sam.image_encoder)
    image = torch.empty(1, 3, sam.image_size, sam.image_size)
    recorder = Recorder(sam, modules, {}, partial(units.parameter, built))
    with recorder.recording():
        recorder.mark(image, Node(IMAGE, "end", IMAGE, shape=tuple(image.shape[1:])))
        given = sam.decoder_input(image)
        for tensor, node in _inputs(given):
            if node.key != IMAGE:
                recorder.end(tensor, node)
    return recorder.graph(), given


def _inputs(given: torch.Tensor | Features) -> list[tuple[torch.Tensor, Node]]:
    """Return what the decoder reads, with the nodes: the embedding; early features and image with a branch."""
    if isinstance(given, torch.Tensor):
        return [(given, Node(EMBEDDING, "end", EMBEDDING, shape=tuple(given.shape[1:])))]
    maps = {EMBEDDING: given.embedding}
    maps |= {f"features, stride {stride}": early for stride, early in given.items() if early is not given.embedding}
    maps |= {IMAGE: given.image}
    return [(tensor, Node(name, "end", name, shape=tuple(tensor.shape[1:]))) for name, tensor in maps.items()]


def _decoder(built: Built, sam: Sam, given: torch.Tensor | Features) -> Graph:
    """Return the graph of the prompt encoder and of the mask decoder, a box per child, or per child of a list."""
    modules = {"prompt_encoder": units.unit(built, "prompt_encoder", sam.prompt_encoder)}
    for child, module in sam.mask_decoder.named_children():
        name = f"mask_decoder.{child}"
        listed = module.named_children() if isinstance(module, nn.ModuleList) else [("", module)]
        modules |= {f"{name}.{i}".rstrip("."): units.unit(built, f"{name}.{i}".rstrip("."), m) for i, m in listed}
    recorder = Recorder(sam, modules, {}, partial(units.parameter, built))
    with recorder.recording():
        for tensor, node in _inputs(given):
            recorder.mark(tensor, node)
        logits, iou = sam.decode(given)
        recorder.end(logits, Node(MASKS, "end", MASKS))
        recorder.end(iou, Node(IOU, "end", "predicted IoU"))
    return recorder.graph()


def _block(built: Built, sam: Sam, shown: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Graph:
    """Return the graph of one block, a box per layer of its attention and MLP and per other module."""
    targets = sam.card.targets
    attention, mlp = (f"{shown}.{path}" for path in (targets.attention, targets.mlp))
    modules: dict[str, Node] = {}

    def opens(name: str) -> bool:
        is_part = any(part == name or part.startswith(f"{name}.") for part in (attention, mlp))
        is_inside = name.startswith((f"{attention}.", f"{mlp}.")) and name.count(".") > attention.count(".")
        return is_part or built.counts(name).added > 0 or (is_inside and built.counts(name).frozen == 0)

    def expand(name: str, module: nn.Module) -> None:
        children = list(module.named_children())
        if not children or not opens(name):
            modules[name] = units.unit(built, name, module)
            return
        for child, below in children:
            expand(f"{name}.{child}", below)

    expand(shown, sam.get_submodule(shown))
    heads = f"{_width(sam.get_submodule(f'{shown}.{targets.proj}')) // targets.head_dim} heads of {targets.head_dim}"
    core = units.core(built, attention, "attention", heads)
    recorder = Recorder(sam, modules, {attention: core}, partial(units.parameter, built))
    with recorder.recording():
        recorder.mark((args, kwargs), Node("x", "end", "x", shape=tuple(args[0].shape[1:])))
        recorder.end(sam.get_submodule(shown)(*args, **kwargs), Node("y", "end", "y"))
    return recorder.graph()


def _width(layer: Any) -> int:
    width: int = layer.in_features
    return width


@contextmanager
def _captured(module: nn.Module) -> Iterator[list[tuple[Any, Any]]]:
    """Yield a list that receives positional and keyword arguments of every call of a module while the block runs."""
    calls: list[tuple[Any, Any]] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True, prepend=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def _stages(encoder: Graph, names: tuple[str, ...]) -> Graph:
    """Return the encoder with equal blocks in a row as one box, and one box per module that holds several of these."""
    merged = encoder.with_merged_chains(partial(units.equal_blocks, names=frozenset(names)))
    return merged.with_merged_chains(units.stage)


def _block_to_show(names: tuple[str, ...]) -> str:
    """Return the first block of the module that holds the most blocks."""
    by_parent: dict[str, list[str]] = {}
    for name in names:
        by_parent.setdefault(name.rpartition(".")[0], []).append(name)
    return max(by_parent.values(), key=len)[0]
