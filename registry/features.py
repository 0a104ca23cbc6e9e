"""Feature maps of images by their stride, and images with embeddings that were computed before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Early = dict[int, Tensor]
"""Early feature maps by stride. An encoder that has some takes such a dictionary in its `forward`, and fills it."""


@dataclass(frozen=True, eq=False)  # tensors are not compared to one truth value
class Features(Mapping[int, Tensor]):
    """Feature maps of a batch of images: stride to map (b, c, h/stride, w/stride), the finest first.

    Attributes:
        image: the images as the encoder takes them, scaled and normalised, (b, 3, h, w).
        maps: the last one is the embedding.
    """

    image: Float[Tensor, "b 3 h w"]
    maps: Mapping[int, Tensor]

    @property
    def embedding(self) -> Float[Tensor, "b 256 h/s w/s"]:
        """Return the map of the largest stride, which is what `Sam.encode` returns."""
        return self.maps[max(self.maps)]

    def __getitem__(self, stride: int) -> Tensor:
        return self.maps[stride]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.maps))

    def __len__(self) -> int:
        return len(self.maps)


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """Images with their embeddings, for a decoder that reads both; sliced and moved as a tensor is.

    Attributes:
        images: RGB in [0, 1], as `Sam.encode` takes them.
        embeddings: as `Sam.encode` returned them.
    """

    images: Float[Tensor, "b 3 h w"]
    embeddings: Float[Tensor, "b 256 h/s w/s"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> EmbeddedImages:
        return EmbeddedImages(self.images[part], self.embeddings[part])

    def to(self, *args: object, **kwargs: object) -> EmbeddedImages:
        """Return both on another device; arguments are those of `Tensor.to`."""
        return EmbeddedImages(self.images.to(*args, **kwargs), self.embeddings.to(*args, **kwargs))  # type: ignore[call-overload]

    def pin_memory(self) -> EmbeddedImages:
        """Return both in memory from which a GPU copies at once."""
        return EmbeddedImages(self.images.pin_memory(), self.embeddings.pin_memory())
