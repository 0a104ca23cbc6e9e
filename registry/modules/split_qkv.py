"""Fused query-key-value layer split into three, so that LoRA can be applied to q and v only."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from registry.errors import StrategyError


class SplitQkv(nn.Module):
    """Three linear layers q, k and v whose joint output has the fused layer's layout.

    The attention reshapes the fused output, so its layout has to be kept.

    Args:
        fused: the layer to split, ``d -> 3·d``.
        layout: ``"contiguous"``: its rows are q | k | v; ``"per_head"``: q, k, v of head 0, of head 1, ….
        head_dim: width of q, k and v in one head.

    Raises:
        StrategyError: rows that don't divide into q, k and v of whole heads.
    """

    def __init__(self, fused: nn.Linear, layout: Literal["contiguous", "per_head"], head_dim: int) -> None:
        super().__init__()
        if fused.out_features % (3 * head_dim):
            raise StrategyError(
                f"a fused qkv layer with {fused.out_features} rows can't hold q, k and v with head_dim "
                f"{head_dim}; correct Targets.head_dim (3 · head_dim must divide {fused.out_features})."
            )
        # Rows as (groups, q|k|v, rows of a group): a single group if contiguous, otherwise one group per head.
        self.groups = 1 if layout == "contiguous" else fused.out_features // (3 * head_dim)
        self.q, self.k, self.v = (self._part(fused, index) for index in range(3))

    def _part(self, fused: nn.Linear, index: int) -> nn.Linear:
        def rows(tensor: Tensor) -> nn.Parameter:
            part = tensor.detach().unflatten(0, (self.groups, 3, -1))[:, index].flatten(0, 1)
            return nn.Parameter(part.clone(), requires_grad=tensor.requires_grad)

        part = nn.Linear(fused.in_features, fused.out_features // 3, bias=fused.bias is not None, device="meta")
        part.weight = rows(fused.weight)
        if fused.bias is not None:
            part.bias = rows(fused.bias)
        return part

    def fused_rows(self) -> dict[str, Int[Tensor, " rows"]]:
        """Return the rows of the fused layer that q, k and v compute, by their names (see `registry.export_layers`)."""
        rows = torch.arange(3 * self.q.out_features).unflatten(0, (self.groups, 3, -1))
        return {name: rows[:, index].flatten() for index, name in enumerate(("q", "k", "v"))}

    @property
    def is_plain(self) -> bool:
        """True where q, k and v are plain linear layers, without an adapter or a hook on one of them."""
        parts: list[nn.Module] = [self.q, self.k, self.v]
        return all(type(part) is nn.Linear and not (part._forward_hooks or part._forward_pre_hooks) for part in parts)

    def fused(self) -> nn.Linear:
        """Return the fused layer that computes the same, with copies of the weights; only where `is_plain`."""
        fused = nn.Linear(self.q.in_features, 3 * self.q.out_features, bias=self.q.bias is not None, device="meta")
        for name, own in list(fused.named_parameters()):
            joined = getattr(self.q, name).new_empty(own.shape)
            for part, rows in self.fused_rows().items():
                joined[rows.to(joined.device)] = getattr(getattr(self, part), name).detach()
            setattr(fused, name, nn.Parameter(joined, requires_grad=False))
        return fused

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... qkv"]:
        parts = [layer(x).unflatten(-1, (self.groups, -1)) for layer in (self.q, self.k, self.v)]
        return torch.stack(parts, dim=-2).flatten(-3)
