"""Evidence for a PQ of zero: numbers of the raw predictions of a test fold, which tell why nothing may be found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.hints import is_zero

if TYPE_CHECKING:
    from bench.training.split import Split
    from registry.contract import Head


@dataclass
class Evidence:
    """Numbers of each raw prediction, taken as it passes: no image is predicted twice, and nothing is chosen by them.

    Attributes:
        head: of the model.
        chosen: parameters of its post-processing.
        numbers: of the images so far.
    """

    head: Head
    chosen: Mapping[str, float]
    numbers: list[dict[str, float]] = field(default_factory=list)

    def following(self, predict: Callable[..., Any]) -> Callable[..., Any]:
        """Return `predict`, whose results are noted."""

        def noted(pixels: Any) -> Any:
            raw = predict(pixels)
            self.numbers.append(self._numbers(raw))
            return raw

        return noted

    def block(self, rows: Sequence[Mapping[str, Any]], parts: Split, *, refit: bool) -> dict[str, Any]:
        """Return ``zero_pq`` for a record's block ``scores``; nothing where the mean PQ is not zero.

        Its keys: ``n_images``, ``n_pred``, ``n_training_images``; ``largest_foreground``, a probability, of heads with
        that threshold; of a head that prompts the model ``n_prompted`` (masks of all images), ``n_kept`` (those above
        the loosest thresholds), ``n_passed`` (those of them above the chosen ones), ``largest_iou``, as predicted, and
        the loosest thresholds themselves.

        Args:
            rows: scores of the test images.
            parts: the images of the run.
            refit: the validation images were trained on, too.
        """
        if not is_zero(float(np.mean([row["pq"] for row in rows]))):
            return {}
        known = {name for numbers in self.numbers for name in numbers}
        merged = {
            name: (max if name.startswith("largest") else sum)(numbers[name] for numbers in self.numbers)
            for name in sorted(known)
        }
        loosest = {
            f"loosest_{name}": min(self.head.search[name]) for name in ("iou", "stability") if "n_prompted" in known
        }
        n_train = len(parts.train) + (len(parts.validation) if refit else 0)
        n_pred = int(sum(row["n_pred"] for row in rows))
        counts = {"n_images": len(rows), "n_pred": n_pred, "n_training_images": n_train}
        return {"zero_pq": {**counts, **merged, **loosest}}

    def _numbers(self, raw: Any) -> dict[str, float]:
        if self.head.dense:
            # The first map of every head with a threshold `foreground` is the foreground.
            if "foreground" not in self.head.defaults:
                return {}
            return {"largest_foreground": 0.5 * (1 + math.tanh(float(raw[0].max()) / 2))}
        is_known = {"iou", "stability"} <= self.chosen.keys() and {"iou", "stability"} <= self.head.search.keys()
        if not is_known or getattr(raw, "largest_iou", None) is None:  # a head of somebody else's
            return {}
        passed = (raw.iou >= self.chosen["iou"]) & (raw.stability >= self.chosen["stability"])
        return {
            "n_prompted": raw.n_prompted,
            "n_kept": len(raw.iou),
            "n_passed": int(np.count_nonzero(passed)),
            "largest_iou": float(raw.largest_iou),
        }
