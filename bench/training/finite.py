"""Check that a model computes finite numbers: before the audit, in which NaN fails comparisons without a reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bench.errors import AuditError
from registry.modules.finite import describe, first_not_finite
from registry.sam import Sam


def check_finite(
    sam: Sam, images: Float[Tensor, "b 3 h w"], *, autocast: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Check the weights of a model, and its outputs for real images.

    Args:
        sam: a model in eval mode, so that nothing in it is random or updated; unchanged.
        images: real images, on any device.
        autocast: gives the context that forward passes run in.

    Raises:
        AuditError: tensors that hold NaN or infinity, or the first module that returns them.
    """
    name = sam.card.name
    if text := describe(sam.state_dict()):
        raise AuditError(
            f"the weights of {name} hold {text}. A checkpoint with such values is refused when it is loaded, so the "
            "strategy has set them: check how it initialises what it adds or changes."
        )
    images = images.to(sam.pixel_mean.device)
    with torch.no_grad(), autocast():
        outputs = sam(images)
        if all(bool(torch.isfinite(output).all()) for output in outputs):
            return
        where = first_not_finite(sam, images) or "no module of it alone"
    raise AuditError(
        f"the outputs of {name} for a real image are not finite, though all its weights are. It overflows first in "
        f"{where}. Compare the checkpoint with the official file (`bench weights check`), or check the layers that the "
        "strategy adds."
    )
