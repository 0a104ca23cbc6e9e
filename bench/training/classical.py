"""Classical pipeline: segmentation without learning, a reference row in every table."""

from __future__ import annotations

import numpy as np
import skimage  # loads its parts when they are used, which a run of a model never does
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from registry.modules.h_maxima import h_maxima

# Fixed and coarse on purpose: tuned on the images that it is scored on, it would no longer be a reference.
STAIN_SIGMA_PX = 1.0
MIN_AREA_PX = 30
DISTANCE_SIGMA_PX = 1.0
SEED_DEPTH_PX = 0.75


def segment(image: UInt8[np.ndarray, "h w 3"]) -> Int[np.ndarray, "h w"]:
    """Separate the haematoxylin, threshold it by Otsu's method, and split touching nuclei by a watershed.

    Colour deconvolution after Ruifrok and Johnston (Anal. Quant. Cytol. Histol. 23:291, 2001), as
    scikit-image has it; seeds are the h-maxima of the smoothed distance transform. No training: the
    parameters are the same for every image.

    Args:
        image: RGB, 0–255.

    Returns:
        int32 label map, nuclei numbered from 1; all 0 for an image without contrast.

    Raises:
        ValueError: anything but an 8-bit RGB image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"the classical pipeline was given {image.dtype} of shape {image.shape}; it takes uint8 RGB of "
            "shape (h, w, 3): read the image through its dataset."
        )
    foreground = _foreground(skimage.color.rgb2hed(image)[..., 0])
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    distance = skimage.filters.gaussian(ndimage.distance_transform_edt(foreground), DISTANCE_SIGMA_PX)
    seeds, _ = ndimage.label(h_maxima(distance, SEED_DEPTH_PX))
    return skimage.segmentation.watershed(-distance, seeds, mask=foreground).astype(np.int32)


def _foreground(haematoxylin: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    smooth = skimage.filters.gaussian(haematoxylin, STAIN_SIGMA_PX)
    # Rounding leaves traces of contrast on a flat image, which Otsu's method would still threshold.
    if np.ptp(smooth) < 1e-6:
        return np.zeros(smooth.shape, bool)
    filled = ndimage.binary_fill_holes(smooth > skimage.filters.threshold_otsu(smooth))
    components, _ = ndimage.label(filled)
    keep = np.bincount(components.ravel()) >= MIN_AREA_PX
    keep[0] = False
    return keep[components]
