"""TinyViT (Wu et al. 2022, arXiv:2207.10666) as in MobileSAM, TinySAM and LiteMedSAM, made of timm's blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import (
    ConvLayer,
    ConvNorm,
    MBConv,
    NormMlp,
    PatchEmbed,
    PatchMerging,
    TinyVit,
    TinyVitBlock,
    TinyVitStage,
)
from torch import Tensor, nn

from registry.features import Early
from registry.modules import pieces
from registry.modules.steps import Step

EARLY_STAGES = 2
"""Stages whose maps are finer than the embedding: the third already has its stride."""


def tiny_vit() -> TinyVitEncoder:
    """Build the 5M TinyViT with a grid of a sixteenth of the image's side (MobileSAM, arXiv:2306.14289)."""
    return TinyVitEncoder(_vendor(classes=1000), classifier=True)


def tiny_vit_of_pixels() -> TinyVitEncoder:
    """Build the 5M TinyViT that embeds single pixels, with a grid of a quarter of the image's side.

    From bowang-lab/MedSAM, branch LiteMedSAM: both convolutions of the patch embedding are 1 × 1 with stride 1.
    """
    vendor = _vendor(classes=0)
    vendor.patch_embed.conv1, vendor.patch_embed.conv2 = ConvNorm(3, 32), ConvNorm(32, 64)
    return TinyVitEncoder(vendor, classifier=False)


def _vendor(*, classes: int) -> TinyVit:
    return TinyVit(
        num_classes=classes,
        embed_dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 5, 10),
        window_sizes=(7, 7, 14, 7),
        drop_path_rate=0.0,
    )


