"""Validation during training: mean scores under the head's default post-processing, on one of two grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from bench.training import evaluate, predictions, tiling
from registry.resampling import sample_labels, whole

if TYPE_CHECKING:
    from bench.training.data import Image
    from registry.contract import Head
    from registry.sam import Sam

ValidateOn = Literal["image", "output"]


def scores(
    sam: Sam,
    head: Head,
    images: Sequence[Image],
    *,
    scale: float | None,
    autocast: Callable[[], AbstractContextManager[Any]],
    validate_on: ValidateOn = "image",
    embeddings: predictions.Embeddings | None = None,
    processes: int = 0,
    timed: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda predict: predict,
) -> dict[str, float]:
    """Return the mean scores of a model on validation images, without AJI+.

    Args:
        sam: the model; put into eval mode.
        head: its head, used with its default parameters.
        images: with their true label maps.
        scale: input pixels per image pixel, as in `bench.grid.Run`.
        autocast: gives the context in which the model computes.
        validate_on: ``image`` scores at the image's own resolution, as the test does; ``output`` at that of the
            decoder's logits, if it is lower, which takes less time and ranks epochs alike, though not equally.
        embeddings: see `bench.training.predictions.Embeddings`.
        processes: see `bench.training.side_processes.each`.
        timed: see `bench.training.stopwatch.Stopwatch.timed`.

    Raises:
        DivergedError: the logits are not finite.
    """
    sam.eval()
    predict = timed(predictions.raw_prediction)
    scored = [_on_output_grid(image, sam, scale) for image in images] if validate_on == "output" else images

    def raw() -> Iterator[Any]:
        for image, target in zip(images, scored, strict=True):
            grid = target.label_map.shape if head.dense else None
            yield predict(sam, head, image.pixels, scale=scale, autocast=autocast, embeddings=embeddings, grid=grid)

    (means,) = evaluate.candidate_scores(raw(), scored, head, [head.defaults], processes=processes)
    return means


def _on_output_grid(image: Image, sam: Sam, scale: float | None) -> Image:
    """Return an image with the label map that its logits have without being enlarged: the label at each centre."""
    height, width = image.label_map.shape
    factor = tiling.scale_for(height, width, image_size=sam.image_size, scale=scale) * sam.card.logits_per_pixel
    if factor >= 1:
        return image
    rows, columns = (whole(length, max(1, round(length * factor))) for length in (height, width))
    return replace(image, label_map=sample_labels(image.label_map, rows, columns))
