"""Models of one or more runs as a function from pixels to a label map."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from bench.errors import BenchError
from bench.fast_paths import DEFAULT
from registry import heads, loading
from registry.contract import LabelMap
from registry.loading import Recipe

if TYPE_CHECKING:
    from bench.training.precision import Autocast
    from registry.sam import Sam

FIELD_CORES = 2
"""Side of a core in fields of view of the model's input: nine inputs for a block, 2.25 for each field of its core."""


@dataclass(frozen=True)
class Geometry:
    """Sides in pixels of the image.

    Attributes:
        scale: input pixels per image pixel.
        field: side of what one input of the model shows.
        core: side of a block's core.
        halo: pixels around it: a quarter of a field, as inputs overlap in the evaluation of a run.
        same_size: whether all windows must have one size, that of a field.
    """

    scale: float
    field: int
    core: int
    halo: int
    same_size: bool


def geometry(recipe: Recipe, *, scale: float | None = None, core: int | None = None) -> Geometry:
    """Return the sides for a model.

    The magnification is that of the run. Where its images were fitted whole into one input (``scale`` is None), it is
    the input's side over the longer side of those images, so that nuclei are as large as the model learnt them.

    Args:
        recipe: of the model.
        scale: input pixels per image pixel; None takes the run's.
        core: side of a block's core in pixels; None chooses.

    Raises:
        BenchError: the run's magnification is not known; a scale or core that is too small.
    """
    dense = heads.get(recipe.head).dense
    chosen = scale if scale is not None else recipe.scale if dense else None
    if chosen is None:
        if recipe.image_side is None:
            raise BenchError(
                "the size of the images that this model was trained on is not known (no predictions are kept beside "
                "its record), and with it the magnification: give --scale, input pixels per image pixel; for images of "
                f"512 pixels that filled an input of {recipe.image_size}, --scale {recipe.image_size / 512:g}."
            )
        chosen = recipe.image_size / recipe.image_side
    if not 1 / 64 <= chosen <= 64:
        raise BenchError(
            f"--scale {chosen:g} is out of reason; allowed is 0.015625 to 64 input pixels per image pixel."
        )
    field = round(recipe.image_size / chosen)
    halo = max(1, field // 4)
    if not dense:  # it fits each window into one input
        return Geometry(chosen, field, max(1, field - 2 * halo), halo, True)
    side = FIELD_CORES * field if core is None else core
    if side < 2 * halo:
        raise BenchError(f"--tile {side} is too small; allowed are {2 * halo} pixels or more at this magnification.")
    return Geometry(chosen, field, side, halo, False)


def merged(recipes: Sequence[Recipe]) -> Recipe:
    """Return the recipe whose head and post-processing an ensemble uses: the (lower) median of each parameter.

    Raises:
        BenchError: heads without logits to average, or models of other settings.
    """
    first = recipes[0]
    if len(recipes) == 1:
        return first
    if not heads.get(first.head).dense:
        raise BenchError(
            f"the head {first.head!r} prompts the model itself and has no logits that an ensemble could average; leave "
            "--ensemble out, and choose a fold with --fold."
        )
    names = ("head", "tokens", "image_size", "scale", "tta")
    if differing := [name for name in names if len({getattr(recipe, name) for recipe in recipes}) > 1]:
        raise BenchError(f"these models differ in {', '.join(differing)}; an ensemble averages runs of one setting.")
    parameters = {
        name: statistics.median_low([recipe.post_processing.get(name, default) for recipe in recipes])
        for name, default in heads.get(first.head).defaults.items()
    }
    sides = [recipe.image_side for recipe in recipes if recipe.image_side is not None]
    return replace(first, post_processing=parameters, image_side=statistics.median_low(sides) if sides else None)


class Predictor:
    """Label maps by the mean logits of models; a single one's own for a single one.

    Args:
        recipes: of the models, of one setting.
        geometry: see `geometry`.
        device: ``cpu`` or ``cuda``.
        weights: folder of the official checkpoints; None is the cache.
        fast_paths: see `bench.training.deployed.deployed`.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        geometry: Geometry,
        *,
        device: str = "cpu",
        weights: Path | None = None,
        fast_paths: Collection[str] = DEFAULT,
    ) -> None:
        self._recipe, self._geometry = merged(recipes), geometry
        self._head = heads.get(self._recipe.head)
        from bench.training.deployed import deployed

        self._models: list[tuple[Sam, Autocast]] = [
            deployed(loading.build(recipe, weights=weights).to(device), fast_paths) for recipe in recipes
        ]

    @property
    def parameters(self) -> Mapping[str, float]:
        """Parameters of the post-processing."""
        return self._recipe.post_processing

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"]) -> LabelMap:
        """Return the label map of a window.

        Raises:
            DivergedError: logits that are not finite.
        """
        height, width = pixels.shape[:2]
        if not self._head.dense and (height < self._geometry.field or width < self._geometry.field):
            pixels = _padded(pixels, self._geometry.field)  # a smaller window would be enlarged
        label_map = self._head.instances(self._raw(pixels), **self.parameters)
        return label_map[:height, :width]

    def _raw(self, pixels: UInt8[np.ndarray, "h w 3"]) -> Any:
        from bench.training import predictions

        total: Any = None
        options: dict[str, Any] = {"scale": self._geometry.scale, "tta": self._recipe.tta}
        for sam, precision in self._models:
            raw = predictions.raw_prediction(sam, self._head, pixels, autocast=precision, **options)
            if len(self._models) == 1:
                return raw
            total = raw if total is None else total + raw
        return total / len(self._models)


def _padded(pixels: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "H W 3"]:
    """Pad right and bottom with the mean colour, as a run pads inputs."""
    height, width = pixels.shape[:2]
    padded = np.empty((max(side, height), max(side, width), 3), np.uint8)
    padded[:] = pixels.mean((0, 1)).round().astype(np.uint8)
    padded[:height, :width] = pixels
    return padded
