"""Head `distance` with a high-resolution branch in the mask decoder, which reads the image and early features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from registry.contract import LabelMap
from registry.heads import distance, register

if TYPE_CHECKING:
    from torch import Tensor

    from registry.sam import Sam

NAME = "distance_hr"


@dataclass(frozen=True)
class DistanceHr:
    """Targets, loss and instances of `distance`, on logits of a decoder that sees more than the embedding.

    An embedding has a cell for 16 × 16 pixels in most models, a nucleus is 10 to 40 pixels wide. The branch
    (`registry.modules.high_resolution`) starts at zero: before training the logits are those of `distance`.

    Attributes:
        base: gives everything but the branch.
    """

    base: distance.Distance
    name: str = NAME
    summary: str = "as distance, with an image stem and early features added to the decoder's upscaled channels"
    dense: bool = True

    @property
    def channels(self) -> tuple[int, ...]:
        return self.base.channels

    @property
    def defaults(self) -> Mapping[str, float]:
        return self.base.defaults

    @property
    def search(self) -> Mapping[str, tuple[float, ...]]:
        return self.base.search

    @property
    def starts(self) -> tuple[Mapping[str, float], ...]:
        return self.base.starts

    def attach(self, sam: Sam) -> None:
        """Give the mask decoder its high-resolution branch, in place; raises `ValueError` if it has one."""
        from registry.modules import high_resolution

        high_resolution.attach(sam)

    def targets(self, label_map: LabelMap) -> Float[np.ndarray, "3 h w"]:
        """Return the targets of `distance`."""
        return self.base.targets(label_map)

    def loss(self, logits: Float[Tensor, "b 3 h w"], targets: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Return the loss of `distance`."""
        return self.base.loss(logits, targets)

    def loss_terms(
        self, logits: Float[Tensor, "b 3 h w"], targets: Float[Tensor, "b 3 h w"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """Return the terms of the loss of `distance`."""
        return self.base.loss_terms(logits, targets)

    def instances(self, logits: Any, **parameters: float) -> LabelMap:
        """Return the instances of `distance`."""
        return self.base.instances(logits, **parameters)

    def prepare(self, logits: Any) -> Callable[..., LabelMap]:
        """Return `instances` of one image as a function of the parameters."""
        return self.base.prepare(logits)


register(DistanceHr(base=replace(distance.HEAD, name=NAME)))
