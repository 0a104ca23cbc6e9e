"""SAM's automatic mask generation on any backbone: a grid of points, filters, non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from registry.contract import LabelMap
from registry.errors import StrategyError
from registry.heads import register

if TYPE_CHECKING:
    from torch import Tensor

    from registry.modules.mask_candidates import Candidates
    from registry.sam import Sam

_DEFAULTS = MappingProxyType(
    {"iou": 0.88, "stability": 0.95, "max_area": 0.1, "nms": 0.7, "min_area": 1e-4, "visible": 0.5, "order": 0.0}
)
_SEARCH = MappingProxyType(
    {
        "iou": (0.5, 0.6, 0.7, 0.8, 0.88, 0.92),
        "stability": (0.5, 0.7, 0.8, 0.9, 0.95),
        "max_area": (0.01, 0.02, 0.05, 0.1, 0.25),
        "nms": (0.3, 0.5, 0.7),
        "min_area": (0.0, 1e-4, 3e-4),
        "order": (0.0, 1.0),
    }
)
_STARTS: tuple[Mapping[str, float], ...] = (
    {"order": 1.0},
    {"iou": 0.7, "stability": 0.8, "max_area": 0.05},
    {"iou": 0.5, "stability": 0.5, "max_area": 0.02, "order": 1.0},
)


@dataclass(frozen=True)
class Everything:
    """SAM's automatic masks: this head prompts the model itself and can't be trained.

    The steps and their defaults (32 points per side, predicted IoU 0.88, stability 0.95 at ±1 logit, box NMS
    0.7, the three multi-masks) are those of `SamAutomaticMaskGenerator` (facebookresearch/segment-anything),
    without crop layers. Differences: stability and boxes are measured on the low-resolution logits, and masks too
    large for a nucleus are dropped, because on tissue SAM often segments the background. `SamAutomaticMaskGenerator`
    returns masks that overlap, and says nothing of a pixel of several; its example draws the largest first, so that
    the smallest are on top, as with `order` 1. Which order makes the label map is chosen on validation images.

    Parameters of `instances`:
        iou: smallest predicted IoU.
        stability: smallest stability.
        max_area: largest mask, as a share of the image.
        nms: of two boxes whose IoU is above this, the mask of lower predicted IoU is dropped.
        min_area: smallest mask, as a share of the image.
        visible: a mask is dropped if those before it leave less than this share of it.
        order: 0: a pixel of several masks belongs to the mask of the highest predicted IoU; 1: to the smallest, so that
            a mask of a region takes no pixel of the nuclei inside it.
    """

    defaults: Mapping[str, float]
    search: Mapping[str, tuple[float, ...]]
    starts: tuple[Mapping[str, float], ...] = _STARTS
    name: str = "everything"
    summary: str = "SAM's automatic mask generation: point grid, IoU and stability filters, NMS; no training"
    channels: tuple[int, ...] = (1, 2, 3)
    dense: bool = False

    def candidates(
        self,
        sam: Sam,
        image: Float[Tensor, "3 s s"],
        *,
        size: tuple[int, int] | None = None,
        valid: tuple[int, int] | None = None,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        limit: int = 1024,
    ) -> Candidates:
        """Return all masks of one image that some choice of parameters may keep.

        Memory is bounded: masks are filtered at the loosest values of `search`, and at most `limit` of them are kept,
        each as uint8 in its bounding box at the resolution of the logits. A batch of 64 points holds 64 × 4
        logits maps.

        Args:
            sam: the model.
            image: RGB in [0, 1] on the model's device, padded to its input size on the right and below.
            size: (h, w) of the label map in pixels; that of the valid part by default.
            valid: (h, w) of the part of `image` that is no padding; all of it by default.
            points_per_side: points along each side of the grid.
            points_per_batch: points decoded at once.
            limit: largest number of masks; those of the best predicted IoU are kept.
        """
        import torch

        from registry.modules.mask_candidates import collect, prompt_grid

        height, width = (int(side) for side in (image.shape[-2:] if valid is None else valid))
        with torch.inference_mode():
            batches = prompt_grid(
                sam,
                image,
                valid=(height, width),
                tokens=self.channels,
                points_per_side=points_per_side,
                points_per_batch=points_per_batch,
            )
            return collect(
                batches,
                size=(height, width) if size is None else (int(size[0]), int(size[1])),
                grid=(height * sam.card.logits_per_pixel, width * sam.card.logits_per_pixel),
                offset=1.0,
                min_iou=min(self.search["iou"]),
                min_stability=min(self.search["stability"]),
                max_area=max(self.search["max_area"]),
                limit=limit,
            )

    def targets(self, label_map: LabelMap) -> Float[np.ndarray, "c h w"]:
        """Raises `StrategyError`: there is nothing to train."""
        raise StrategyError(_UNTRAINABLE)

    def loss(self, logits: Float[Tensor, "b c h w"], targets: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Raises `StrategyError`: there is nothing to train."""
        raise StrategyError(_UNTRAINABLE)

    def instances(self, logits: Any, **parameters: float) -> LabelMap:
        """Return the label map of the masks that `candidates` returned; see the class for the parameters.

        Raises:
            StrategyError: logits instead of candidates, or an unknown parameter.
        """
        from registry.modules.mask_candidates import Candidates, paint, suppress
        from registry.modules.parameters import complete

        if not isinstance(logits, Candidates):
            raise StrategyError(
                f"head 'everything' reads masks of its candidates(), not {type(logits).__name__}; "
                "for logits of a trained model use the head 'distance' or 'watershed'."
            )
        p, masks = complete(self.name, self.defaults, parameters), logits
        good = np.flatnonzero(
            (masks.iou >= p["iou"])
            & (masks.stability >= p["stability"])
            & (masks.area >= p["min_area"])
            & (masks.area <= p["max_area"])
        )
        order = good[suppress(masks.boxes[good], masks.iou[good], p["nms"])]
        if p["order"]:
            order = order[np.argsort(masks.area[order], kind="stable")]
        return paint(masks, order, visible=p["visible"])


_UNTRAINABLE = (
    "head 'everything' prompts SAM with a grid of points and can't be trained; run it with the strategy "
    "'zero_shot', or train with the head 'distance' or 'watershed'."
)

register(Everything(defaults=_DEFAULTS, search=_SEARCH))
