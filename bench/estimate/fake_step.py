"""A training step rehearsed on fake tensors, which have shapes and no values: its FLOPs and its memory.

The model is built on the meta device. So ViT-H takes no more memory than SAM nano, and every frozen encoder gets
exactly the backward pass that it needs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.estimate.flops import StepCost
from registry import heads

if TYPE_CHECKING:
    from torch import Tensor

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
    """Count one pair; the global random state and the default device are as before afterwards.

    Args:
        backbone, strategy, options, image_size, head: as in `Run`.
        trains: whether the strategy trains anything.
        gpu: as a GPU would do it: bfloat16 where autocast takes it, and attention that keeps its inputs, output and
            bias but never the matrix of probabilities. Otherwise as this machine's CPU does it, in float32.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from bench.training import model

    reader = heads.get(head)
    with torch.device("meta"):
        sam = model.prepare(
            backbone=backbone,
            strategy=strategy,
            options=options,
            image_size=image_size,
            checkpoint=None,
            tokens=reader.channels,
            seed=0,
        )
    fused = _fused_attention() if gpu else nullcontext()
    precision = torch.autocast("cpu", torch.bfloat16, enabled=gpu)
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        _fake(sam)
        model.set_training_mode(sam) if trains else sam.eval()
        image = torch.empty(1, 3, image_size, image_size)
        own = [*sam.parameters(), *sam.buffers()]
        flops = FlopCounterMode(display=False, custom_mapping=_convolution_backward())
        with flops, _live(own) as live, fused, precision, torch.set_grad_enabled(trains):
            if reader.dense:
                logits, _ = sam.decode(sam.encode(image))
                forward = flops.get_total_flops()
            else:
                forward = _prompted_flops(sam, image, flops)
            if trains:
                _loss(reader, logits, image_size).backward()
    return StepCost(
        parameters=sum(p.numel() for p in sam.parameters()),
        trainable=sum(p.numel() for p in sam.parameters() if p.requires_grad),
        train_flops=flops.get_total_flops() if trains else 0,
        infer_flops=forward,
        fixed_bytes=live.fixed_peak,
        image_bytes=live.image_peak,
    )


def _fake(sam: Sam) -> None:
    """Put fake CPU tensors in the place of meta ones (autocast does not know the meta device), in place."""
    import torch

    for module in sam.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                blank = torch.empty(parameter.shape, dtype=parameter.dtype)
                fresh = torch.nn.Parameter(blank, requires_grad=parameter.requires_grad)
                module._parameters[name] = fresh
                if fresh.requires_grad:  # gradients are a term of their own, not part of what an image keeps
                    fresh.register_post_accumulate_grad_hook(_forget_gradient)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _forget_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _loss(head: Any, logits: Tensor, image_size: int) -> Tensor:
    """The head's loss at half the input's resolution, as `bench.run` takes it."""
    import torch
    import torch.nn.functional as F

    side = image_size // 2
    read = F.interpolate(logits[:, list(head.channels)].float(), (side, side), mode="bilinear", align_corners=False)
    loss: Tensor = head.loss(read, torch.empty(1, len(head.channels), side, side))
    return loss


def _prompted_flops(sam: Sam, image: Tensor, flops: Any) -> int:
    """One image encoded once and a grid of points decoded, as `bench.training.evaluate` has it done.

    Boxes stand for the points: as many prompt tokens, and no step that depends on values.
    """
    import torch

    points = max(1, min(32, sam.image_size // 32)) ** 2
    rows = min(points, POINTS_PER_BATCH)
    embedding = sam.encode(image)
    encoder: int = flops.get_total_flops()
    sam.decode(embedding, boxes=torch.empty(rows, 4))
    decoder = flops.get_total_flops() - encoder
    return encoder + decoder * points // rows


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention as CUDA's memory-efficient kernel does it, which takes a bias that asks for a gradient."""
    import torch
    import torch.nn.functional as F
    from torch.overrides import TorchFunctionMode

    class Fused(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not F.scaled_dot_product_attention or kwargs.keys() - {"attn_mask"} or len(args) > 4:
                return func(*args, **kwargs)
            query, key, value = (t.to(torch.bfloat16) for t in args[:3])
            bias = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            if bias is not None:
                bias = bias.to(torch.bfloat16).expand(*query.shape[:-1], key.shape[-2])
            kernel = torch.ops.aten._scaled_dot_product_efficient_attention
            return kernel(query, key, value, bias, torch.is_grad_enabled())[0]

    with Fused():
        yield


def _convolution_backward() -> dict[Any, Callable[..., int]]:
    """Each gradient of a convolution costs what the convolution does.

    PyTorch's own formula forgets the groups: eleven times too much for the depthwise convolutions of TinyViT.
    """
    import torch
    from torch.utils.flop_counter import conv_flop_count

    def flops(grad: Sequence[int], x: Sequence[int], w: Sequence[int], *rest: Any, out_shape: Any = None) -> int:
        transposed, wanted = rest[4], rest[7]
        return int(conv_flop_count(list(x), list(w), list(grad), transposed)) * sum(wanted[:2])

    return {torch.ops.aten.convolution_backward: flops}


@dataclass
class _Live:
    """Bytes of the storages that are alive, and the most there were."""

    image: int = 0
    fixed: int = 0
    image_peak: int = 0
    fixed_peak: int = 0

    def add(self, storage: Any, is_weight: bool) -> None:
        size = storage.nbytes()
        if is_weight:
            self.fixed += size
            self.fixed_peak = max(self.fixed, self.fixed_peak)
        else:
            self.image += size
            self.image_peak = max(self.image, self.image_peak)
        weakref.finalize(storage, self._drop, size, is_weight)

    def _drop(self, size: int, is_weight: bool) -> None:
        if is_weight:
            self.fixed -= size
        else:
            self.image -= size


@contextmanager
def _live(own: Sequence[Tensor]) -> Iterator[_Live]:
    """Follow every storage that is made inside the block; `own` are the model's, which are no activations."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    model_storages: set[Any] = {tensor.untyped_storage()._cdata for tensor in own}
    alive: set[Any] = set(model_storages)
    live = _Live()

    class Follow(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            casts = func is torch.ops.aten._to_copy.default and _key(args[0]) in model_storages
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and (key := _key(tensor)) not in alive:
                    alive.add(key)
                    storage = tensor.untyped_storage()
                    weakref.finalize(storage, alive.discard, key)
                    live.add(storage, casts)
            return out

    with Follow():
        yield live


def _key(tensor: Tensor) -> Any:
    return tensor.untyped_storage()._cdata
