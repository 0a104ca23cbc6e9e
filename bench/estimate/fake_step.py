"""FLOPs and memory of a training step, counted by running it on fake tensors, which have a shape but no values.

The model is built on the meta device, so ViT-H takes no more memory than SAM nano, and every frozen encoder gets
exactly the backward pass that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.estimate.live_bytes import LiveBytes, tracked_storages
from bench.estimate.resources import StepCost
from registry import heads

if TYPE_CHECKING:
    from torch import Tensor

    from registry.contract import Head
    from registry.features import Features
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
    recomputed: bool = False,
) -> StepCost:
    """Count the FLOPs and the memory of a step; the global random state and the default device stay as they are.

    Args:
        backbone, strategy, options, image_size, head: as in `Run`.
        trains: whether the strategy trains anything.
        gpu: True counts as on a GPU: bfloat16 where autocast uses it, and attention that keeps its inputs, output and
            bias but never the matrix of probabilities. False counts as on this machine's CPU, in float32.
        recomputed: activations of the encoder's blocks are computed again in the backward pass (``train.memory``).
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

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
            head=head,
        )
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        _replace_meta_tensors(sam)
        model.set_training_mode(sam) if trains else sam.eval()
        plain = _counted(sam, chosen_head, trains=trains, gpu=gpu, recomputed=recomputed)
        cached = plain
        if trains and not any(p.requires_grad for p in sam.image_encoder.parameters()):
            cached = _counted(sam, chosen_head, trains=trains, gpu=gpu, encodes=False)
    return StepCost(
        parameters=sum(p.numel() for p in sam.parameters()),
        trainable=sum(p.numel() for p in sam.parameters() if p.requires_grad),
        train_flops=plain.flops if trains else 0,
        infer_flops=plain.infer_flops,
        fixed_bytes=plain.live.copies_peak,
        image_bytes=plain.live.activations_peak,
        # What a cached embedding saves; a branch of the decoder goes on reading the encoder's first layers.
        encoder_flops=plain.encoder_flops - (0 if cached is plain else cached.encoder_flops),
        decoder_bytes=cached.live.activations_peak,
        frozen_weights=_frozen_weights(sam),
    )


@dataclass(frozen=True)
class _Count:
    """FLOPs of a step, of its prediction and of the encoder in it, and the memory that it takes."""

    flops: int
    infer_flops: int
    encoder_flops: int
    live: LiveBytes


def _counted(
    sam: Sam, head: Head, *, trains: bool, gpu: bool, recomputed: bool = False, encodes: bool = True
) -> _Count:
    """Run a step of one image on fake tensors.

    Args:
        sam: with fake tensors.
        head: its head.
        trains: False runs no backward pass.
        gpu: as in `run_fake_step`.
        recomputed: activations of the encoder's blocks are computed again in the backward pass.
        encodes: False gives the decoder an embedding that exists already.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from registry import block_forward

    attention: Callable[[], AbstractContextManager[None]] = _memory_efficient_attention if gpu else nullcontext
    blocks: AbstractContextManager[None] = nullcontext()
    if recomputed:
        # PyTorch turns modes of functions off within `Tensor.backward`, where blocks are computed again.
        inside = {name: _within(attention, forward) for name, forward in block_forward.forwards(sam).items()}
        blocks = block_forward.checkpointed(sam, inside)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=gpu)
    flops = FlopCounterMode(display=False, custom_mapping=_convolution_backward())
    # The input batch is no activation, so it is not tracked.
    side, stride = sam.image_size, sam.card.stride
    image, given = torch.empty(1, 3, side, side), None if encodes else torch.empty(1, 256, *2 * (side // stride,))
    weights = [*sam.parameters(), *sam.buffers()]
    with flops, tracked_storages(weights) as live, attention(), precision, torch.set_grad_enabled(trains), blocks:
        embedding = sam.decoder_input(image, embeddings=given)
        encoder_flops = flops.get_total_flops()
        if not head.dense:
            infer_flops = encoder_flops + _prompted_flops(sam, embedding, flops)
        else:
            logits, _ = sam.decode(embedding)
            infer_flops = flops.get_total_flops()
            del embedding
            if trains:
                _loss(head, logits, sam.card.target_side(side)).backward()
    return _Count(flops.get_total_flops(), infer_flops, encoder_flops, live)


def _within(context: Callable[[], AbstractContextManager[None]], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return call


def _frozen_weights(sam: Sam) -> int:
    from torch import nn

    layers = (module for module in sam.image_encoder.modules() if type(module) is nn.Linear)
    return sum(layer.weight.numel() for layer in layers if not layer.weight.requires_grad)


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


def _prompted_flops(sam: Sam, embedding: Tensor | Features, flops: Any) -> int:
    """Return the FLOPs of decoding a grid of points, as `bench.training.predictions` does.

    Boxes stand for the points: they give as many prompt tokens, and no operation that depends on values.
    """
    import torch

    points = sam.card.points_per_side(sam.image_size) ** 2
    rows = min(points, POINTS_PER_BATCH)
    before: int = flops.get_total_flops()
    sam.decode(embedding, boxes=torch.empty(rows, 4))
    decoder = flops.get_total_flops() - before
    return decoder * points // rows


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
