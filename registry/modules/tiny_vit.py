"""TinyViT (Wu et al. 2022, arXiv:2207.10666) as in MobileSAM, TinySAM and LiteMedSAM, made of timm's blocks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import ConvNorm, TinyVit
from torch import Tensor, nn


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

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/s w/s"]:
        embeddings: Tensor = self.neck(self.stages(self.patch_embed(images)))
        return embeddings


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
        b, n, _ = tokens.shape
        qkv = self.qkv(self.norm(tokens)).reshape(b, n, self.heads, -1).transpose(1, 2)
        query, key, value = qkv.chunk(3, dim=-1)
        bias = self.attention_biases[:, self.attention_bias_idxs].to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, n, -1))
        return out
