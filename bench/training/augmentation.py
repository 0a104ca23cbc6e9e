"""Augmentations that nuclei segmentation commonly has beyond turns, stain and magnification: ``train.augmentation``.

Kinds and probabilities of blur, noise, zoom blur and elastic deformation are those with which CellViT was trained
(Hörst et al., Medical Image Analysis 94:103143, 2024; the configurations of its repository TIO-IKIM/CellViT). Its
colour jitter is replaced by a stronger stain jitter; its superpixels and downscaling are left out. The deformation is
that of U-Net (Ronneberger et al. 2015, section 3.1). All lengths are in pixels of the image.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

Augmentation = Literal["basic", "cellvit"]
STRONGER_STAIN = 2.0
"""Factor of ``train.stain_jitter``."""
P_ELASTIC, P_BLUR, P_ZOOM, P_NOISE = 0.2, 0.2, 0.1, 0.25
LARGEST_SIGMA = 2.0
"""Of the Gaussian blur, in pixels."""
LARGEST_ZOOM = 1.05
ZOOMED_COPIES = 4
LARGEST_VARIANCE = 50.0
"""Of the noise, in grey values of 255, the same for all channels."""
NODE_DISTANCE, NODE_SHIFT = 64, 4.0
"""Distance of the nodes of the deformation, and the standard deviation of their shift along each axis."""


def deformed(
    pixels: UInt8[np.ndarray, "h w 3"], label_map: Int[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], Int[np.ndarray, "h w"]]:
    """Return an image and its labels, with `P_ELASTIC` deformed together: pixels bilinearly, labels by the nearest.

    Nodes of a coarse grid are shifted at random, and what lies between them by cubic splines; beyond its edges the
    image is mirrored.
    """
    from scipy import ndimage

    if rng.random() >= P_ELASTIC:
        return pixels, label_map
    height, width = label_map.shape
    positions = np.indices((height, width), np.float32) + _shifts(height, width, rng)
    channels = [
        ndimage.map_coordinates(pixels[..., channel], positions, np.float32, order=1, mode="mirror")
        for channel in range(3)
    ]
    labels = ndimage.map_coordinates(label_map, positions, order=0, mode="mirror")
    return np.stack(channels, axis=-1).round().astype(np.uint8), labels


def degraded(pixels: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image, with `P_BLUR`, `P_ZOOM` and `P_NOISE` blurred, blurred away from its centre, made noisy."""
    from scipy import ndimage

    blurs, zooms, is_noisy = rng.random(3) < (P_BLUR, P_ZOOM, P_NOISE)
    sigma, zoom, variance = rng.random(3) * (LARGEST_SIGMA, LARGEST_ZOOM - 1, LARGEST_VARIANCE)
    if not (blurs or zooms or is_noisy):
        return pixels
    values = pixels.astype(np.float32)
    if blurs:
        values = ndimage.gaussian_filter(values, (sigma, sigma, 0), truncate=3.0)
    if zooms:
        values = _zoom_blurred(values, 1 + zoom)
    if is_noisy:
        values = values + rng.standard_normal(values.shape, np.float32) * np.float32(np.sqrt(variance))
    return np.clip(values, 0, 255).round().astype(np.uint8)


def _shifts(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "2 h w"]:
    """Return random shifts of all pixels along both axes: splines through those of the nodes."""
    from scipy.interpolate import RectBivariateSpline

    counts = [max(4, 2 + length // NODE_DISTANCE) for length in (height, width)]  # a cubic spline needs four
    rows, columns = (NODE_DISTANCE * np.arange(count) for count in counts)
    splines = [RectBivariateSpline(rows, columns, shifts) for shifts in rng.normal(0.0, NODE_SHIFT, (2, *counts))]
    return np.stack([spline(np.arange(height), np.arange(width)) for spline in splines]).astype(np.float32)


def _zoom_blurred(values: Float[np.ndarray, "h w 3"], zoom: float) -> Float[np.ndarray, "h w 3"]:
    """Return the mean of an image and of copies of it that are enlarged about its centre, up to a factor."""
    import torch

    from bench.training.tiling import resize

    height, width = values.shape[:2]
    image = torch.from_numpy(values).permute(2, 0, 1)[None]
    total = image
    for step in range(1, ZOOMED_COPIES + 1):
        factor = 1 + (zoom - 1) * step / ZOOMED_COPIES
        # An even number of rows and columns is added, so that the centre stays.
        tall, wide = (length + 2 * round(length * (factor - 1) / 2) for length in (height, width))
        top, left = (tall - height) // 2, (wide - width) // 2
        total = total + resize(image, tall, wide)[..., top : top + height, left : left + width]
    return (total / (ZOOMED_COPIES + 1))[0].permute(1, 2, 0).numpy()
