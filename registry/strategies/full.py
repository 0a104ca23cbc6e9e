"""All parameters that the output depends on are trained: the upper bound in cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "full",
    summary="encoder, mask decoder and default prompt",
    source="full fine-tuning, as in Ma et al., MedSAM (arXiv 2304.12306)",
    # MedSAM's 1e-4, doubled for short schedules; a larger rate may destroy pre-trained features.
    encoder_lr=2e-4,
    trains_encoder=True,
)
def full(sam: Sam, *, tokens: tuple[int, ...]) -> None:
    """Train encoder and decoder, as far as `tokens` depend on them, and the default prompt."""
    from registry import trainable

    trainable.freeze(sam)
    trainable.train_encoder(sam)
    trainable.train_decoder(sam, tokens)
