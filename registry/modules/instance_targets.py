"""What a dense head is taught: maps made from a label map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage


def interior_distance(label_map: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Distance to the nearest pixel outside the own nucleus, divided by that nucleus's maximum.

    Touching nuclei are measured apart, so their shared border is a valley. Every nucleus reaches 1.0, a
    one-pixel one too: a single threshold then seeds small and large nuclei alike, which the distances in pixels
    of Naylor et al. (IEEE TMI 38:448, 2019) do not allow. What lies beyond the image counts as outside.
    """
    distance = np.zeros(label_map.shape, np.float32)
    dense = _dense(label_map)
    for index, box in enumerate(ndimage.find_objects(dense), start=1):
        if box is None:
            continue
        mask = dense[box] == index
        # One pixel of padding, or a nucleus that fills its box would have no outside.
        own = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        distance[box] += (own / own.max()).astype(np.float32)
    return distance


def inner_boundary(label_map: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels of a nucleus with another label among their four neighbours; the image's edge is no boundary."""
    padded = np.pad(label_map, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    differs = centre != padded[:-2, 1:-1]
    differs |= centre != padded[2:, 1:-1]
    differs |= centre != padded[1:-1, :-2]
    differs |= centre != padded[1:-1, 2:]
    return differs & (centre > 0)


def _dense(label_map: np.ndarray) -> np.ndarray:
    """Ids without large gaps: `find_objects` lists every id up to the largest."""
    if label_map.size and label_map.max() > label_map.size:
        ids, dense = np.unique(label_map, return_inverse=True)
        label_map = dense.reshape(label_map.shape) + (ids[0] > 0)
    return label_map.astype(np.int32, copy=False)
