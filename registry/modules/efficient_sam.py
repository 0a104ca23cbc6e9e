"""EfficientSAM (Xiong et al. 2023, arXiv:2312.00863): a plain ViT, point-only prompts and a GELU decoder.

The parts are timm's and segment_anything's; differences from SAM are written out here. They are documented in the
authors' repository (yformer/EfficientSAM), not in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from registry.modules import pieces
from registry.modules.sam_vit import resize_grid
from registry.modules.steps import Step

MAX_POINTS = 6
PADDING, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3


def plain_vit(*, width: int, heads: int) -> PlainVit:
    """Build the 12 blocks of EfficientSAM-Ti (192, 3 heads) or EfficientSAM-S (384, 6 heads)."""
    return PlainVit(
        VisionTransformer(img_size=224, patch_size=16, embed_dim=width, depth=12, num_heads=heads, num_classes=0)
    )


class PlainVit(nn.Module):
    """timm's ViT with global attention in every block, without class token, followed by SAM's neck.

    Args:
        vendor: timm's model, whose submodules are reused. Its position embedding keeps the class token's entry and the
            shape of its pre-training at 224 pixels, as in the official files; it is resized in each forward pass.
    """

    def __init__(self, vendor: VisionTransformer) -> None:
        super().__init__()
        width = vendor.embed_dim
        self.patch_embed = nn.ModuleDict({"proj": vendor.patch_embed.proj})
        self.pos_embed = vendor.pos_embed
        self.blocks = vendor.blocks
        self.neck = nn.Sequential(
            nn.Conv2d(width, 256, kernel_size=1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/16 w/16"]:
        tokens = self._embed(images)
        h, w = tokens.shape[1:3]
        tokens = self.blocks(tokens.flatten(1, 2))
        embeddings: Tensor = self.neck(tokens.unflatten(1, (h, w)).permute(0, 3, 1, 2))
        return embeddings

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h/16 w/16 c"]:
        tokens = self.patch_embed["proj"](images).permute(0, 2, 3, 1)
        h, w = tokens.shape[1:3]
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        return tokens + resize_grid(self.pos_embed[:, 1:].unflatten(1, (side, side)), h, w)

    def _reduce(self, tokens: Float[Tensor, "b hw c"]) -> Float[Tensor, "b 256 h w"]:
        side = round(tokens.shape[1] ** 0.5)  # inputs are square
        embeddings: Tensor = self.neck(tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2))
        return embeddings

    def steps(self) -> list[Step]:
        """Return the parts of the forward pass of a square image, see `registry.modules.steps`."""
        blocks = [Step((f"blocks.{i}",), block) for i, block in enumerate(self.blocks)]
        embed = Step(("patch_embed", "pos_embed"), lambda images: self._embed(images).flatten(1, 2))
        return [embed, *blocks, Step(("neck",), self._reduce)]

    def inference_forms(self) -> dict[type[nn.Module], Callable[[Any], Callable[..., Tensor] | None]]:
        """Return the faster forward functions of the modules, see `registry.inference_form`."""
        return {Mlp: pieces.mlp("fc1")}


class PointEncoder(nn.Module):
    """Points and boxes as exactly six tokens, with the interface of segment_anything's `PromptEncoder`.

    A box is two points with two labels of their own. Unused tokens are invalid points, so without a prompt the decoder
    gets the embedding of the invalid point only. A background point has no embedding of its own.

    Args:
        image_size: side of the square input in pixels.
        stride: pixels of the input per cell of the embedding.
    """

    def __init__(self, image_size: int, stride: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.stride = stride
        self.pe_layer = PositionEmbeddingRandom(128)
        self.invalid_points = nn.Embedding(1, 256)
        self.point_embeddings = nn.Embedding(1, 256)
        self.bbox_top_left_embeddings = nn.Embedding(1, 256)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, 256)

    def get_dense_pe(self) -> Float[Tensor, "1 256 h/s w/s"]:
        """Return the positional encoding of every cell of the embedding."""
        grid = self.image_size // self.stride
        positions: Tensor = self.pe_layer((grid, grid)).unsqueeze(0)
        return positions

    def forward(
        self,
        points: tuple[Float[Tensor, "n k 2"], Int[Tensor, "n k"]] | None,
        boxes: Float[Tensor, "n 4"] | None,
        masks: None = None,
    ) -> tuple[Float[Tensor, "n 6 256"], Float[Tensor, "1 256 1 1"]]:
        """Return sparse embeddings, and zeros for the dense prompt that EfficientSAM does not have.

        Raises:
            ValueError: a mask prompt, or more than six points, a box's two corners included.
        """
        if masks is not None:
            raise ValueError("EfficientSAM takes no mask prompts; give points or boxes.")
        weight = self.invalid_points.weight
        coordinates, labels = [], []
        if points is not None:
            coordinates.append(points[0])
            labels.append(points[1])
        if boxes is not None:
            coordinates.append(boxes.view(-1, 2, 2))
            corners = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=boxes.device)
            labels.append(corners.expand(boxes.shape[0], -1))
        n = coordinates[0].shape[0] if coordinates else 1
        n_points = sum(c.shape[1] for c in coordinates)
        if n_points > MAX_POINTS:
            raise ValueError(
                f"{n_points} points were given (a box counts as two); EfficientSAM takes up to {MAX_POINTS}."
            )
        coordinates.append(weight.new_full((n, MAX_POINTS - n_points, 2), PADDING))
        labels.append(torch.full((n, MAX_POINTS - n_points), PADDING, device=weight.device))
        return self._embed(torch.cat(coordinates, dim=1), torch.cat(labels, dim=1)), weight.new_zeros(1, 256, 1, 1)

    def _embed(self, coordinates: Float[Tensor, "n 6 2"], labels: Int[Tensor, "n 6"]) -> Float[Tensor, "n 6 256"]:
        kinds = labels.unsqueeze(-1)
        coordinates = torch.where(kinds == PADDING, torch.full_like(coordinates, PADDING), coordinates)
        size = (self.image_size, self.image_size)
        embedded: Tensor = self.pe_layer.forward_with_coords(coordinates + 0.5, size)
        for kind, embedding in (
            (PADDING, self.invalid_points),
            (FOREGROUND, self.point_embeddings),
            (TOP_LEFT, self.bbox_top_left_embeddings),
            (BOTTOM_RIGHT, self.bbox_bottom_right_embeddings),
        ):
            embedded = embedded + (kinds == kind) * embedding.weight
        return embedded


def gelu_mask_decoder() -> MaskDecoder:
    """Build segment_anything's mask decoder with EfficientSAM's activation, normalisation and residuals."""
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8, activation=nn.GELU)
    for i, layer in enumerate(transformer.layers):
        transformer.layers[i] = TwoWayBlock(layer)
    decoder = MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=256)
    decoder.output_upscaling[1] = nn.GroupNorm(1, 64)
    for i, mlp in enumerate(decoder.output_hypernetworks_mlps):
        decoder.output_hypernetworks_mlps[i] = GeluMlp(mlp)
    decoder.iou_prediction_head = GeluMlp(decoder.iou_prediction_head)
    return decoder


class GeluMlp(nn.Module):
    """An MLP with GELU between its layers.

    Args:
        vendor: segment_anything's MLP, whose ReLU can't be exchanged; its layers are reused.
    """

    def __init__(self, vendor: Any) -> None:
        super().__init__()
        self.layers: nn.ModuleList = vendor.layers

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class TwoWayBlock(nn.Module):
    """EfficientSAM's two-way attention block.

    Unlike in SAM's block, the self-attention of the first layer keeps its residual, and that of the second layer adds
    the positions of the tokens to values and residual too.

    Args:
        vendor: segment_anything's block, whose submodules are reused.
    """

    def __init__(self, vendor: Any) -> None:
        super().__init__()
        self.first: bool = vendor.skip_first_layer_pe
        self.self_attn, self.norm1 = vendor.self_attn, vendor.norm1
        self.cross_attn_token_to_image, self.norm2 = vendor.cross_attn_token_to_image, vendor.norm2
        self.mlp, self.norm3 = vendor.mlp, vendor.norm3
        self.cross_attn_image_to_token, self.norm4 = vendor.cross_attn_image_to_token, vendor.norm4

    def forward(
        self,
        queries: Float[Tensor, "n t c"],
        keys: Float[Tensor, "#n hw c"],
        query_pe: Float[Tensor, "n t c"],
        key_pe: Float[Tensor, "#n hw c"],
    ) -> tuple[Float[Tensor, "n t c"], Float[Tensor, "n hw c"]]:
        if not self.first:
            queries = queries + query_pe
        queries = self.norm1(queries + self.self_attn(q=queries, k=queries, v=queries))
        located = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(q=queries + query_pe, k=located, v=keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(q=located, k=queries + query_pe, v=queries))
        return queries, keys
