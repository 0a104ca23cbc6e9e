"""Foreground map of SAM's single-mask token, split by a watershed on its distance transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from registry.contract import LabelMap
from registry.heads import register

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULTS = MappingProxyType({"smoothing": 0.12, "depth": 0.06, "foreground": 0.5, "min_area": 0.02, "fill_holes": 0.0})
_SEARCH = MappingProxyType(
    {
        "smoothing": (0.05, 0.08, 0.12, 0.16, 0.2, 0.3),
        "depth": (0.02, 0.04, 0.06, 0.09, 0.12, 0.2),
        "foreground": (0.3, 0.4, 0.5, 0.6),
        "min_area": (0.02, 0.05, 0.1, 0.2),
    }
)
_STARTS: tuple[Mapping[str, float], ...] = (
    {"smoothing": 0.2, "depth": 0.12},
    {"smoothing": 0.05, "depth": 0.04, "foreground": 0.6},
    {"foreground": 0.3, "min_area": 0.1},
)


@dataclass(frozen=True)
class Watershed:
    """Semantic segmentation, then instances by shape alone.

    Lengths are shares of the nuclear radius, which is estimated from the map itself: a fixed `min_distance` in pixels
    scores below connected components.

    Parameters of `instances`:
        smoothing: σ of the Gaussian over the distance transform, as a share of the nuclear radius.
        depth: h of the h-maxima (Soille, Morphological Image Analysis, 2004, 6.3): how far the distance must
            fall between two seeds, as a share of the nuclear radius.
        foreground: probability above which a pixel belongs to a nucleus.
        min_area: smallest component of the foreground, as a share of a nucleus's area.
        fill_holes: 1 fills the holes of each instance, 0 leaves them.
    """

    defaults: Mapping[str, float]
    search: Mapping[str, tuple[float, ...]]
    starts: tuple[Mapping[str, float], ...] = _STARTS
    name: str = "watershed"
    summary: str = "mask token 0 as foreground; smoothed distance transform, h-maxima, watershed"
    channels: tuple[int, ...] = (0,)
    dense: bool = True

    def targets(self, label_map: LabelMap) -> Float[np.ndarray, "1 h w"]:
        """Return the foreground of a label map, float32, 0 or 1."""
        return (label_map > 0).astype(np.float32)[None]

    def loss(self, logits: Float[Tensor, "b 1 h w"], targets: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
        """Return BCE + Dice, in float32.

        Raises:
            ValueError: shapes that differ, or more than one channel.
        """
        from registry.modules.dense_losses import mean_total

        return mean_total(self.loss_terms(logits, targets))

    def loss_terms(
        self, logits: Float[Tensor, "b 1 h w"], targets: Float[Tensor, "b 1 h w"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return the two terms of the loss, a value per image; raises what `loss` raises."""
        import torch

        from registry.modules.dense_losses import bce, check_shapes, dice_loss

        check_shapes(logits, targets, channels=1)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            nucleus, is_nucleus = logits[:, 0].float(), targets[:, 0].float()
            return {"foreground_bce": bce(nucleus, is_nucleus), "foreground_dice": dice_loss(nucleus, is_nucleus)}

    def instances(self, logits: Any, **parameters: float) -> LabelMap:
        """Return the label map of one image's logits (1, h, w); see the class for the parameters.

        Raises:
            ValueError: logits of another shape.
            StrategyError: an unknown parameter.
        """
        return self.prepare(logits)(**parameters)

    def prepare(self, logits: Any) -> Callable[..., LabelMap]:
        """Return `instances` of one image as a function of the parameters, which computes what they share once.

        Raises:
            ValueError: logits of another shape.
        """
        from scipy import ndimage

        from registry.modules.h_maxima import Peaks, h_maxima, peaks
        from registry.modules.parameters import complete
        from registry.modules.seeding import Foreground, foreground_of, grow, probabilities, without_holes

        (nucleus,) = probabilities(logits, channels=1)

        @cache
        def measured(threshold: float) -> Foreground:
            return foreground_of(nucleus > threshold)

        @cache
        def heights(threshold: float, smoothing: float) -> Peaks:
            foreground = measured(threshold)
            if smoothing > 0:
                return peaks(ndimage.gaussian_filter(foreground.distance, smoothing * foreground.radius))
            return peaks(foreground.distance)

        @cache
        def markers(threshold: float, smoothing: float, depth: float) -> Bool[np.ndarray, "h w"]:
            return h_maxima(heights(threshold, smoothing), depth * measured(threshold).radius)

        def instances(**parameters: float) -> LabelMap:
            p = complete(self.name, self.defaults, parameters)
            shape = p["foreground"], p["smoothing"]
            seeds, foreground = markers(*shape, p["depth"]), measured(p["foreground"])
            grown = grow(seeds, -heights(*shape).image, foreground, min_seed=0.0, min_area=p["min_area"])
            return without_holes(grown) if p["fill_holes"] else grown

        return instances


register(Watershed(defaults=_DEFAULTS, search=_SEARCH))
