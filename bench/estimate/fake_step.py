"""FLOPs and memory of a training step, counted by running it on fake tensors, which have a shape but no values.

The model is built on the meta device, so ViT-H takes no more memory than SAM nano, and every frozen encoder gets
exactly the backward pass that it needs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.estimate.resources import StepCost
from registry import heads

if TYPE_CHECKING:
    from torch import Tensor

    from registry.contract import Head
    from registry.sam import Sam

POINTS_PER_BATCH = 64


def run_fake_step(
    *,
    backbone: str,
    strategy: str,
    options: Mapping[str, Any],
    image_size: int,
    head: str,
    trains: bool,
    gpu: bool = True,
) -> StepCost:
    """Count the FLOPs and the memory of a step; the global random state and the default device stay as they are.

    Args:
        backbone, strategy, options, image_size, head: as in `Run`.
        trains: whether the strategy trains anything.
        gpu: True counts as on a GPU: bfloat16 where autocast uses it, and attention that keeps its inputs, output and
            bias but never the matrix of probabilities. False counts as on this machine's CPU, in float32.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from bench.training import model

    chosen_head = heads.get(head)
    with torch.device("meta"):
        sam = model.prepare(
            backbone=backbone,
            strategy=strategy,
            options=options,
            image_size=image_size,
            checkpoint=None,
            tokens=chosen_head.channels,
            seed=0,
        )
    attention = _memory_efficient_attention() if gpu else nullcontext()
    precision = torch.autocast("cpu", torch.bfloat16, enabled=gpu)
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        _replace_meta_tensors(sam)
        model.set_training_mode(sam) if trains else sam.eval()
        flops = FlopCounterMode(display=False, custom_mapping=_convolution_backward())
        weights = [*sam.parameters(), *sam.buffers()]
        image = torch.empty(1, 3, image_size, image_size)  # the input batch is no activation, so it is not tracked
        with flops, _tracked_storages(weights) as live, attention, precision, torch.set_grad_enabled(trains):
            infer_flops = _step(sam, image, chosen_head, flops, trains=trains)
    return StepCost(
        parameters=sum(p.numel() for p in sam.parameters()),
        trainable=sum(p.numel() for p in sam.parameters() if p.requires_grad),
        train_flops=flops.get_total_flops() if trains else 0,
        infer_flops=infer_flops,
        fixed_bytes=live.copies_peak,
        image_bytes=live.activations_peak,
    )


def _step(sam: Sam, image: Tensor, head: Head, flops: Any, *, trains: bool) -> int:
    """Run the forward pass of one image, and the backward pass if it trains; return the FLOPs of a prediction."""
    if not head.dense:
        return _prompted_flops(sam, image, flops)
    logits, _ = sam.decode(sam.encode(image))
    forward: int = flops.get_total_flops()
    if trains:
        _loss(head, logits, sam.card.target_side(sam.image_size)).backward()
    return forward


def _replace_meta_tensors(sam: Sam) -> None:
    """Replace meta tensors by fake CPU ones, in place, because autocast does not support the meta device."""
    import torch

    for module in sam.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                replacement = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module._parameters[name] = replacement
                if replacement.requires_grad:  # gradients are a term of `StepCost.peak_bytes`, not of one image
                    replacement.register_post_accumulate_grad_hook(_drop_gradient)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _loss(head: Head, logits: Tensor, side: int) -> Tensor:
    """Return the head's loss at the resolution of the targets, as training computes it."""
    import torch
    import torch.nn.functional as F

    scaled = F.interpolate(logits[:, list(head.channels)].float(), (side, side), mode="bilinear", align_corners=False)
    return head.loss(scaled, torch.empty(1, len(head.channels), side, side))


def _prompted_flops(sam: Sam, image: Tensor, flops: Any) -> int:
    """Return the FLOPs of encoding one image once and decoding a grid of points, as `bench.training.predictions` does.

    Boxes stand for the points: they give as many prompt tokens, and no operation that depends on values.
    """
    import torch

    points = sam.card.points_per_side(sam.image_size) ** 2
    rows = min(points, POINTS_PER_BATCH)
    embedding = sam.encode(image)
    encoder: int = flops.get_total_flops()
    sam.decode(embedding, boxes=torch.empty(rows, 4))
    decoder = flops.get_total_flops() - encoder
    return encoder + decoder * points // rows


@contextmanager
def _memory_efficient_attention() -> Iterator[None]:
    """Replace attention by CUDA's memory-efficient kernel, which takes a bias that requires a gradient.

    Every call is replaced, whatever arguments a library passes: the kernel of the CPU has no formula for its FLOPs in
    some versions of PyTorch, which would count attention as free.
    """
    import torch
    import torch.nn.functional as F
    from torch.overrides import TorchFunctionMode

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:  # the kernel takes as many heads of keys and values as of queries
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
        if attn_mask is not None:
            attn_mask = attn_mask.to(torch.bfloat16).expand(*query.shape[:-1], key.shape[-2])
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        output: Tensor = kernel(
            query, key, value, attn_mask, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
        )[0]
        return output

    class ReplaceAttention(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            replaced = attention if func is F.scaled_dot_product_attention else func
            return replaced(*args, **(kwargs or {}))

    with ReplaceAttention():
        yield


def _convolution_backward() -> dict[Any, Callable[..., int]]:
    """Return a formula by which each gradient of a convolution costs as much as the convolution.

    PyTorch's own formula ignores groups: eleven times too much for the depthwise convolutions of TinyViT.
    """
    import torch
    from torch.utils.flop_counter import conv_flop_count

    def flops(grad: Sequence[int], x: Sequence[int], w: Sequence[int], *rest: Any, out_shape: Any = None) -> int:
        transposed, output_mask = rest[4], rest[7]
        return int(conv_flop_count(list(x), list(w), list(grad), transposed)) * sum(output_mask[:2])

    return {torch.ops.aten.convolution_backward: flops}


@dataclass
class _LiveBytes:
    """Bytes of the storages that exist, and the largest sums so far.

    Attributes:
        activations: everything but the model's weights and copies of them.
        copies: copies of weights in another precision.
    """

    activations: int = 0
    copies: int = 0
    activations_peak: int = 0
    copies_peak: int = 0

    def add(self, storage: Any, is_copy: bool) -> None:
        size = storage.nbytes()
        if is_copy:
            self.copies += size
            self.copies_peak = max(self.copies, self.copies_peak)
        else:
            self.activations += size
            self.activations_peak = max(self.activations, self.activations_peak)
        weakref.finalize(storage, self._subtract, size, is_copy)

    def _subtract(self, size: int, is_copy: bool) -> None:
        if is_copy:
            self.copies -= size
        else:
            self.activations -= size


@contextmanager
def _tracked_storages(weights: Sequence[Tensor]) -> Iterator[_LiveBytes]:
    """Count every storage that is created inside the block; those of the model's `weights` exist already."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    weight_storages: set[Any] = {_storage_key(tensor) for tensor in weights}
    alive: set[Any] = set(weight_storages)
    live = _LiveBytes()

    class TrackStorages(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            is_copy = func is torch.ops.aten._to_copy.default and _storage_key(args[0]) in weight_storages
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and (key := _storage_key(tensor)) not in alive:
                    alive.add(key)
                    storage = tensor.untyped_storage()
                    weakref.finalize(storage, alive.discard, key)
                    live.add(storage, is_copy)
            return out

    with TrackStorages():
        yield live


def _storage_key(tensor: Tensor) -> Any:
    return tensor.untyped_storage()._cdata
