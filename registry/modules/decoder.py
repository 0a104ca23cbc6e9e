"""SAM's prompt encoder and mask decoder, in the sizes of all published models."""

from __future__ import annotations

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer


def prompt_encoder(image_size: int, stride: int = 16) -> PromptEncoder:
    """Build SAM's prompt encoder (6,220 parameters).

    Args:
        image_size: side of the square input in pixels.
        stride: pixels of the input per cell of the embedding.
    """
    grid = image_size // stride
    return PromptEncoder(
        embed_dim=256, image_embedding_size=(grid, grid), input_image_size=(image_size, image_size), mask_in_chans=16
    )


def mask_decoder() -> MaskDecoder:
    """Build SAM's mask decoder (4,058,340 parameters; Kirillov et al. 2023, appendix A)."""
    return MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
