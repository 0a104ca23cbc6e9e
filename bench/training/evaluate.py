"""Predictions → per-image scores. Images are scored at their own resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8

from bench import metrics
from bench.training import tiling

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from registry.contract import Head
    from registry.sam import Sam

LabelMap = Int[np.ndarray, "h w"]

SCORES = ("dice", "aji", "aji_plus", "pq", "sq", "dq", "f1", "precision", "recall")


class Image(Protocol):
    """What scoring needs of an image (see `bench.training.data.Image`)."""

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
    """What `head.instances` reads: logits (c, h, w) at the image's resolution, or a prompting head's candidates."""
    import torch

    device = next(sam.parameters()).device
    height, width = pixels.shape[:2]
    if head.dense:
        with torch.inference_mode(), autocast():
            return dense_logits(sam, pixels, channels=head.channels, scale=scale, device=device).cpu()
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
    """Prompt-less logits of some mask tokens at the image's own resolution, blended over overlapping tiles."""
    import torch

    size = sam.image_size
    height, width = pixels.shape[:2]
    factor = tiling.scale_for(height, width, image_size=size, scale=scale)
    scaled_height, scaled_width = max(1, round(height * factor)), max(1, round(width * factor))
    resized = tiling.resize(tiling.to_tensor(pixels).to(device), scaled_height, scaled_width).clamp(0, 1)
    padded = tiling.pad(resized, size)
    total = torch.zeros(len(channels), *padded.shape[-2:], device=device)
    weight = torch.zeros(padded.shape[-2:], device=device)
    # Every tile counts most where it sees most context; the ramp never reaches 0, so corners keep a vote.
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
    """Choose post-processing parameters on validation images: one parameter after the other, best mean `key`.

    Returns:
        The parameters, and the mean scores they reach.
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
    """Mean scores of raw predictions under some post-processing parameters; `raw` may be made as it is read."""
    return mean(
        metrics.score(t, head.instances(r, **parameters), aji_plus=False) for t, r in zip(true, raw, strict=True)
    )


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Unweighted mean over images of every score that the rows hold."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in SCORES if name in rows[0]}


def score_images(
    images: Sequence[Image],
    predict: Callable[[UInt8[np.ndarray, "h w 3"]], LabelMap],
    *,
    fold: int,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], dict[str, LabelMap]]:
    """Predict and score each image of a test fold, once.

    Returns:
        One row per image (stem, organ, fold, scores, counts), and the predicted label maps by stem.
    """
    rows, predictions = [], {}
    for done, image in enumerate(images):
        label_map = predict(image.pixels)
        scores = metrics.score(image.label_map, label_map)
        rows.append({"stem": image.stem, "organ": image.organ, "fold": fold, **scores})
        predictions[image.stem] = label_map
        progress(done + 1)
    return rows, predictions


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A record's block ``scores``: means over images, counts, and the pooled values beside them."""
    pooled = metrics.pool(rows)
    return {
        **mean(rows),
        "n_images": len(rows),
        "n_true": int(sum(row["n_true"] for row in rows)),
        "n_pred": int(sum(row["n_pred"] for row in rows)),
        **pooled,
    }
