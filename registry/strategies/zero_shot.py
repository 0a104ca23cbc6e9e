"""Backbone as published, prompted by a grid of points; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.strategies import register

if TYPE_CHECKING:
    from registry.sam import Sam


@register(
    "zero_shot",
    summary="nothing trained; automatic mask generation",
    source="Kirillov et al., Segment Anything, ICCV 2023 (arXiv 2304.02643)",
    trains=False,
    head="everything",
    freezes_encoder=True,
)
def zero_shot(sam: Sam, *, tokens: tuple[int, ...]) -> None:
    """Freeze every parameter; `tokens` are not used."""
    from registry import trainable

    trainable.freeze(sam)
