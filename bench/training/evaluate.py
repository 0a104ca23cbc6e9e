"""Predictions of a model and their scores per image, at the image's own resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from bench import metrics
from bench.errors import DivergedError
from bench.training import tiling
from registry.contract import LabelMap

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from registry.contract import Head
    from registry.sam import Sam

SCORES = ("dice", "aji", "aji_plus", "pq", "sq", "dq", "f1", "precision", "recall")


class LabelledImage(Protocol):
    """An image with its true label map (see `bench.training.data.Image`)."""

    @property
    def stem(self) -> str: ...
    @property
    def organ(self) -> str: ...
    @property
    def pixels(self) -> np.ndarray: ...
    @property
    def label_map(self) -> np.ndarray: ...


def raw_prediction(
    sam: Sam,
    head: Head,
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    scale: float | None,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Any:
    """Predict what `head.instances` takes: logits (c, h, w) at the image's resolution, or candidates to choose from.

    Raises:
        DivergedError: the logits are not finite.
    """
    import torch

    device = next(sam.parameters()).device
    height, width = pixels.shape[:2]
    if head.dense:
        with torch.inference_mode(), autocast():
            logits = dense_logits(sam, pixels, channels=head.channels, scale=scale, device=device).cpu()
        if not bool(torch.isfinite(logits).all()):
            raise DivergedError("the model predicts logits that are not finite; try a smaller train.lr.")
        return logits
    factor = tiling.scale_for(height, width, image_size=sam.image_size, scale=None)
    resized = tiling.resize(
        tiling.to_tensor(pixels).to(device), max(1, round(height * factor)), max(1, round(width * factor))
    )
    image = tiling.pad(resized, sam.image_size)[0].clamp(0, 1)
    with torch.inference_mode(), autocast():
        return head.candidates(  # type: ignore[attr-defined]  # prompting heads have it, see contract.Head.dense
            sam,
            image,
            size=(height, width),
            valid=resized.shape[-2:],
            points_per_side=max(1, min(32, sam.image_size // 32)),  # as dense as at SAM's own 1024 px
        )


def dense_logits(
    sam: Sam, pixels: UInt8[np.ndarray, "h w 3"], *, channels: Sequence[int], scale: float | None, device: torch.device
) -> Float[Tensor, "c h w"]:
    """Predict logits of mask tokens without prompts at the image's own resolution, blended over overlapping tiles."""
    import torch

    size = sam.image_size
    height, width = pixels.shape[:2]
    factor = tiling.scale_for(height, width, image_size=size, scale=scale)
    scaled_height, scaled_width = max(1, round(height * factor)), max(1, round(width * factor))
    resized = tiling.resize(tiling.to_tensor(pixels).to(device), scaled_height, scaled_width).clamp(0, 1)
    padded = tiling.pad(resized, size)
    total = torch.zeros(len(channels), *padded.shape[-2:], device=device)
    weight = torch.zeros(padded.shape[-2:], device=device)
    # A tile has more weight away from its edges, where it has more context; nowhere 0, so corners are covered too.
    ramp = torch.minimum(torch.arange(1, size + 1, device=device), torch.arange(size, 0, -1, device=device))
    window = torch.minimum(ramp[:, None], ramp[None, :]).clamp(max=size // 4).float()
    for top in tiling.tile_starts(padded.shape[-2], size, size // 4):
        for left in tiling.tile_starts(padded.shape[-1], size, size // 4):
            tile = padded[..., top : top + size, left : left + size]
            logits, _ = sam.decode(sam.encode(tile))
            upsampled = tiling.resize(logits[:, list(channels)].float(), size, size)[0]
            total[:, top : top + size, left : left + size] += upsampled * window
            weight[top : top + size, left : left + size] += window
    blended = (total / weight)[None, :, :scaled_height, :scaled_width]
    return tiling.resize(blended, height, width)[0]


def choose_parameters(
    raw: Sequence[Any], true: Sequence[LabelMap], head: Head, *, key: str = "pq"
) -> tuple[dict[str, float], dict[str, float]]:
    """Choose post-processing parameters on validation images, in turn, each by the best mean `key`.

    Returns:
        The parameters, and their mean scores.
    """
    chosen = dict(head.defaults)
    best = mean_scores(raw, true, head, chosen)
    for name, candidates in head.search.items():
        for value in candidates:
            if value == chosen[name]:
                continue
            scores = mean_scores(raw, true, head, {**chosen, name: value})
            if scores[key] > best[key]:
                chosen, best = {**chosen, name: value}, scores
    return chosen, best


def mean_scores(
    raw: Iterable[Any], true: Iterable[LabelMap], head: Head, parameters: Mapping[str, float]
) -> dict[str, float]:
    """Mean scores of raw predictions with these post-processing parameters; `raw` may be a generator."""
    pairs = zip(true, raw, strict=True)
    return mean(
        metrics.score(label_map, head.instances(prediction, **parameters), aji_plus=False)
        for label_map, prediction in pairs
    )


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Unweighted mean over images of every score in the rows."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in SCORES if name in rows[0]}


def score_images(
    images: Sequence[LabelledImage],
    predict: Callable[[UInt8[np.ndarray, "h w 3"]], LabelMap],
    *,
    fold: int,
    progress: Callable[[Mapping[str, int]], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], dict[str, LabelMap]]:
    """Predict and score each image of a test fold, once.

    Args:
        images: the test fold.
        predict: pixels to label map.
        fold: number of the fold, for the rows.
        progress: called after each image with its number and the number of images.

    Returns:
        A row per image (stem, organ, fold, scores, counts of nuclei and of errors), and the predicted label maps by
        stem.
    """
    rows, predictions = [], {}
    for number, image in enumerate(images, start=1):
        label_map = predict(image.pixels)
        scores = metrics.score(image.label_map, label_map, errors=True)
        rows.append({"stem": image.stem, "organ": image.organ, "fold": fold, **scores})
        predictions[image.stem] = label_map
        progress({"image": number, "images": len(images)})
    return rows, predictions


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a record's block ``scores``: means over images, counts, and pooled values."""
    pooled = metrics.pool(rows)
    return {
        **mean(rows),
        "n_images": len(rows),
        "n_true": int(sum(row["n_true"] for row in rows)),
        "n_pred": int(sum(row["n_pred"] for row in rows)),
        **pooled,
    }
