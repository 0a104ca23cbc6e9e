"""The encoder is frozen; mask decoder and default prompt are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "decoder_only",
    summary="mask decoder and default prompt; encoder frozen",
    source="Ma et al., MedSAM (arXiv 2304.12306); mazurowski-lab/finetune-SAM",
    # MedSAM used 1e-4 with large batches and long training. With batches of 4 and a few hundred steps, 5e-4
    # carried even random weights past classical watershed.
    lr=5e-4,
)
def decoder_only(sam: Sam, *, tokens: tuple[int, ...]) -> None:
    """Train what of the decoder reaches `tokens`, and the default prompt."""
    from registry import trainable

    trainable.freeze(sam)
    trainable.train_decoder(sam, tokens)