class TinyVitEncoder(nn.Module):
    """timm's TinyViT without its last stride, followed by SAM's neck.

    Args:
        vendor: timm's model, whose submodules are reused.
        classifier: keep the classifier's norm and layer, which are inert, because the official checkpoint holds them.
    """

    def __init__(self, vendor: TinyVit, *, classifier: bool) -> None:
        super().__init__()
        self.patch_embed = vendor.patch_embed
        self.stages = vendor.stages
        width = vendor.num_features
        if classifier:
            self.norm_head = nn.LayerNorm(width)
            self.head = vendor.head.fc
        self.neck = nn.Sequential(
            nn.Conv2d(width, 256, kernel_size=1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        self.stages[3].downsample.conv2.conv.stride = (1, 1)
        for stage in self.stages[1:]:
            for block in stage.blocks:
                block.attn = WindowAttention(block.attn)

    def forward(self, images: Float[Tensor, "b 3 h w"], early: Early | None = None) -> Float[Tensor, "b 256 h/s w/s"]:
        """Return the embeddings; `early` receives the output of each of the first stages, by its stride."""
        x = self.patch_embed(images)
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if early is not None and number < EARLY_STAGES:
                early[images.shape[-1] // x.shape[-1]] = x
        embeddings: Tensor = self.neck(x)
        return embeddings

    def early(self, images: Float[Tensor, "b 3 h w"], last: int) -> Early:
        """Return the early feature maps up to that of the stride `last`, and compute nothing beyond it."""
        early, x = Early(), self.patch_embed(images)
        for stage in self.stages[:EARLY_STAGES]:
            if last in early:
                break
            x = stage(x)
            early[images.shape[-1] // x.shape[-1]] = x
        return early

    def steps(self) -> list[Step]:
        """Return the parts of the forward pass, see `registry.modules.steps`; none if a stage was replaced."""
        first: Any = self.stages[0]
        if type(first) is not ConvLayer or any(type(stage) is not TinyVitStage for stage in self.stages[1:]):
            return []
        steps = [Step(("patch_embed",), self.patch_embed)]
        count = len(first.blocks)
        steps += [Step((f"stages.0.blocks.{i}",), run, i == count - 1) for i, run in enumerate(first.blocks)]
        for index, stage in enumerate(self.stages[1:], start=1):
            steps.append(Step((f"stages.{index}.downsample",), _then(stage.downsample, (0, 2, 3, 1))))
            blocks = list(stage.blocks)
            runs = [*blocks[:-1], _then(blocks[-1], (0, 3, 1, 2))]
            early = len(runs) - 1 if index < EARLY_STAGES else None
            steps += [Step((f"stages.{index}.blocks.{i}",), run, i == early) for i, run in enumerate(runs)]
        return [*steps, Step(("neck",), self.neck)]

    def inference_forms(self) -> dict[type[nn.Module], Callable[[Any], Callable[..., Tensor] | None]]:
        """Return the faster forward functions of the modules, see `registry.inference_form`."""
        return {
            PatchEmbed: _embedding_in_bands,
            MBConv: _convolutions_in_bands,
            PatchMerging: _merging_in_bands,
            TinyVitBlock: _block_in_bands,
            WindowAttention: _with_gathered_biases,
        }


def _then(module: nn.Module, order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda x: module(x).permute(*order)


def _embedding_in_bands(module: PatchEmbed) -> Callable[..., Tensor] | None:
    convs = _convolutions(module)
    if not _is_as_built(module) or len(convs) != 2:
        return None
    (first, second), plain = convs, module.forward
    stride = first.stride[0] * second.stride[0]
    if first.kernel_size[0] // 2 + second.kernel_size[0] // 2 * first.stride[0] > stride:
        return None  # a band has the rows of one output row above and below only
    per_cell = max(first.out_channels * second.stride[0] / first.stride[0], second.out_channels / stride)

    def forward(self: Any, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h/s w/s"]:
        return pieces.over_rows(plain, x, stride=stride, bytes_per_row=_bytes(x, per_cell))

    return forward


def _merging_in_bands(module: PatchMerging) -> Callable[..., Tensor] | None:
    convs = _convolutions(module)
    stride = convs[1].stride[0] if len(convs) == 3 else 0
    if not _is_as_built(module) or _kernels_and_strides(convs) != [(1, 1), (3, stride), (1, 1)]:
        return None
    width = convs[0].out_channels

    def forward(self: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h/s w/s"]:
        return pieces.over_rows(
            lambda rows: self.conv2(self.act1(self.conv1(rows))),
            x,
            stride=stride,
            bytes_per_row=_bytes(x, width * stride),
            then=lambda y, _: self.conv3(self.act2(y)),
        )

    return forward


def _convolutions_in_bands(module: MBConv) -> Callable[..., Tensor] | None:
    convs = _convolutions(module)
    if not _is_as_built(module) or _kernels_and_strides(convs) != [(1, 1), (3, 1), (1, 1)]:
        return None
    width = convs[0].out_channels

    def forward(self: Any, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return pieces.over_rows(
            lambda rows: self.conv2(self.act1(self.conv1(rows))),
            x,
            bytes_per_row=_bytes(x, width),
            then=lambda y, own: self.act3(self.conv3(self.act2(y)) + own),
        )

    return forward


def _block_in_bands(block: TinyVitBlock) -> Callable[..., Tensor] | None:
    """Return the inference form of a block: attention in rows of windows, then convolution and MLP in bands."""
    parts = (block.attn, block.drop_path1, block.local_conv, block.mlp, block.drop_path2)
    kinds = (WindowAttention, nn.Identity, ConvNorm, NormMlp, nn.Identity)
    if tuple(map(type, parts)) != kinds or not all(map(pieces.has_known_hooks, parts)):
        return None
    if not _is_as_built(block.local_conv) or _kernels_and_strides(_convolutions(block.local_conv)) != [(3, 1)]:
        return None
    if not pieces.treats_tokens_alone(block.mlp):
        return None
    plain, side, hidden = block.forward, block.window_size, pieces.out_features(block.mlp.fc1)

    def forward(self: Any, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        if x.device.type != "cpu":
            return plain(x)
        b, h, w, c = x.shape
        step = side * pieces.per_piece(x, _bytes(x.permute(0, 3, 1, 2), 3 * c * side), -(-h // side))
        mixed = torch.empty_like(x)
        for image in range(b):
            for top, bottom in pieces.bands(h, step):
                rows = x[image, top:bottom]
                mixed[image, top:bottom] = rows + _attend_in_windows(self.attn, rows, side)
        return pieces.over_rows(
            self.local_conv,
            mixed.permute(0, 3, 1, 2),
            bytes_per_row=w * hidden * x.element_size(),
            then=lambda y, _: y + self.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        ).permute(0, 2, 3, 1)

    return forward


def _attend_in_windows(attention: nn.Module, rows: Float[Tensor, "h w c"], side: int) -> Float[Tensor, "h w c"]:
    h, w, c = rows.shape
    padded = F.pad(rows, (0, 0, 0, -w % side, 0, -h % side))
    down, right = padded.shape[0] // side, padded.shape[1] // side
    windows = padded.view(down, side, right, side, c).transpose(1, 2).reshape(-1, side * side, c)
    mixed = attention(windows).view(down, right, side, side, c).transpose(1, 2).reshape(padded.shape)
    return mixed[:h, :w]


def _bytes(x: Float[Tensor, "b c h w"], channels: float) -> int:
    """Return the bytes of a row of cells with so many channels."""
    return round(x.shape[3] * channels * x.element_size())


def _is_as_built(module: nn.Module) -> bool:
    """Return True for a chain of convolutions that no plug-in has changed, each padded by half its kernel."""
    known = (nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.GELU, ConvNorm)
    parts = [part for part in module.modules() if part is not module]
    padded = all(
        conv.padding == (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2) and conv.dilation == (1, 1)
        for conv in _convolutions(module)
    )
    return padded and all(type(part) in known and not pieces.is_changed(part) for part in parts)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _kernels_and_strides(convs: list[nn.Conv2d]) -> list[tuple[int, int]]:
    return [(conv.kernel_size[0], conv.stride[0]) for conv in convs]


def _with_gathered_biases(attention: WindowAttention) -> Callable[..., Tensor]:
    """Return the inference form of the attention: biases gathered once, in pieces of windows."""
    bias = attention.attention_biases[:, attention.attention_bias_idxs].unsqueeze(0)
    attention.register_buffer("gathered", bias, persistent=False)

    def forward(self: Any, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        per_window = 3 * tokens.shape[1] * tokens.shape[2] * tokens.element_size()
        return pieces.over_items(lambda windows: self.attend(windows, self.gathered), tokens, bytes_per_item=per_window)

    return forward


class WindowAttention(nn.Module):
    """TinyViT's attention in one window; q, k and v of a head lie side by side in the fused layer's output.

    timm's own module keeps the gathered biases in a cache that only `train()` empties: after weights are loaded, or in
    training with modules in eval mode (frozen BatchNorm), the cached biases would be outdated. Gathering is cheap.

    Args:
        vendor: timm's attention, whose parameters are reused under their own names.
    """

    attention_bias_idxs: Tensor

    def __init__(self, vendor: Any) -> None:
        super().__init__()
        self.heads: int = vendor.num_heads
        self.norm = vendor.norm
        self.qkv = vendor.qkv
        self.proj = vendor.proj
        self.attention_biases = vendor.attention_biases
        self.register_buffer("attention_bias_idxs", vendor.attention_bias_idxs, persistent=False)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        # With an axis for the windows, without which PyTorch's fused kernels do not take it.
        return self.attend(tokens, self.attention_biases[:, self.attention_bias_idxs].unsqueeze(0))

    def attend(self, tokens: Float[Tensor, "b n c"], bias: Float[Tensor, "1 heads n n"]) -> Float[Tensor, "b n c"]:
        """Return what `forward` does, with biases that are gathered already."""
        b, n, _ = tokens.shape
        qkv = self.qkv(self.norm(tokens)).reshape(b, n, self.heads, -1).transpose(1, 2)
        query, key, value = qkv.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, n, -1))
        return out
