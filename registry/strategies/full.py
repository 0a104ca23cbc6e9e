"""Everything that reaches the output is trained: the upper bound in cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "full",
    summary="encoder, mask decoder and default prompt",
    source="full fine-tuning, as in Ma et al., MedSAM (arXiv 2304.12306)",
    # MedSAM's 1e-4, doubled for short schedules; more would put a pre-trained encoder at risk.
    lr=2e-4,
)
def full(sam: Sam, *, tokens: tuple[int, ...]) -> None:
    """Train the encoder less its left-overs, what of the decoder reaches `tokens`, and the default prompt."""
    from registry import trainable

    trainable.freeze(sam)
    trainable.train_encoder(sam)
    trainable.train_decoder(sam, tokens)
