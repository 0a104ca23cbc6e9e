"""AdamW over the trainable parameters, its saved state, and its learning rates."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bench.settings import LARGEST_WEIGHT_DECAY

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


PEAK = "peak_lr"
"""Entry of a group of parameters: its learning rate at the peak of the schedule."""
FORM = ("fused", "foreach", "capturable", "differentiable", PEAK)
"""Entries of a group of parameters that are the optimiser's own and not the saved state's: how PyTorch computes an
update, and the peak, which states of version 0.1 do not hold."""


def make_optimizer(
    model: nn.Module, *, lr: float, encoder_lr: float | None = None, weight_decay: float, fused: bool = False
) -> torch.optim.Optimizer:
    """Return AdamW over the parameters with ``requires_grad``.

    Only weights of linear and convolutional layers (LoRA's too) are decayed: not biases, norms, position tables or
    embeddings, which decay would pull away from their pre-trained values. The decay is decoupled from the learning
    rate, as in Loshchilov & Hutter, Decoupled Weight Decay Regularization (arXiv 1711.05101), algorithm 2: PyTorch
    multiplies it by the rate of the group, which is therefore divided out.

    Args:
        model: on the device of its training.
        lr: peak learning rate of all parameters outside the module ``image_encoder``.
        encoder_lr: of those inside it; None takes `lr`, and one group for both.
        weight_decay: share of itself that a step at the peak of the schedule takes from each weight named above.
        fused: update all parameters in one kernel, where PyTorch has it for their device and type. It equals the plain
            form but for rounding.
    """
    import torch
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    layers = (m for m in model.modules() if isinstance(m, nn.Linear | _ConvNd))
    matrices = {id(layer.weight) for layer in layers}
    trainable = [p for p in model.parameters() if p.requires_grad]
    encoder = set() if encoder_lr is None else {id(p) for p in _image_encoder(model).parameters()}
    others = [p for p in trainable if id(p) not in encoder]
    parts = [(lr, others), (encoder_lr or lr, [p for p in trainable if id(p) in encoder])]
    groups = [
        {"params": [p for p in part if (id(p) in matrices) is decays], PEAK: rate, "lr": rate, "weight_decay": decay}
        for rate, part in parts
        for decays, decay in ((True, weight_decay / rate), (False, 0.0))
    ]
    chosen = [g for g in groups if g["params"]]
    if fused:
        try:
            return torch.optim.AdamW([dict(g) for g in chosen], lr=lr, betas=(0.9, 0.999), fused=True)
        except RuntimeError as error:  # its refusal of a device or a type
            logger.debug("AdamW is not fused: %s", error)
    return torch.optim.AdamW(chosen, lr=lr, betas=(0.9, 0.999))


def _image_encoder(model: nn.Module) -> nn.Module:
    return dict(model.named_children())["image_encoder"]


def set_rates(optimizer: torch.optim.Optimizer, rate: Callable[[float], float]) -> None:
    """Set the learning rates of a step.

    Args:
        optimizer: what `make_optimizer` returned.
        rate: of the step, from the peak rate of a group of parameters.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate(group[PEAK])


def share_of_decay(train: Mapping[str, Any]) -> float:
    """Return the share of itself that a step at the peak takes from a weight, from the settings of a run's training.

    A larger value than any that is allowed is AdamW's factor, of a run that was planned by version 0.1.
    """
    decay: float = train["weight_decay"]
    return decay * float(train["lr"]) if decay > LARGEST_WEIGHT_DECAY else decay


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
