"""Training batches of embeddings in place of images. Every sample is a pure function of (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.training import variants
from bench.training.data import Image, batch_keys, ignore_signals
from bench.training.embeddings import Embeddings
from bench.training.variants import Variant
from registry.features import EmbeddedImages


@dataclass(frozen=True)
class EmbeddedBatch:
    """Embeddings (b, 256, h, w) that stand for the images of an optimiser step, and the targets (b, c, t, t).

    With them come the images where the decoder reads both (see `registry.sam.Sam.branch`).
    """

    images: Float[Tensor, "b 256 h w"] | EmbeddedImages
    targets: Float[Tensor, "b c t t"]


class _Sample(NamedTuple):
    """A sample as prepared; `tile` is its image where the embedding is not cached yet, or the decoder reads it."""

    digest: str
    variant: Variant
    embedding: Tensor | None
    tile: Tensor | None
    targets: Tensor


@dataclass(frozen=True)
class Preparation:
    """Preparation of samples, which processes of a loader can do: reading, cutting, turning; no encoding.

    Attributes:
        images: the training images.
        digests: of their pixels (see `bench.training.variants.pixels_digest`).
        targets: the head's targets of a label map.
        embeddings: where cached ones are read.
        seed, augment, stain_variants: as in `bench.grid.TrainSettings`.
        target_side: side of the targets in pixels.
    """

    images: Sequence[Image]
    digests: Sequence[str]
    targets: Callable[[Int[np.ndarray, "t t"]], Float[np.ndarray, "c t t"]]
    embeddings: Embeddings
    seed: int
    augment: bool
    stain_variants: int
    target_side: int

    def __getitem__(self, key: tuple[int, int, int]) -> _Sample:
        """Return the sample at (epoch, position in the epoch, number of the image)."""
        epoch, position, index = key
        image, digest = self.images[index], self.digests[index]
        size, scale = self.embeddings.image_size, self.embeddings.scale
        variant = variants.draw(
            np.random.default_rng([self.seed, epoch, 1, position]),
            tiles=variants.tile_count(*image.label_map.shape, image_size=size, scale=scale),
            stain_variants=self.stain_variants,
            augment=self.augment,
        )
        embedding = self.embeddings.read(digest, variant)
        needs_tile = embedding is None or self.embeddings.encoder.branch is not None
        tile = self.embeddings.tile(image.pixels, digest, variant) if needs_tile else None
        label_map = variants.turned(image.label_map, variant.turn)
        labels = variants.tile_labels(label_map, variant.tile, image_size=size, scale=scale, side=self.target_side)
        return _Sample(digest, variant, embedding, tile, torch.from_numpy(self.targets(labels)))


def embedded_batches(
    images: Sequence[Image],
    targets: Callable[[Int[np.ndarray, "t t"]], Float[np.ndarray, "c t t"]],
    embeddings: Embeddings,
    *,
    first_step: int,
    epochs: int,
    batch_size: int,
    target_side: int,
    seed: int,
    augment: bool,
    stain_variants: int,
    workers: int = 0,
) -> Iterator[EmbeddedBatch]:
    """Yield the batches of a training from `first_step` (optimiser steps since its start) to its end.

    An epoch has as many samples of each image as one of `bench.training.data.batches`, in the same order. What is not
    cached yet is encoded when its batch is due.

    Args:
        images: the training images.
        targets: the head's targets of a label map.
        embeddings: of the run.
        workers: processes that prepare samples; they change nothing but speed.
    """
    digests = [variants.pixels_digest(image.pixels) for image in images]
    preparation = Preparation(images, digests, targets, embeddings, seed, augment, stain_variants, target_side)
    size, scale = embeddings.image_size, embeddings.scale
    keys = batch_keys(images, epochs=epochs, batch_size=batch_size, seed=seed, image_size=size, scale=scale)
    loader: torch.utils.data.DataLoader[list[_Sample]] = torch.utils.data.DataLoader(
        preparation,  # type: ignore[arg-type]  # a Dataset by its method; that class would only add a name
        batch_sampler=keys[first_step:],
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # its own: the global one must not depend on how often training was resumed
    )
    for prepared in loader:
        embedded = torch.stack([_embedding(sample, embeddings) for sample in prepared])
        given: Tensor | EmbeddedImages = embedded
        if embeddings.encoder.branch is not None:
            tiles = [sample.tile for sample in prepared if sample.tile is not None]
            given = EmbeddedImages(torch.stack(tiles), embedded)
        targets_of_all = torch.stack([sample.targets for sample in prepared])
        if torch.cuda.is_available():
            given, targets_of_all = given.pin_memory(), targets_of_all.pin_memory()
        yield EmbeddedBatch(given, targets_of_all)


def _embedding(sample: _Sample, embeddings: Embeddings) -> Tensor:
    embeddings.n_read += sample.embedding is not None
    embeddings.n_computed += sample.embedding is None
    if sample.embedding is not None:
        return sample.embedding
    assert sample.tile is not None
    return embeddings.compute(sample.digest, sample.variant, sample.tile)
