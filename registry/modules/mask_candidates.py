"""Masks of SAM prompted by a grid of points: collected in little memory, filtered, and painted into a label map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, calculate_stability_score
from torch import Tensor
from torchvision.ops import nms

if TYPE_CHECKING:
    from registry.sam import Sam

# Logits are kept as uint8 in steps of 1/32; _ZERO is the smallest value of the foreground.
_STEPS, _ZERO = 32, 128


@dataclass(frozen=True)
class Candidates:
    """Masks of one image, best predicted IoU first.

    Attributes:
        patches: logits of each mask in its box and one pixel around it, on the grid of the low-resolution logits.
        corners: (y, x) of each patch on that grid.
        boxes: (x0, y0, x1, y1) of each mask on that grid, inclusive.
        iou: IoU predicted by the model.
        stability: IoU of the masks at a high and at a low threshold.
        area: share of the image that the mask covers.
        stride: (y, x) pixels of the image per pixel of the grid.
        size: (h, w) of the image in pixels.
        n_prompted: number of masks that were prompted, before any was dropped.
        largest_iou: the largest IoU predicted for one of them; None where there was none.
    """

    patches: tuple[UInt8[np.ndarray, "_ _"], ...]
    corners: Int[np.ndarray, "n 2"]
    boxes: Float[np.ndarray, "n 4"]
    iou: Float[np.ndarray, " n"]
    stability: Float[np.ndarray, " n"]
    area: Float[np.ndarray, " n"]
    stride: tuple[float, float]
    size: tuple[int, int]
    n_prompted: int = 0
    largest_iou: float | None = None


def prompt_grid(
    sam: Sam,
    image: Float[Tensor, "3 s s"],
    *,
    valid: tuple[int, int],
    tokens: tuple[int, ...],
    points_per_side: int,
    points_per_batch: int,
) -> Iterator[tuple[Float[Tensor, "n t t"], Float[Tensor, " n"]]]:
    """Yield logits and predicted IoU of the masks at each point of a regular grid, in batches.

    Args:
        sam: the model.
        image: RGB in [0, 1], padded to the model's input on the right and below.
        valid: (h, w) of the part without padding, in pixels of the input; the grid covers it.
        tokens: mask tokens to return.
        points_per_side: points along each side.
        points_per_batch: points decoded at once.
    """
    embedding = sam.encode(image[None])
    height, width = valid
    grid = build_point_grid(points_per_side) * np.array([width, height])
    points = torch.as_tensor(grid, dtype=torch.float32, device=image.device)[:, None]
    for batch in points.split(points_per_batch):
        labels = torch.ones(batch.shape[:2], dtype=torch.int64, device=image.device)
        logits, iou = sam.decode(embedding, points=batch, labels=labels)
        yield logits[:, list(tokens)].flatten(0, 1).float(), iou[:, list(tokens)].flatten().float()


def collect(
    batches: Iterator[tuple[Float[Tensor, "n h w"], Float[Tensor, " n"]]],
    *,
    size: tuple[int, int],
    grid: tuple[float, float],
    offset: float,
    min_iou: float,
    min_stability: float,
    max_area: float,
    limit: int,
) -> Candidates:
    """Return the masks that may be objects.

    Args:
        batches: logits and predicted IoU.
        size: (h, w) of the image in pixels.
        grid: (h, w) of the image on the grid of the logits; the rest is padding.
        offset: distance of the high and the low threshold of the stability from 0, in logits.
        min_iou: smaller predicted IoUs are dropped.
        min_stability: smaller stabilities are dropped.
        max_area: masks that cover a larger share of the image are dropped.
        limit: largest number of masks; those of the best predicted IoU are kept.
    """
    rows, columns = (int(np.ceil(side - 1e-6)) for side in grid)
    kept: list[tuple[float, float, float, np.ndarray, np.ndarray]] = []
    n_prompted, largest = 0, list[float]()
    for logits, iou in batches:
        n_prompted += len(iou)
        largest.append(float(iou.max()))
        promising = iou >= min_iou
        logits, iou = logits[promising, :rows, :columns], iou[promising]
        area = (logits > 0).sum(dim=(1, 2)) / (rows * columns)
        stability = calculate_stability_score(logits, 0.0, offset)  # 0/0 of an empty mask compares as False
        good = (stability >= min_stability) & (area > 0) & (area <= max_area)
        logits, iou, stability, area = logits[good], iou[good], stability[good], area[good]
        boxes = batched_mask_to_box(logits > 0).cpu().numpy()
        quantised = (logits * _STEPS).floor().add(_ZERO).clamp(0, 255).to(torch.uint8).cpu().numpy()
        for mask, box, *numbers in zip(quantised, boxes, iou.tolist(), stability.tolist(), area.tolist(), strict=True):
            x0, y0, x1, y1 = box
            patch = mask[max(0, y0 - 1) : y1 + 2, max(0, x0 - 1) : x1 + 2].copy()
            kept.append((*numbers, box, patch))
        # Sorting after every batch bounds the memory; the sort is stable, so batches do not change the result.
        kept = sorted(kept, key=lambda candidate: -candidate[0])[:limit]
    boxes = np.array([box for *_, box, _ in kept], dtype=np.float32).reshape(-1, 4)
    return Candidates(
        patches=tuple(patch for *_, patch in kept),
        corners=np.maximum(boxes[:, [1, 0]].astype(np.int64) - 1, 0),
        boxes=boxes,
        iou=np.array([candidate[0] for candidate in kept]),
        stability=np.array([candidate[1] for candidate in kept]),
        area=np.array([candidate[2] for candidate in kept]),
        stride=(size[0] / grid[0], size[1] / grid[1]),
        size=size,
        n_prompted=n_prompted,
        largest_iou=max(largest, default=None),
    )


def suppress(boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], threshold: float) -> np.ndarray:
    """Return the indices that non-maximum suppression of boxes keeps, best score first."""
    return nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores).float(), threshold).numpy()


def paint(candidates: Candidates, order: Int[np.ndarray, " k"], *, visible: float) -> Int[np.ndarray, "h w"]:
    """Return the label map of some candidates; a pixel of several masks belongs to the earliest in `order`.

    Args:
        candidates: of one image.
        order: indices; those of a mask come before those of the masks that it covers.
        visible: a mask is dropped if the masks before it leave less than this share of it.
    """
    height, width = candidates.size
    label_map, count = np.zeros((height, width), np.int32), 0
    for index in order:
        patch = candidates.patches[index]
        rows, y, y_share = _positions(len(patch), candidates.corners[index, 0], candidates.stride[0], height)
        columns, x, x_share = _positions(len(patch[0]), candidates.corners[index, 1], candidates.stride[1], width)
        tall = patch[y] * (1 - y_share[:, None]) + patch[y + 1 - (y + 1 == len(patch))] * y_share[:, None]
        fine = tall[:, x] * (1 - x_share) + tall[:, x + 1 - (x + 1 == len(patch[0]))] * x_share
        mask = fine > _ZERO - 0.5
        window = label_map[rows, columns]
        free = mask & (window == 0)
        n_free = np.count_nonzero(free)
        if n_free and n_free >= visible * np.count_nonzero(mask):
            count += 1
            window[free] = count
    return label_map


def _positions(
    length: int, corner: int, stride: float, side: int
) -> tuple[slice, Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return where a patch lies along one axis, for bilinear interpolation as by `interpolate(align_corners=False)`.

    Returns:
        The image's pixels that the patch covers; for each, the patch's pixel before it and the weight of the next one.
    """
    first = max(0, int(np.floor(corner * stride)))
    last = min(side, int(np.ceil((corner + length) * stride)))
    position = np.clip((np.arange(first, last) + 0.5) / stride - 0.5 - corner, 0, length - 1)
    before = position.astype(np.int64)
    return slice(first, last), before, (position - before).astype(np.float32)
