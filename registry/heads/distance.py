"""Default head: mask tokens 1–3 as foreground, interior distance and boundary; seeded watershed."""

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

_DEFAULTS = MappingProxyType(
    {
        "seed": 0.35,
        "foreground": 0.5,
        "smoothing": 0.06,
        "boundary": 1.0,
        "depth": 0.0,
        "edge": 1.0,
        "min_seed": 0.015,
        "min_area": 0.02,
        "fill_holes": 0.0,
    }
)
_SEARCH = MappingProxyType(
    {
        "seed": (0.2, 0.3, 0.35, 0.4, 0.5, 0.6),
        "foreground": (0.3, 0.4, 0.5, 0.6),
        "smoothing": (0.03, 0.06, 0.1, 0.15, 0.2),
        "boundary": (0.0, 0.5, 1.0),
        "depth": (0.0, 0.05, 0.1, 0.2),
        "edge": (0.3, 0.5, 0.7, 1.0),
        "min_area": (0.02, 0.05, 0.1, 0.2),
    }
)
_STARTS: tuple[Mapping[str, float], ...] = (
    {"boundary": 0.0, "seed": 0.5},
    {"boundary": 0.5, "foreground": 0.4, "smoothing": 0.1},
    {"boundary": 0.5, "seed": 0.2, "depth": 0.1, "smoothing": 0.1},
    {"boundary": 0.0, "edge": 0.5},
)


@dataclass(frozen=True)
class Distance:
    """SAM's three multi-mask tokens become three maps, so the head adds no parameters.

    The idea of a distance map with separated nuclei is that of Naylor et al. (IEEE TMI 38:448, 2019); three
    decoder outputs as foreground, distance and boundary are micro-sam's (Archit et al., Nature Methods
    22:579, 2025).

    Seeds are the pixels above a height of the distance; with `depth` only its maxima among them, with `edge` only
    those on which distance and boundary agree.

    Parameters of `instances`:
        foreground: probability above which a pixel belongs to a nucleus.
        seed: height of the smoothed distance, lowered by the boundary, above which a pixel is a seed.
        smoothing: σ of the Gaussian over the distance, as a share of the nuclear radius.
        boundary: share of the distance that is subtracted at the boundary: 0 ignores the boundary.
        depth: above 0, seeds are h-maxima of that height (Soille, Morphological Image Analysis, 2004, 6.3) only: the
            depth to which the smoothed distance falls between two seeds.
        edge: probability of the boundary up to which a pixel may be a seed; 1 allows all.
        min_seed: smallest seed, as a share of a nucleus's area; not of h-maxima, which are single pixels.
        min_area: smallest component of the foreground, as a share of a nucleus's area.
        fill_holes: 1 fills the holes of each instance, 0 leaves them.
    """

    defaults: Mapping[str, float]
    search: Mapping[str, tuple[float, ...]]
    starts: tuple[Mapping[str, float], ...] = _STARTS
    name: str = "distance"
    summary: str = "mask tokens 1–3 as foreground, normalised distance and boundary; seeded watershed"
    channels: tuple[int, ...] = (1, 2, 3)
    dense: bool = True

    def targets(self, label_map: LabelMap) -> Float[np.ndarray, "3 h w"]:
        """Return foreground, interior distance and inner boundary of a label map, float32 in [0, 1]."""
        from registry.modules.instance_targets import inner_boundary, interior_distance

        return np.stack([label_map > 0, interior_distance(label_map), inner_boundary(label_map)]).astype(np.float32)

    def loss(self, logits: Float[Tensor, "b 3 h w"], targets: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Return BCE + Dice on foreground and boundary plus squared error on the distance; in float32.

        Raises:
            ValueError: shapes that differ, or a number of channels other than three.
        """
        from registry.modules.dense_losses import mean_total

        return mean_total(self.loss_terms(logits, targets))

    def loss_terms(
        self, logits: Float[Tensor, "b 3 h w"], targets: Float[Tensor, "b 3 h w"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return the five terms of the loss, a value per image; raises what `loss` raises."""
        import torch

        from registry.modules.dense_losses import balanced_mse, bce, check_shapes, dice_loss

        check_shapes(logits, targets, channels=3)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            nucleus, distance, boundary = logits.float().unbind(dim=1)
            is_nucleus, true_distance, is_boundary = targets.float().unbind(dim=1)
            return {
                "foreground_bce": bce(nucleus, is_nucleus),
                "foreground_dice": dice_loss(nucleus, is_nucleus),
                "distance_mse": balanced_mse(distance, true_distance, is_nucleus),
                "boundary_bce": bce(boundary, is_boundary),
                "boundary_dice": dice_loss(boundary, is_boundary),
            }

    def instances(self, logits: Any, **parameters: float) -> LabelMap:
        """Return the label map of one image's logits (3, h, w); see the class for the parameters.

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

        nucleus, distance, edge = probabilities(logits, channels=3)

        @cache
        def measured(threshold: float) -> Foreground:
            return foreground_of(nucleus > threshold)

        @cache
        def heights(boundary: float, sigma: float) -> Float[np.ndarray, "h w"]:
            height = distance * (1 - boundary * edge)
            return ndimage.gaussian_filter(height, sigma) if sigma > 0 else height

        @cache
        def hills(threshold: float, boundary: float, sigma: float) -> Peaks:
            return peaks(np.where(measured(threshold).mask, heights(boundary, sigma), 0))

        @cache
        def maxima(threshold: float, boundary: float, sigma: float, depth: float) -> Bool[np.ndarray, "h w"]:
            return h_maxima(hills(threshold, boundary, sigma), depth)

        def instances(**parameters: float) -> LabelMap:
            p = complete(self.name, self.defaults, parameters)
            foreground = measured(p["foreground"])
            sigma = p["smoothing"] * foreground.radius
            height = heights(p["boundary"], sigma)
            seeds = height > p["seed"]
            if p["edge"] < 1:
                seeds &= edge <= p["edge"]
            if p["depth"] > 0:
                seeds &= maxima(p["foreground"], p["boundary"], sigma, p["depth"])
            min_seed = 0.0 if p["depth"] > 0 else p["min_seed"]
            grown = grow(seeds, -height, foreground, min_seed=min_seed, min_area=p["min_area"])
            return without_holes(grown) if p["fill_holes"] else grown

        return instances


HEAD = Distance(defaults=_DEFAULTS, search=_SEARCH)
register(HEAD)
