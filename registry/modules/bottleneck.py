"""Bottleneck of the adapters, and the forward hooks that put it into a block under the block's own names.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019 (arXiv 1902.00751).
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """``d -> hidden -> d`` with GELU between; its output is zero at the start, since its last layer is.

    Args:
        width: d.
        hidden: width of the bottleneck.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return self.up(self.act(self.down(x)))


def after(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Forward hook: apply the module's `adapter` to its output, with a skip connection."""
    adapter: Any = module.adapter
    return output + adapter(output)


def beside(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, *, scale: float, norm: str) -> Tensor:
    """Forward hook: add the output of the module's `adapter`, which gets the module's input.

    Args:
        module: the MLP.
        inputs: positional arguments of its call.
        output: its result.
        scale: factor of the adapter's output.
        norm: name of the norm inside the module, so that both branches get the same normalised input; "" if the
            input is normalised already.
    """
    adapter: Any = module.adapter
    x = module.get_submodule(norm)(inputs[0]) if norm else inputs[0]
    return output + scale * adapter(x)
