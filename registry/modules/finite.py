"""NaN and infinite values: in a state dict, and in what the modules of a model compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from registry.sam import Sam

SHOWN_NAMES = 3


def not_finite(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of NaN and infinite values of each tensor that holds any.

    Costs one sum of each tensor where all values are finite.
    """
    counts = {name: _count(tensor) for name, tensor in state.items() if not _sum_is_finite(tensor)}
    return {name: count for name, count in counts.items() if count}


def describe(state: Mapping[str, Tensor]) -> str:
    """Return ``"NaN or infinite values: 3 of 256 in a.weight, …"`` for a state dict; empty if all values are finite."""
    counts = not_finite(state)
    if not counts:
        return ""
    shown = [f"{count:,} of {state[name].numel():,} in {name}" for name, count in list(counts.items())[:SHOWN_NAMES]]
    more = len(counts) - len(shown)
    return f"NaN or infinite values: {', '.join(shown)}" + (f", and in {more} more tensors" if more else "")


def first_not_finite(sam: Sam, images: Float[Tensor, "b 3 h w"]) -> str | None:
    """Return where a forward pass without prompts first meets NaN or infinite values, in words; None if it does not.

    Run it in the autocast context of the pass that failed: float16 overflows at 65,504. Gradients are not computed.

    Args:
        sam: the model; unchanged.
        images: as for `Sam.encode`.

    Returns:
        The full name and class of the first module, in the order of the computation, whose output is not finite, with
        its largest input and weight; or of a module that received such an input from operations between modules.
    """
    if not _sum_is_finite(images) and (count := _count(images)):
        return f"the images hold NaN or infinite values: {count:,} of {images.numel():,}"
    try:
        with torch.no_grad(), _stopping_at_first(sam):
            logits, _ = sam(images)
    except _NotFinite as error:
        return str(error)
    if bad := _count(logits):
        return (
            f"sam.decode: {bad:,} of {logits.numel():,} logits are NaN or infinite, though the outputs of all modules "
            "are finite; the product of mask embeddings and image embedding overflows"
        )
    return None


class _NotFinite(Exception):
    """Ends a forward pass."""


@contextmanager
def _stopping_at_first(sam: nn.Module) -> Iterator[None]:
    handles = []
    for name, module in sam.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(_checked_input(name), with_kwargs=True))
            handles.append(module.register_forward_hook(_checked_output(name), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _checked_input(name: str) -> Any:
    def check(module: nn.Module, args: Any, kwargs: Any) -> None:
        bad, total, _ = _summary((args, kwargs))
        if bad:
            parent = name.rpartition(".")[0] or "sam"
            raise _NotFinite(
                f"{name} ({type(module).__name__}): {bad:,} of {total:,} input values are NaN or infinite, though the "
                f"outputs of the modules before it are finite; they are computed between modules, in {parent}"
            )

    return check


def _checked_output(name: str) -> Any:
    def check(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        bad, total, _ = _summary(output)
        if bad:
            own = dict(module.named_parameters(recurse=False))
            weights = (
                describe(own) or f"its own weights reach {_summary(own)[2]:.3g}" if own else "no weights of its own"
            )
            raise _NotFinite(
                f"{name} ({type(module).__name__}): {bad:,} of {total:,} output values are NaN or infinite; its inputs "
                f"are finite and reach {_summary((args, kwargs))[2]:.3g}; {weights}"
            )

    return check


def _summary(values: Any) -> tuple[int, int, float]:
    """Numbers of values that are not finite and of all, and the largest magnitude, in nested tuples and dicts."""
    tensors = [tensor for tensor in _tensors(values) if tensor.is_floating_point() and tensor.numel()]
    bad = sum(0 if _sum_is_finite(tensor) else _count(tensor) for tensor in tensors)
    largest = max((float(tensor.detach().abs().max()) for tensor in tensors), default=0.0)
    return bad, sum(tensor.numel() for tensor in tensors), largest


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _sum_is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor's sum is finite, which it is not if any value is NaN or infinite; true for integers."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
        return True
    return bool(torch.isfinite(_plain(tensor).sum()))


def _count(tensor: Tensor) -> int:
    return int((~torch.isfinite(_plain(tensor))).sum())


def _plain(tensor: Tensor) -> Tensor:
    # Eight-bit floats know neither sums nor isfinite.
    return tensor.detach().float() if tensor.dtype.itemsize == 1 and tensor.is_floating_point() else tensor.detach()
