"""Decoded images, and training batches of them. Every sample is a pure function of (seed, epoch, position)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from bench.training import augmentation as augmentations
from bench.training import tiling
from bench.training.augmentation import Augmentation
from registry.contract import Dataset, Sample
from registry.errors import DataError
from registry.resampling import sample_labels, whole

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Image:
    """A decoded image of a dataset: RGB uint8 (h, w, 3) and its int32 label map (h, w)."""

    stem: str
    organ: str
    group: str
    pixels: UInt8[np.ndarray, "h w 3"]
    label_map: Int[np.ndarray, "h w"]


@dataclass(frozen=True)
class Batch:
    """Inputs of one optimiser step (b, 3, s, s) in [0, 1], and the head's targets (b, c, t, t)."""

    images: Float[Tensor, "b 3 s s"]
    targets: Float[Tensor, "b c t t"]


def load(dataset: Dataset, samples: Sequence[Sample]) -> dict[str, Image]:
    """Decode samples.

    Returns:
        Images by stem, in the order of the samples.

    Raises:
        DataError: files that can't be used; the first five are named.
    """
    images, problems = {}, []
    for sample in samples:
        try:
            pixels, label_map = dataset.read(sample)
        except DataError as error:
            problems.append(str(error))
        else:
            images[sample.stem] = Image(sample.stem, sample.organ, sample.group, pixels, label_map)
    if problems:
        shown = " ".join(problems[:5]) + (f" And {len(problems) - 5} more." if len(problems) > 5 else "")
        raise DataError(
            f"{len(problems)} of {len(samples)} images can't be used; `bench data check` lists them. {shown}"
        )
    return images


