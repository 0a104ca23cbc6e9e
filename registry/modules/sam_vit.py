"""SAM's image encoder: a ViT with windowed attention, decomposed relative positions and a neck."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

WINDOW = 14


def sam_vit(*, width: int, depth: int, heads: int, global_blocks: tuple[int, ...], trained_size: int = 1024) -> SamVit:
    """Build SAM's ViT, whose `global_blocks` attend globally and whose other blocks in windows of 14 × 14 patches.

    Args:
        width: embedding dimension.
        depth: number of blocks.
        heads: attention heads per block.
        global_blocks: indices of the blocks without windows.
        trained_size: image side in pixels at which positions have one parameter per patch.
    """
    vendor = ImageEncoderViT(
        img_size=trained_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=global_blocks,
        out_chans=256,
    )
    return SamVit(vendor)


class SamVit(nn.Module):
    """segment_anything's `ImageEncoderViT` for any image size, with fused attention.

    Parameters keep the vendor's names and shapes at every image size: positions are resized in each forward pass.

    Args:
        vendor: the encoder whose submodules are reused.
    """

    def __init__(self, vendor: ImageEncoderViT) -> None:
        super().__init__()
        self.patch_embed = vendor.patch_embed
        self.pos_embed = vendor.pos_embed
        self.blocks = vendor.blocks
        self.neck = vendor.neck
        for block in self.blocks:
            block.attn = RelativeAttention(block.attn)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/16 w/16"]:
        tokens = self.patch_embed(images)
        tokens = tokens + resize_grid(self.pos_embed, tokens.shape[1], tokens.shape[2])
        for block in self.blocks:
            tokens = block(tokens)
        embeddings: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embeddings


class RelativeAttention(nn.Module):
    """Fused self-attention with decomposed relative positions (Li et al. 2022, arXiv:2112.01526).

    Args:
        vendor: segment_anything's attention, whose parameters are reused under their own names.
    """

    def __init__(self, vendor: Any) -> None:
        super().__init__()
        self.heads: int = vendor.num_heads
        self.qkv = vendor.qkv
        self.proj = vendor.proj
        self.rel_pos_h = vendor.rel_pos_h
        self.rel_pos_w = vendor.rel_pos_w

    def forward(self, tokens: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        b, h, w, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        grid = query.unflatten(2, (h, w))
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, relative_positions(self.rel_pos_h, h))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, relative_positions(self.rel_pos_w, w))
        bias = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).reshape(b, self.heads, h * w, h * w)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, h, w, -1))
        return out


def resize_grid(grid: Float[Tensor, "1 h0 w0 c"], h: int, w: int) -> Float[Tensor, "1 h w c"]:
    """Return absolute positions for another grid, bicubic without antialiasing as in ViTDet and EfficientSAM."""
    if grid.shape[1:3] == (h, w):
        return grid
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(h, w), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def relative_positions(table: Float[Tensor, "distances c"], side: int) -> Float[Tensor, "q k c"]:
    """Return the table's row for every pair of a query and a key on an axis of `side` patches.

    A table trained on another side is resized linearly, as segment_anything does.
    """
    distances = 2 * side - 1
    if table.shape[0] != distances:
        table = F.interpolate(table.t().unsqueeze(0), size=distances, mode="linear")[0].t()
    axis = torch.arange(side, device=table.device)
    return table[axis[:, None] - axis[None, :] + side - 1]
