"""LiteMedSAM's encoder at 128, 192 and 256 px: four times the pixels should cost four times as much."""

from __future__ import annotations

import ratios
import torch

from registry import backbones

SIZES = (128, 192, 256)
AT_MOST = 4.5
"""Times the seconds of 128 px at 256 px; windows of 7 and 14 cells pad a grid of 32 more than one of 64."""


@torch.no_grad()
def test_cost_of_the_encoder_by_input_size() -> None:
    plain = [backbones.build("lite_medsam", size) for size in SIZES]
    models = [*plain, *(sam.optimise() for sam in plain)]
    images = [torch.rand(1, 3, sam.image_size, sam.image_size) for sam in models]
    # All six in turns, so that other load meets both forms.
    best = ratios.best_seconds(*(lambda s=sam, x=x: s.encode(x) for sam, x in zip(models, images, strict=True)))
    for name, target, seconds in (("plain", None, best[:3]), ("inference form", AT_MOST, best[3:])):
        shown = " / ".join(f"{1000 * value:.0f}" for value in seconds)
        detail = f"{shown} ms at {' / '.join(map(str, SIZES))} px, {torch.get_num_threads()} threads"
        title = f"LiteMedSAM encoder, 256 px against 128 px, {name}"
        ratios.report(title, seconds[2] / seconds[0], target, better="lower", detail=detail)