def stain_jitter(
    pixels: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Scale and shift the haematoxylin, eosin and residual stains (HED augmentation; Tellez et al. 2018).

    In optical density the change is a 3 × 3 matrix and an offset, so no stain image is computed.
    """
    from skimage.color import hed_from_rgb, rgb_from_hed

    factor = rng.uniform(1 - strength, 1 + strength, 3)
    offset = rng.uniform(-strength, strength, 3) * 0.1
    matrix = (hed_from_rgb * factor) @ rgb_from_hed
    density = -np.log((np.arange(256) + 1) / 256).astype(np.float32)
    changed = density[pixels] @ matrix.astype(np.float32) + (offset @ rgb_from_hed).astype(np.float32)
    return np.clip(256 * np.exp(-changed) - 1, 0, 255).round().astype(np.uint8)


def recoloured(
    pixels: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, *, strength: float, augmentation: Augmentation
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image with other stains; with ``cellvit`` they vary more, and it may be blurred and noisy."""
    if augmentation == "basic":
        return stain_jitter(pixels, rng, strength)
    stained = stain_jitter(pixels, rng, min(0.99, augmentations.STRONGER_STAIN * strength))
    return augmentations.degraded(stained, rng)


def training_sample(
    image: Image,
    *,
    rng: np.random.Generator,
    image_size: int,
    target_side: int,
    scale: float | None,
    augment: bool,
    stain_strength: float,
    scale_strength: float,
    augmentation: Augmentation = "basic",
) -> tuple[Float[Tensor, "3 s s"], Int[np.ndarray, "t t"]]:
    """Cut one square input, and its label map at the resolution of the targets (`registry.card.Card.target_side`).

    Where the square is larger than the image, the rest is padded as `evaluate` pads it.
    """
    height, width = image.label_map.shape
    factor = tiling.scale_for(height, width, image_size=image_size, scale=scale)
    if augment:
        factor *= float(np.exp(rng.uniform(-1, 1) * np.log1p(scale_strength)))
    side = max(1, round(image_size / factor))
    top, left = (int(rng.integers(0, max(0, length - side) + 1)) for length in (height, width))
    pixels = image.pixels[top : top + side, left : left + side]
    label_map = image.label_map[top : top + side, left : left + side]
    if augment and augmentation == "cellvit":
        pixels, label_map = augmentations.deformed(pixels, label_map, rng)
    if augment:
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        pixels, label_map = np.rot90(pixels, turns), np.rot90(label_map, turns)
        if mirror:
            pixels, label_map = pixels[:, ::-1], label_map[:, ::-1]
        pixels = recoloured(pixels, rng, strength=stain_strength, augmentation=augmentation)
    square = tiling.pad(tiling.to_tensor(pixels), side)
    labels = sample_labels(label_map, whole(side, target_side), whole(side, target_side))
    return tiling.resize(square, image_size, image_size)[0].clamp(0, 1), labels


def plain_batch(image: Image, *, image_size: int) -> Batch:
    """Return a batch of a whole image without augmentation, with zeros (one channel) for targets."""
    import torch

    inputs, label_map = training_sample(
        image,
        rng=np.random.default_rng(0),
        image_size=image_size,
        target_side=image_size,
        scale=None,
        augment=False,
        stain_strength=0.0,
        scale_strength=0.0,
    )
    return Batch(inputs[None], torch.zeros(1, 1, *label_map.shape))


def epoch_order(images: Sequence[Image], *, seed: int, epoch: int, image_size: int, scale: float | None) -> list[int]:
    """Return the indices of the images in the order of an epoch; an image that fills n inputs occurs n times."""
    counts = [tiling.tiles_per_image(*image.label_map.shape, image_size=image_size, scale=scale) for image in images]
    indices = np.repeat(np.arange(len(images)), counts)
    return [int(i) for i in np.random.default_rng([seed, epoch, 0]).permutation(indices)]


def batch_keys(
    images: Sequence[Image], *, epochs: int, batch_size: int, seed: int, image_size: int, scale: float | None
) -> list[list[tuple[int, int, int]]]:
    """Return for each batch of a training the epoch, the position in it, and the number of the image of its samples."""
    keys: list[list[tuple[int, int, int]]] = []
    for epoch in range(epochs):
        order = epoch_order(images, seed=seed, epoch=epoch, image_size=image_size, scale=scale)
        samples = [(epoch, position, index) for position, index in enumerate(order)]
        keys += [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    return keys


def batches(
    images: Sequence[Image],
    targets: Callable[[Int[np.ndarray, "t t"]], Float[np.ndarray, "c t t"]],
    *,
    first_step: int,
    epochs: int,
    batch_size: int,
    image_size: int,
    target_side: int,
    scale: float | None,
    seed: int,
    augment: bool,
    stain_jitter: float,
    scale_jitter: float,
    augmentation: Augmentation = "basic",
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of a training from `first_step` (optimiser steps since its start) to its end.

    Args:
        images: the training images.
        targets: the head's targets of a label map.
        workers: processes that prepare samples; they change nothing but speed, and rounding, since PyTorch resizes in
            one thread there.
    """
    import torch
    from torch.utils.data import DataLoader

    keys = batch_keys(images, epochs=epochs, batch_size=batch_size, seed=seed, image_size=image_size, scale=scale)

    class Samples(torch.utils.data.Dataset[tuple["Tensor", "Tensor"]]):
        def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
            epoch, position, index = key
            inputs, label_map = training_sample(
                images[index],
                rng=np.random.default_rng([seed, epoch, 1, position]),
                image_size=image_size,
                target_side=target_side,
                scale=scale,
                augment=augment,
                stain_strength=stain_jitter,
                scale_strength=scale_jitter,
                augmentation=augmentation,
            )
            return inputs, torch.from_numpy(targets(label_map))

    loader = DataLoader(
        Samples(),
        batch_sampler=keys[first_step:],
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # its own: the global one must not depend on how often training was resumed
    )
    for batch in loader:
        yield Batch(*batch)


def ignore_signals(_: int) -> None:
    """Let a process that prepares samples live until its parent has saved its state: signals reach the whole group."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def steps_per_epoch(images: Sequence[Image], *, batch_size: int, image_size: int, scale: float | None) -> int:
    """Return the number of optimiser steps in an epoch."""
    return -(-len(epoch_order(images, seed=0, epoch=0, image_size=image_size, scale=scale)) // batch_size)
