"""Instances from maps: typical size of the nuclei, and seeds grown inside a foreground mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from skimage.segmentation import watershed


def probabilities(logits: Any, channels: int) -> Float[np.ndarray, "c h w"]:
    """Return the sigmoid of logits, NumPy or torch on any device, as float32 on the CPU.

    Raises:
        ValueError: the logits are not (channels, h, w).
    """
    if hasattr(logits, "detach"):
        logits = logits.detach().float().cpu().numpy()
    logits = np.asarray(logits, dtype=np.float32)
    if logits.ndim != 3 or logits.shape[0] != channels:
        raise ValueError(
            f"logits of shape {logits.shape} given; this head reads ({channels}, h, w): one image without batch."
        )
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


class Foreground(NamedTuple):
    """Foreground mask with its measurements.

    Attributes:
        mask: the foreground.
        distance: from each foreground pixel to the nearest background pixel.
        components: connected components of the foreground (4-connected), numbered from 1.
        area: pixels of each component; entry 0, of the background, is 0.
        radius: typical inner radius of the nuclei in pixels, at least 1.
    """

    mask: Bool[np.ndarray, "h w"]
    distance: Float[np.ndarray, "h w"]
    components: Int[np.ndarray, "h w"]
    area: Int[np.ndarray, " components+1"]
    radius: float


def foreground_of(mask: Bool[np.ndarray, "h w"]) -> Foreground:
    """Measure a foreground mask.

    The radius is the median of the components' largest distances to the background, weighted by area. Touching nuclei
    reach a distance little above that of a single nucleus, and noise of few pixels has little area, so neither changes
    it much.
    """
    distance = ndimage.distance_transform_edt(mask)
    components, count = ndimage.label(mask)
    inside = components[mask]
    area = np.bincount(inside, minlength=count + 1)
    if not count:
        return Foreground(mask, distance, components, area, 1.0)
    depth = np.zeros(count + 1)
    np.maximum.at(depth, inside, distance[mask])
    order = np.argsort(depth)
    middle = np.searchsorted(np.cumsum(area[order]), area.sum() / 2)
    return Foreground(mask, distance, components, area, max(1.0, float(depth[order][middle])))


def without_holes(label_map: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Return a label map whose instances have no holes: background that a single instance encloses belongs to it.

    Background is 4-connected, as in `scipy.ndimage.binary_fill_holes`. What touches the image's edge, or lies between
    several instances, stays background.
    """
    holes, count = ndimage.label(label_map == 0)
    if not count:
        return label_map
    lowest, highest = np.full(count + 1, np.iinfo(np.int32).max), np.zeros(count + 1, np.int64)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
        for inside, beside in (((one,), (other,)), ((np.s_[:], one), (np.s_[:], other))):
            hole, label = holes[inside].ravel(), label_map[beside].ravel()
            touching = np.flatnonzero((hole > 0) & (label > 0))
            np.minimum.at(lowest, hole[touching], label[touching])
            np.maximum.at(highest, hole[touching], label[touching])
    owner = np.where(lowest == highest, highest, 0)
    owner[0] = 0
    for side in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        owner[side] = 0
    return np.where(holes > 0, owner[holes], label_map).astype(label_map.dtype)


def grow(
    seeds: Bool[np.ndarray, "h w"],
    landscape: Float[np.ndarray, "h w"],
    foreground: Foreground,
    *,
    min_seed: float,
    min_area: float,
) -> Int[np.ndarray, "h w"]:
    """Return the instances of a watershed from seeds, over a landscape and within the foreground.

    Args:
        seeds: pixels of seeds; each 8-connected group is a seed, as plateaus of h-maxima are.
        landscape: heights, flooded from low to high.
        foreground: pixels of instances.
        min_seed: smaller seeds are dropped as noise; as a share of a typical nucleus's area.
        min_area: smaller components of the foreground are dropped as noise; as a share of a typical nucleus's area. A
            larger component without a seed becomes one instance, as a small nucleus may have no seed.

    Returns:
        int32 label map, ids 1…n without gaps.
    """
    components, nucleus_area = foreground.components, np.pi * foreground.radius**2
    markers, n_seeds = ndimage.label(seeds & foreground.mask, structure=np.ones((3, 3)))
    kept = foreground.area >= max(1.0, min_area * nucleus_area)
    kept_seed = np.bincount(markers[markers > 0], minlength=n_seeds + 1) >= max(1.0, min_seed * nucleus_area)
    seeded = np.zeros(len(kept), bool)
    pixels = np.flatnonzero(kept_seed[markers] & kept[components])
    seeded[components.ravel()[pixels]] = True

    # Number without gaps before flooding: the watershed keeps ids.
    number = np.cumsum(np.bincount(markers.ravel()[pixels], minlength=n_seeds + 1) > 0, dtype=np.int32)
    unseeded = kept & ~seeded
    extra = np.where(unseeded, np.cumsum(unseeded) + number[-1], 0).astype(np.int32)
    numbered = extra[components]
    numbered.ravel()[pixels] = number[markers.ravel()[pixels]]
    return watershed(landscape, numbered, mask=kept[components]).astype(np.int32, copy=False)
