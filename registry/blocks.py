"""Transformer blocks that a card's `Targets` name, and the modules and linear layers in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from registry.errors import StrategyError

if TYPE_CHECKING:
    from registry.sam import Sam


def names(sam: Sam) -> tuple[str, ...]:
    """Return the full names of all transformer blocks, in the order of the forward pass.

    Raises:
        StrategyError: the card's pattern matches no module.
    """
    pattern = sam.card.targets.blocks
    matching = tuple(name for name, _ in sam.named_modules() if re.fullmatch(pattern, name))
    if not matching:
        raise StrategyError(
            f"the blocks pattern {pattern!r} on the card of {sam.card.name!r} matches no module of it; "
            "correct Targets.blocks (full names from the model's root, as in named_modules())."
        )
    return matching


def last(sam: Sam, n: int) -> tuple[str, ...]:
    """Return the full names of the last `n` transformer blocks; 0 stands for all.

    Raises:
        StrategyError: fewer blocks than that, or a negative number.
    """
    every = names(sam)
    if not 0 <= n <= len(every):
        raise StrategyError(
            f"last_blocks {n} is not possible: {sam.card.name!r} has {len(every)} blocks; choose 1 to {len(every)}, "
            "or 0 for all."
        )
    return every[-n:] if n else every


def submodules(sam: Sam, path: str, last_blocks: int = 0) -> dict[str, nn.Module]:
    """Return the module at `path` below every block, or below the last ones (see `last`), by full name.

    Raises:
        StrategyError: a block has no such module, or there are fewer blocks.
    """
    modules: dict[str, nn.Module] = {}
    for block in last(sam, last_blocks):
        name = f"{block}.{path}"
        try:
            modules[name] = sam.get_submodule(name)
        except AttributeError as error:
            below = ", ".join(n for n, _ in sam.get_submodule(block).named_modules() if n)
            raise StrategyError(
                f"{name!r}, which the card of {sam.card.name!r} names, does not exist; below the block are: {below}."
            ) from error
    return modules


def linears(sam: Sam, path: str, last_blocks: int = 0) -> dict[str, nn.Linear]:
    """Return the linear layer at `path` below every block, or below the last ones (see `last`), by full name.

    Raises:
        StrategyError: a block has no such module, or it is no `nn.Linear`, or there are fewer blocks.
    """
    layers: dict[str, nn.Linear] = {}
    for name, module in submodules(sam, path, last_blocks).items():
        if not isinstance(module, nn.Linear):
            raise StrategyError(
                f"{name!r} of {sam.card.name!r} is a {type(module).__name__}; this strategy attaches to "
                "nn.Linear only. Correct the card's Targets, or choose another strategy."
            )
        layers[name] = module
    return layers
