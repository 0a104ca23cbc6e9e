"""SAM's image encoder: a ViT with windowed attention, decomposed relative positions and a neck."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import MLPBlock
from torch import Tensor, nn

from registry.modules import pieces
from registry.modules.steps import Step

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
        tokens = self._embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self._reduce(tokens)

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h/16 w/16 c"]:
        tokens: Tensor = self.patch_embed(images)
        return tokens + resize_grid(self.pos_embed, tokens.shape[1], tokens.shape[2])

    def _reduce(self, tokens: Float[Tensor, "b h w c"]) -> Float[Tensor, "b 256 h w"]:
        embeddings: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embeddings

    def steps(self) -> list[Step]:
        """Return the parts of the forward pass, see `registry.modules.steps`."""
        blocks = [Step((f"blocks.{i}",), block) for i, block in enumerate(self.blocks)]
        return [Step(("patch_embed", "pos_embed"), self._embed), *blocks, Step(("neck",), self._reduce)]

    def inference_forms(self) -> dict[type[nn.Module], Callable[[Any], Callable[..., Tensor] | None]]:
        """Return the faster forward functions of the modules, see `registry.inference_form`."""
        return {MLPBlock: pieces.mlp("lin1"), RelativeAttention: _attention_in_pieces}


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
        h, w = tokens.shape[1:3]
        query, key, value = self.project(tokens)
        mixed = self.attend(query, key, value, relative_positions(self.rel_pos_h, h), w)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(*tokens.shape[:3], -1))
        return out

    def project(self, tokens: Float[Tensor, "b h w c"]) -> tuple[Float[Tensor, "b heads hw d"], ...]:
        """Return queries, keys and values."""
        b, h, w, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return tuple(qkv.unbind(0))

    def attend(
        self,
        query: Float[Tensor, "b heads rw d"],
        key: Float[Tensor, "b heads hw d"],
        value: Float[Tensor, "b heads hw d"],
        positions: Float[Tensor, "r h d"],
        w: int,
    ) -> Float[Tensor, "b heads rw d"]:
        """Return the attention of the queries of `r` rows of the grid.

        Args:
            query, key, value: see `project`; the queries of whole rows.
            positions: of the queries' rows relative to all rows, see `relative_positions`.
            w: patches in a row.
        """
        r, h = positions.shape[:2]
        grid = query.unflatten(2, (r, w))
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, positions)
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, relative_positions(self.rel_pos_w, w))
        bias = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).reshape(*query.shape[:3], h * w)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def _attention_in_pieces(attention: RelativeAttention) -> Callable[..., Tensor]:
    """Return the inference form of the attention: in pieces of windows, or of heads and rows of a whole image.

    The bias of a whole image of 1024 pixels has 4096 × 4096 values for each head, 0.8 GB in ViT-B.
    """

    def forward(self: Any, tokens: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        b, h, w, _ = tokens.shape
        bias_bytes = self.heads * (h * w) ** 2 * tokens.element_size()
        if tokens.device.type != "cpu":
            return type(self).forward(self, tokens)
        windows = pieces.per_piece(tokens, bias_bytes, b)
        if windows > 1:
            return pieces.over_items(lambda t: type(self).forward(self, t), tokens, bytes_per_item=bias_bytes)
        positions = relative_positions(self.rel_pos_h, h)
        step = pieces.per_piece(tokens, w * h * w * tokens.element_size(), h)
        out = tokens.new_empty(0)
        for image in range(b):
            query, key, value = self.project(tokens[image : image + 1])
            if image == 0:
                out = query.new_empty(b, h * w, self.heads, query.shape[-1])
            for head in range(self.heads):
                own = [part[:, head : head + 1] for part in (query, key, value)]
                for top, bottom in pieces.bands(h, step):
                    part = slice(top * w, bottom * w)
                    mixed = self.attend(own[0][:, :, part], own[1], own[2], positions[top:bottom], w)
                    out[image, part, head] = mixed[0, 0]
        return self.proj(out.reshape(b, h, w, -1))

    return forward


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
