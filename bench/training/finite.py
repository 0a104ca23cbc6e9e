"""Check that a model computes finite numbers: before the audit, in which NaN fails comparisons without a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bench.errors import AuditError
from registry.sam import Sam


def check_finite(
    sam: Sam, images: Float[Tensor, "b 3 h w"], *, autocast: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Check the weights of a model, and its outputs for real images.

    Args:
        sam: a model in eval mode, so that nothing in it is random or updated.
        images: real images, on any device.
        autocast: gives the context that forward passes run in.

    Raises:
        AuditError: the first tensor that holds NaN or infinity, or the first module that returns them.
    """
    for name, tensor in sam.state_dict().items():
        if wrong := _not_finite(tensor):
            raise AuditError(
                f"the weights of {sam.card.name} are not finite: {wrong} of the {tensor.numel()} values of {name} are "
                "NaN or infinite. Fetch the official checkpoint with "
                f"`bench weights fetch {sam.card.name}`; if it is sound, the strategy sets wrong values."
            )
    images = images.to(sam.pixel_mean.device)
    with torch.no_grad(), autocast():
        if not any(_not_finite(output) for output in sam.decode(sam.encode(images))):
            return
        with _first_not_finite(sam) as first:
            sam.decode(sam.encode(images))
    name, kind = next(iter(first.items()), ("", type(sam).__name__))
    raise AuditError(
        f"the outputs of {sam.card.name} are not finite for a real image, though all its weights are: the first module "
        f"that returns NaN or infinity is {name or 'the model itself'} ({kind}). Its weights are too large, or it is "
        "written for inputs of another range; compare the checkpoint with the official one: `bench weights check`."
    )


def _not_finite(tensor: Any) -> int:
    """Number of values that are NaN or infinite."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return 0
    return tensor.numel() - int(torch.isfinite(tensor).sum())


@contextmanager
def _first_not_finite(sam: nn.Module) -> Iterator[Mapping[str, str]]:
    """Yield a mapping that gets name and class of the first module that returns values that are not finite."""
    first: dict[str, str] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, _: Any, output: Any) -> None:
            if not first and any(_not_finite(leaf) for leaf in tree_leaves(output)):
                first[name] = type(module).__name__

        return note

    # Modules end before those that contain them: the first is the innermost.
    handles = [module.register_forward_hook(hook(name)) for name, module in sam.named_modules()]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()
