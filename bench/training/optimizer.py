"""AdamW over the trainable parameters, its saved state, and its learning rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


FORM = ("fused", "foreach", "capturable", "differentiable")
"""Entries of a group of parameters that say how PyTorch computes an update, and nothing about what it is."""


def make_optimizer(model: nn.Module, *, lr: float, weight_decay: float, fused: bool = False) -> torch.optim.Optimizer:
    """Return AdamW over the parameters with ``requires_grad``.

    Only weights of linear and convolutional layers (LoRA's too) are decayed: not biases, norms, position tables or
    embeddings, which decay would pull away from their pre-trained values.

    Args:
        model: on the device of its training.
        lr: learning rate.
        weight_decay: of the weights named above.
        fused: update all parameters in one kernel, where PyTorch has it for their device and type. It equals the plain
            form but for rounding.
    """
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    layers = (m for m in model.modules() if isinstance(m, nn.Linear | _ConvNd))
    matrices = {id(layer.weight) for layer in layers}
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]
    chosen = [g for g in groups if g["params"]]
    if fused:
        try:
            return torch.optim.AdamW([dict(g) for g in chosen], lr=lr, betas=(0.9, 0.999), fused=True)
        except RuntimeError as error:  # its refusal of a device or a type
            logger.debug("AdamW is not fused: %s", error)
    return torch.optim.AdamW(chosen, lr=lr, betas=(0.9, 0.999))


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if the optimiser updates all parameters in one kernel."""
    return all(bool(group.get("fused")) for group in optimizer.param_groups)


def load_state(optimizer: torch.optim.Optimizer, content: Mapping[str, Any]) -> None:
    """Load a saved state into an optimiser that keeps its own form, fused or plain, whichever saved the state.

    PyTorch alone would go on in the form of the saved state.
    """
    groups = [
        {**saved, **{name: own[name] for name in FORM if name in own}}
        for saved, own in zip(content["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**content, "param_groups": groups})


def learning_rate(step: int, *, peak: float, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Learning rate of a step: linear warm-up, then cosine or polynomial (power 0.9, as in SAMed) decay to zero.

    The warm-up takes at most a fifth of all steps, so that short trainings reach their peak too.
    """
    warmup = min(warmup_steps, total_steps // 5)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = 1 - (step - warmup) / max(1, total_steps - warmup)
    return peak * (left**0.9 if schedule == "polynomial" else 0.5 * (1 + math.cos(math.pi * (1 - left))))
