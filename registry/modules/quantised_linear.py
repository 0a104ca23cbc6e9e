"""Frozen linear layer whose weights are kept in 8 or 4 bits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BLOCK = 64
"""Weights that share a scale in four bits, as in QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 4)."""


class QuantisedLinear(nn.Module):
    """A linear layer that keeps its weights in 8 or 4 bits, and computes with them in the precision of its input.

    Only weights are quantised, by the library bitsandbytes; activations and gradients are not. The weights are buffers
    without a gradient, so that moving, copying and comparing a model need not know of them.

    Args:
        layer: the layer; it is left as it is.
        kind: ``int8``: a scale per row; ``nf4``: 4-bit normal floats with a scale per 64 weights.
    """

    packed: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, kind: str) -> None:
        import bitsandbytes.functional as bits

        super().__init__()
        self.kind, self.in_features, self.out_features = kind, layer.in_features, layer.out_features
        weight = layer.weight.detach().contiguous()
        if kind == "int8":
            packed, largest, _ = bits.int8_vectorwise_quant(weight)
            scale = largest[:, None] / 127
        else:
            packed, state = bits.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
            scale = state.absmax
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... e"]:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        out: Tensor = _Linear.apply(x, self)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def weight_in(self, dtype: torch.dtype) -> Float[Tensor, "e d"]:
        """Return the weights as they are computed with."""
        if self.kind == "int8":
            return self.packed.to(dtype) * self.scale.to(dtype)
        import bitsandbytes.functional as bits

        state = bits.QuantState(
            absmax=self.scale,
            shape=torch.Size((self.out_features, self.in_features)),
            code=bits.get_4bit_type("nf4", device=self.packed.device),
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=dtype,
        )
        weight: Tensor = bits.dequantize_4bit(self.packed, state)
        return weight

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


class _Linear(torch.autograd.Function):
    """``x @ weight.T``; the backward pass unpacks the weights again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight_in(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight_in(gradient.dtype), None
