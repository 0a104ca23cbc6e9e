"""LoRA on named linear layers, through the peft library.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from registry.errors import StrategyError

if TYPE_CHECKING:
    from registry.sam import Sam


def check_rank(rank: int, layers: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a rank that these layers can't have.

    Args:
        rank: width of A's output.
        layers: (inputs, outputs) of the layers by name.

    Raises:
        StrategyError: a rank below 1, or above the smaller side of a layer.
    """
    name, width = min(((name, min(sides)) for name, sides in layers.items()), key=lambda item: item[1])
    if not 1 <= rank <= width:
        raise StrategyError(
            f"rank {rank} is not possible: the narrowest layer, {name!r}, has width {width}; choose 1 to {width}."
        )


def inject(sam: Sam, names: list[str], rank: int) -> None:
    """Add LoRA to the named layers, in place; of all parameters only A and B keep ``requires_grad``.

    B starts at zero, so the model's output is unchanged. ``alpha = rank``: no α/r scaling, as in SAMed.

    Args:
        sam: the model.
        names: full names of `nn.Linear` layers, from its root.
        rank: width of A's output.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=names)
    inject_adapter_in_model(config, sam)


def sides(layers: Mapping[str, nn.Linear]) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of each layer."""
    return {name: (layer.in_features, layer.out_features) for name, layer in layers.items()}
