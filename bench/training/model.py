"""A backbone with a strategy applied: set to train, counted and described; built by `registry.prepared`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from registry import quantised, strategies
from registry.prepared import prepare as prepare
from registry.sam import Sam


@dataclass(frozen=True)
class Node:
    """A module in the tree that `bench show` prints, or several equal siblings.

    Attributes:
        name: name in its parent; ``"0–11"`` for twelve equal siblings.
        kind: class of the module.
        count: number of siblings.
        parameters: number of parameters of each sibling, its children included.
        trained: how many of these are trained.
        children: the modules inside each sibling; empty at the greatest depth.
    """

    name: str
    kind: str
    count: int
    parameters: int
    trained: int
    children: tuple[Node, ...] = ()


def set_training_mode(sam: Sam) -> None:
    """Put a model into training mode, but every BatchNorm into eval mode.

    With constant statistics an image's loss doesn't depend on the other images of its micro-batch (see
    `bench.training.batchnorm` for statistics that are trained).
    """
    sam.train()
    for module in sam.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def count_parameters(sam: Sam) -> dict[str, int]:
    """Count parameters.

    Returns:
        ``parameters_`` + ``total``, ``encoder``, ``prompt_encoder``, ``decoder``: of the model and its parts,
        parameters added by the strategy included; + ``added``: these alone; + ``trainable``, ``trainable_encoder``,
        ``trainable_prompt_encoder``, ``trainable_decoder``: those that are trained. The three parts add up to
        ``total`` and ``trainable``.
    """
    parts = {"encoder": sam.image_encoder, "prompt_encoder": sam.prompt_encoder, "decoder": sam.mask_decoder}
    applied = strategies.applied(sam)
    counts = {"total": _size(sam.parameters()), "trainable": _trained(sam)}
    counts |= {name: _size(part.parameters()) for name, part in parts.items()}
    hidden = quantised.hidden_parameters(sam.image_encoder)
    counts |= {name: counts[name] + hidden for name in ("total", "encoder")}
    counts |= {f"trainable_{name}": _trained(part) for name, part in parts.items()}
    counts["added"] = 0 if applied is None else applied.added
    return {f"parameters_{name}": count for name, count in counts.items()}


def describe(sam: Sam, depth: int = 3) -> Node:
    """Return the tree of modules with parameters, and how many of these are trained.

    Args:
        sam: a model, with or without a strategy.
        depth: levels below the root.
    """
    return _node("sam", sam, depth)


def _node(name: str, module: nn.Module, depth: int) -> Node:
    children: list[Node] = []
    below = [(n, m) for n, m in module.named_children() if _size(m.parameters())]
    if depth and below:
        own = module.named_parameters(recurse=False)
        children = [Node(n, "Parameter", 1, p.numel(), p.numel() * p.requires_grad) for n, p in own]
        children += [_node(n, m, depth - 1) for n, m in below]
    kind = type(module).__name__
    if type(module).__module__.startswith("peft."):
        kind = f"LoRA {kind}"
    return Node(name, kind, 1, _size(module.parameters()), _trained(module), tuple(_merge(children)))


def _merge(nodes: Iterable[Node]) -> list[Node]:
    """Merge consecutive numbered siblings that differ by their number alone."""
    merged: list[Node] = []
    for node in nodes:
        last = merged[-1] if merged else None
        if last and node.name.isdecimal() and replace(last, name=node.name, count=1) == node:
            first = last.name.partition("–")[0]
            merged[-1] = replace(last, name=f"{first}–{node.name}", count=last.count + 1)
        else:
            merged.append(node)
    return merged


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _trained(module: nn.Module) -> int:
    return _size(parameter for parameter in module.parameters() if parameter.requires_grad)
