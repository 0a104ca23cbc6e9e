"""Mask decoder and default prompt trained; encoder frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "decoder_only",
    summary="mask decoder and default prompt; encoder frozen",
    source="Ma et al., MedSAM (arXiv 2304.12306); mazurowski-lab/finetune-SAM",
    freezes_encoder=True,
)
def decoder_only(sam: Sam, *, tokens: tuple[int, ...]) -> None:
    """Train the decoder, as far as `tokens` depend on it, and the default prompt."""
    from registry import trainable

    trainable.freeze(sam)
    trainable.train_decoder(sam, tokens)
