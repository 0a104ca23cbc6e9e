"""Validation during training: mean scores on one of two grids, and what else epochs may be compared by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from bench.training import evaluate, predictions, tiling
from registry import heads
from registry.resampling import sample_labels, whole

if TYPE_CHECKING:
    from torch import Tensor

    from bench.training.data import Image
    from registry.contract import Head, LabelMap
    from registry.sam import Sam

ValidateOn = Literal["image", "output"]
ChooseBy = Literal["pq", "searched_pq", "loss"]


def scores(
    sam: Sam,
    head: Head,
    images: Sequence[Image],
    *,
    scale: float | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    validate_on: ValidateOn = "image",
    choose_by: ChooseBy = "pq",
    embeddings: predictions.Embeddings | None = None,
    processes: int = 0,
    timed: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda predict: predict,
) -> dict[str, float]:
    """Return the mean scores of a model on validation images under its head's default post-processing, without AJI+.

    Args:
        sam: the model; put into eval mode.
        head: its head.
        images: with their true label maps.
        scale: input pixels per image pixel, as in `bench.grid.Run`.
        autocast: gives the context in which the model computes.
        validate_on: ``image`` scores at the image's own resolution, as the test does; ``output`` at that of the
            decoder's logits, if it is lower, which takes less time and ranks epochs alike, though not equally.
        choose_by: ``searched_pq`` adds, under that name, the highest mean PQ of the points at which the search for
            post-processing begins (`registry.heads.starts`); ``loss`` adds the head's mean loss as
            ``validation_loss``, at the resolution of the training targets.
        embeddings: see `bench.training.predictions.Embeddings`.
        processes: see `bench.training.side_processes.each`.
        timed: see `bench.training.stopwatch.Stopwatch.timed`.

    Raises:
        DivergedError: the logits are not finite.
    """
    sam.eval()
    predict = timed(predictions.raw_prediction)
    scored = [_on_output_grid(image, sam, scale) for image in images] if validate_on == "output" else images
    losses: list[float] = []

    def raw() -> Iterator[Any]:
        for image, target in zip(images, scored, strict=True):
            grid = target.label_map.shape if head.dense else None
            logits = predict(sam, head, image.pixels, scale=scale, autocast=autocast, embeddings=embeddings, grid=grid)
            if choose_by == "loss":
                losses.append(_loss(head, logits, _on_target_grid(image, sam, scale).label_map))
            yield logits

    points = heads.starts(head) if choose_by == "searched_pq" else (head.defaults,)
    means = evaluate.candidate_scores(raw(), scored, head, points, processes=processes)
    searched = {"searched_pq": max(of_point["pq"] for of_point in means)} if choose_by == "searched_pq" else {}
    return {**means[0], **searched, **({"validation_loss": float(np.mean(losses))} if losses else {})}


def _loss(head: Head, logits: Float[Tensor, "c h w"], label_map: LabelMap) -> float:
    """Return a head's loss of one image's logits, resampled to the grid of a label map."""
    import torch

    targets = torch.from_numpy(head.targets(label_map))[None]
    return float(head.loss(tiling.resize(logits[None].float().cpu(), *label_map.shape), targets))


def _on_output_grid(image: Image, sam: Sam, scale: float | None) -> Image:
    """Return an image with the label map that its logits have without being enlarged."""
    return _on_grid(image, sam, scale, sam.card.logits_per_pixel)


def _on_target_grid(image: Image, sam: Sam, scale: float | None) -> Image:
    """Return an image with the label map that the targets of its training have, but for augmentation."""
    return _on_grid(image, sam, scale, sam.card.target_side(sam.image_size) / sam.image_size)


def _on_grid(image: Image, sam: Sam, scale: float | None, per_pixel: float) -> Image:
    """Return an image with the label at each centre of a grid, of so many pixels per pixel of the model's input."""
    height, width = image.label_map.shape
    factor = tiling.scale_for(height, width, image_size=sam.image_size, scale=scale) * per_pixel
    if factor >= 1:
        return image
    rows, columns = (whole(length, max(1, round(length * factor))) for length in (height, width))
    return replace(image, label_map=sample_labels(image.label_map, rows, columns))
