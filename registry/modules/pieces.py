"""Forward passes in pieces that fit the processor's cache.

On a CPU a layer over a large map is bound by memory, not by arithmetic: a block of TinyViT over 256 × 256 cells writes
and reads maps of 64 MB, each in memory that the system has to provide first. In pieces it took a third of the time.
On a GPU every piece would be a kernel of its own, so there everything is computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from registry.modules.bottleneck import Bottleneck, after, beside

BYTES_PER_THREAD = 4 * 2**20
"""Size of the largest map of a piece, for each thread: about a core's share of the last cache."""


def per_piece(tensor: Tensor, bytes_per_item: int, n: int) -> int:
    """Return how many of `n` items belong in a piece; all of them off the CPU."""
    if tensor.device.type != "cpu":
        return n
    return max(1, min(n, BYTES_PER_THREAD * torch.get_num_threads() // max(1, bytes_per_item)))


def over_rows(
    run: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b c h w"],
    *,
    stride: int = 1,
    bytes_per_row: int,
    then: Callable[[Tensor, Tensor], Tensor] = lambda y, _: y,
) -> Float[Tensor, "b d h/stride w/stride"]:
    """Return ``then(run(x), x)``, computed in bands of rows; equal to the whole bit for bit where the kernels are.

    Args:
        run: a chain of convolutions whose output rows depend on the input rows within one output row above and below.
        x: its input, in channels-last layout.
        stride: input rows per output row of `run`.
        bytes_per_row: of the largest map, per output row.
        then: treats each row by itself; it gets rows of the output of `run` and the rows of `x` at the same place.
    """
    b, _, h, _ = x.shape
    rows = h // stride
    step = per_piece(x, bytes_per_row, rows)
    if (b == 1 and step == rows) or x.device.type != "cpu" or h % stride:
        return then(run(x), x)
    out: Tensor | None = None
    for image in range(b):
        own = x[image : image + 1]
        for top, bottom in bands(rows, step):
            first, last = max(0, top - 1), min(rows, bottom + 1)
            band = run(own[:, :, first * stride : last * stride])[:, :, top - first : bottom - first]
            band = then(band, own[:, :, top * stride : bottom * stride])
            if out is None:
                shape = (b, band.shape[1], rows, band.shape[3])
                out = torch.empty(shape, dtype=band.dtype, memory_format=torch.channels_last)
            out[image, :, top:bottom] = band[0]
    assert out is not None
    return out


def bands(n: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of pieces of `step` items, of which the last may be smaller."""
    for top in range(0, n, step):
        yield top, min(n, top + step)


def over_items(run: Callable[[Tensor], Tensor], x: Float[Tensor, "n ..."], *, bytes_per_item: int) -> Tensor:
    """Return the output of a function that treats each item of the first axis by itself, computed in pieces of items.

    Args:
        run: the function; its output has as many items.
        x: its input.
        bytes_per_item: of its largest intermediate result.
    """
    n = x.shape[0]
    step = per_piece(x, bytes_per_item, n)
    if step >= n:
        return run(x)
    first = run(x[:step])
    out = first.new_empty((n, *first.shape[1:]))
    out[:step] = first
    for top, bottom in bands(n, step):
        if top:
            out[top:bottom] = run(x[top:bottom])
    return out


def mlp(hidden: str) -> Callable[[nn.Module], Callable[..., Tensor] | None]:
    """Return the inference form of an MLP on tokens: in pieces of tokens.

    Args:
        hidden: name of its first linear layer, whose output is its largest.
    """

    def form(module: nn.Module) -> Callable[..., Tensor] | None:
        if not treats_tokens_alone(module):
            return None
        plain, width = module.forward, out_features(module.get_submodule(hidden))

        def forward(self: Any, x: Float[Tensor, "... c"]) -> Float[Tensor, "... d"]:
            out = over_items(plain, x.reshape(-1, x.shape[-1]), bytes_per_item=width * x.element_size())
            return out.reshape(*x.shape[:-1], -1)

        return forward

    return form


def out_features(layer: nn.Module) -> int:
    """Return the width of the output of a linear layer, or of the widest one in what a plug-in put in its place."""
    return max((part.out_features for part in layer.modules() if isinstance(part, nn.Linear)), default=1)


def treats_tokens_alone(module: nn.Module) -> bool:
    """Return True if all that is in a module is known to treat each token by itself; a layer of a plug-in may not."""
    parts = [part for part in module.modules() if part is not module]
    return all(_treats_tokens_alone(part) and not is_changed(part) for part in parts)


def _treats_tokens_alone(part: nn.Module) -> bool:
    kinds = ("linear", "normalization", "activation", "dropout", "container")
    known = (*(f"torch.nn.modules.{kind}" for kind in kinds), "peft.", Bottleneck.__module__)
    one_axis = not isinstance(part, nn.LayerNorm | nn.RMSNorm) or len(part.normalized_shape) == 1
    return type(part).__module__.startswith(known) and not isinstance(part, _OVER_OTHER_AXES) and one_axis


_OVER_OTHER_AXES = (
    nn.MultiheadAttention,
    nn.Softmax,
    nn.Softmin,
    nn.LogSoftmax,
    nn.Softmax2d,
    nn.GLU,
    nn.GroupNorm,
    nn.LocalResponseNorm,
)
"""Layers that may read other tokens, whichever axis they are given."""


def is_changed(module: nn.Module) -> bool:
    """Return True if a module computes something else than its class: by a hook, or a forward function of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def has_known_hooks(module: nn.Module) -> bool:
    """Return True if a module is changed by adapters only, which treat each token by themselves, or not at all."""
    hooks = [hook.func if isinstance(hook, partial) else hook for hook in module._forward_hooks.values()]
    return (
        not module._forward_pre_hooks
        and "forward" not in vars(module)
        and all(hook in (after, beside) for hook in hooks)
    )
