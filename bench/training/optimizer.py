"""AdamW over the trainable parameters, and its learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


def make_optimizer(model: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over the parameters with ``requires_grad``.

    Only weights of linear and convolutional layers (LoRA's too) are decayed: not biases, norms, position tables or
    embeddings, which decay would pull away from their pre-trained values.
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
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.999))


def learning_rate(step: int, *, peak: float, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Learning rate of a step: linear warm-up, then cosine or polynomial (power 0.9, as in SAMed) decay to zero.

    The warm-up takes at most a fifth of all steps, so that short trainings reach their peak too.
    """
    warmup = min(warmup_steps, total_steps // 5)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = 1 - (step - warmup) / max(1, total_steps - warmup)
    return peak * (left**0.9 if schedule == "polynomial" else 0.5 * (1 + math.cos(math.pi * (1 - left))))
