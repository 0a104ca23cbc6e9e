"""Other forms of the forward pass of an encoder's blocks, for as long as a context lasts.

The tree of modules, its names and its parameters stay as they are, so that saving, copying and validating a model know
nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from registry import blocks

if TYPE_CHECKING:
    from registry.sam import Sam

Forward = Callable[..., Any]


def forwards(sam: Sam) -> dict[str, Forward]:
    """Return the forward pass of each block, by the block's full name.

    Raises:
        StrategyError: the card's pattern matches no module.
    """
    return {name: sam.get_submodule(name).forward for name in blocks.names(sam)}


@contextmanager
def replaced(sam: Sam, other: Mapping[str, Forward]) -> Iterator[None]:
    """Let blocks compute their forward pass by other functions; hooks on a block still run.

    Args:
        sam: the model.
        other: functions by full names of blocks. A block that has another forward pass already keeps it.
    """
    modules: dict[Any, Forward] = {sam.get_submodule(name): function for name, function in other.items()}
    free = {module: function for module, function in modules.items() if "forward" not in vars(module)}
    for module, function in free.items():
        module.forward = function
    try:
        yield
    finally:
        for module in free:
            del module.forward


def checkpointed(sam: Sam, other: Mapping[str, Forward] | None = None) -> AbstractContextManager[None]:
    """Return a context in which forward passes keep only what enters each block (gradient checkpointing).

    The backward pass computes a block again before it needs its activations, with the same random numbers and
    precision: loss and gradients are the same bit for bit, where the operations themselves are repeatable.
    Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174); `torch.utils.checkpoint`.

    Args:
        sam: the model. Its blocks are those that the card's `Targets` name.
        other: forward passes of blocks, by full names, in place of their own.

    Raises:
        StrategyError: the card's pattern matches no module.
    """
    functions = forwards(sam) | dict(other or {})
    return replaced(sam, {name: partial(_recomputed, function) for name, function in functions.items()})


def _recomputed(function: Forward, *args: Any, **kwargs: Any) -> Any:
    import torch
    from torch.utils.checkpoint import checkpoint

    if not torch.is_grad_enabled():  # nothing would be kept
        return function(*args, **kwargs)
    return checkpoint(function, *args, use_reentrant=False, **kwargs)
