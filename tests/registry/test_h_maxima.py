"""H-maxima against those of scikit-image, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import morphology

from registry.modules.h_maxima import h_maxima, peaks


def plain(image: np.ndarray, h: float) -> np.ndarray:
    return morphology.h_maxima(image, h) > 0


def clustered(seed: int, side: int = 96, count: int = 60) -> np.ndarray:
    """Foreground of overlapping discs with noise at their edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), bool)
    for cy, cx, radius in zip(*rng.uniform([[0], [0], [2]], [[side], [side], [9]], (3, count)), strict=True):
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return mask ^ (rng.random(mask.shape) < 0.01)


def test_maximum_that_falls_less_than_h_towards_a_higher_one_is_none():
    image = np.array([[0.0, 3.0, 2.0, 5.0, 0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(h_maxima(image, 1.0), [[False, True, False, True, False, True, False]])
    np.testing.assert_array_equal(h_maxima(image, 1.5), [[False, False, False, True, False, False, False]])


def test_height_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="h-maxima of height 0 are not defined; allowed are heights above 0"):
        h_maxima(np.eye(3), 0.0)


# Few values make plateaus and ties; tiny steps are below the tolerance for rounding.
HEIGHTS = st.sampled_from([0.0, 0.1, 0.1 + 3e-17, 0.1 + 2e-16, 0.2, 0.3, 1.0, 1.0 + 4e-16, 2.0])


@settings(max_examples=120, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=HEIGHTS),
    st.sampled_from([1e-16, 0.05, 0.1, 0.2, 0.9, 1.0, 1.9, 2.0, 3.0]),
)
def test_maxima_of_small_images_are_those_of_scikit_image(image, h):
    np.testing.assert_array_equal(h_maxima(image, h), plain(image, h))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.5])
def test_maxima_of_dense_distance_maps_are_those_of_scikit_image(seed, sigma):
    distance = ndimage.distance_transform_edt(clustered(seed))
    image = ndimage.gaussian_filter(distance, sigma) if sigma else distance
    shared = peaks(image)
    for h in (0.05, 0.3, 1.0):
        expected = plain(image, h)
        assert expected.any()
        np.testing.assert_array_equal(h_maxima(image, h), expected)
        np.testing.assert_array_equal(h_maxima(shared, h), expected)


def test_maxima_of_symmetric_heights_are_those_of_scikit_image():
    image = ndimage.gaussian_filter(ndimage.distance_transform_edt(clustered(9)), 1.0)
    image = image + image[::-1]
    image = image + image[:, ::-1]
    np.testing.assert_array_equal(h_maxima(image, 0.4), plain(image, 0.4))
