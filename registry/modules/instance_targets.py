"""Targets of dense heads: maps made from a label map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

FAR_PX = 64
"""Largest distance that is computed for all nuclei at once: the time of that grows with the distance."""


def interior_distance(label_map: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the distance to the nearest pixel outside the same nucleus, divided by that nucleus's maximum.

    Each nucleus is measured on its own, so distances are small at the border of touching nuclei. Every nucleus reaches
    1.0, even of one pixel, so a single threshold seeds small and large nuclei, which the distances in pixels of Naylor
    et al. (IEEE TMI 38:448, 2019) do not allow. Beyond the image is outside.
    """
    dense = _dense(label_map)
    squared = squared_distance(dense)
    if squared is None:
        return interior_distance_of_each(dense)
    largest = np.zeros(int(dense.max(initial=0)) + 1, np.int16)
    np.maximum.at(largest, dense.ravel(), squared.ravel())
    root = np.sqrt(np.arange(FAR_PX**2 + 1))
    root_of_largest = root[np.maximum(largest, 1)]
    return (root[squared] / root_of_largest[dense]).astype(np.float32)


def interior_distance_of_each(dense: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return `interior_distance` of a label map without large gaps between ids, nucleus by nucleus."""
    distance = np.zeros(dense.shape, np.float32)
    for index, box in enumerate(ndimage.find_objects(dense), start=1):
        if box is None:
            continue
        mask = dense[box] == index
        # Padded by one pixel, since a nucleus that fills its box would have no outside.
        inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        distance[box] += (inside / inside.max()).astype(np.float32)
    return distance


def squared_distance(label_map: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"] | None:
    """Return the squared distance of each pixel of a nucleus to the nearest one outside it; 0 on the background.

    Beyond the image is outside. None where a distance may exceed `FAR_PX`.

    In two passes (Meijster, Roerdink and Hesselink, 2000): distances along columns, then the lowest of the parabolas
    that the pixels of a row have over it. Parabolas of other nuclei need no test: beyond the first of their pixels
    none is lower than the squared distance to that pixel, which is the start.
    """
    mask = label_map > 0
    along_columns = _along(mask, label_map[1:] == label_map[:-1])
    along_rows = _along(mask.T, (label_map[:, 1:] == label_map[:, :-1]).T).T
    squared = np.minimum(along_columns, along_rows).astype(np.int16)
    furthest = int(squared.max(initial=0))
    if furthest > FAR_PX:
        return None
    squared *= squared
    parabola = along_columns.astype(np.int16)
    parabola *= parabola  # 16 bits suffice: sums are at most 2 · (FAR_PX + 1)²
    raised = np.empty_like(parabola)
    for shift in range(1, furthest):
        if shift % 4 == 0 and shift * shift >= squared.max():
            break
        np.add(parabola, np.int16(shift * shift), out=raised)
        np.minimum(squared[:, shift:], raised[:, :-shift], out=squared[:, shift:])
        np.minimum(squared[:, :-shift], raised[:, shift:], out=squared[:, :-shift])
    return squared


def _along(mask: Bool[np.ndarray, "h w"], same: Bool[np.ndarray, "h-1 w"]) -> Int[np.ndarray, "h w"]:
    """Return distances to the nearest pixel of another label in the column, at most FAR_PX + 1; 0 outside the mask."""
    distance = mask.view(np.uint8).copy(order="K")
    up, down = mask.copy(order="K"), mask.copy(order="K")  # are as many pixels up and down all of this label?
    up[:1] = down[-1:] = False
    up[1:] &= same
    down[:-1] &= same
    next_up, next_down = up.copy(order="K"), down.copy(order="K")
    for _ in range(FAR_PX):
        both = up & down
        if not both.any():
            break
        distance += both
        up[1:] = next_up[1:] & up[:-1]
        down[:-1] = next_down[:-1] & down[1:]
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
