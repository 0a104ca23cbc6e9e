"""Targets of dense heads: maps made from a label map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage


def interior_distance(label_map: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the distance to the nearest pixel outside the same nucleus, divided by that nucleus's maximum.

    Each nucleus is measured on its own, so distances are small at the border of touching nuclei. Every nucleus reaches
    1.0, even of one pixel, so a single threshold seeds small and large nuclei, which the distances in pixels of Naylor
    et al. (IEEE TMI 38:448, 2019) do not allow. Beyond the image is outside.
    """
    distance = np.zeros(label_map.shape, np.float32)
    dense = _dense(label_map)
    for index, box in enumerate(ndimage.find_objects(dense), start=1):
        if box is None:
            continue
        mask = dense[box] == index
        # Padded by one pixel, since a nucleus that fills its box would have no outside.
        inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        distance[box] += (inside / inside.max()).astype(np.float32)
    return distance


def inner_boundary(label_map: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return pixels of nuclei with another label among their four neighbours; the image's edge is no boundary."""
    padded = np.pad(label_map, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    differs = centre != padded[:-2, 1:-1]
    differs |= centre != padded[2:, 1:-1]
    differs |= centre != padded[1:-1, :-2]
    differs |= centre != padded[1:-1, 2:]
    return differs & (centre > 0)


def _dense(label_map: np.ndarray) -> np.ndarray:
    """Return a label map without large gaps between ids, as `find_objects` lists every id up to the largest."""
    if label_map.size and label_map.max() > label_map.size:
        ids, dense = np.unique(label_map, return_inverse=True)
        label_map = dense.reshape(label_map.shape) + (ids[0] > 0)
    return label_map.astype(np.int32, copy=False)
