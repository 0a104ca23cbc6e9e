from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.morphology import h_maxima

from registry import heads
from registry.errors import StrategyError
from registry.modules.instance_targets import inner_boundary, interior_distance, interior_distance_of_each
from registry.modules.seeding import foreground_of, grow, probabilities, without_holes

DENSE = ("distance", "watershed")


def discs(*circles: tuple[float, float, float], side: int = 64) -> np.ndarray:
    """Label map of (y, x, radius) discs, numbered from 1."""
    y, x = np.mgrid[:side, :side]
    label_map = np.zeros((side, side), np.int32)
    for index, (cy, cx, radius) in enumerate(circles, start=1):
        label_map[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = index
    return label_map


def logits_of(targets: np.ndarray) -> np.ndarray:
    clipped = np.clip(targets, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))


def test_names_and_channels():
    assert {"distance", "everything", "watershed"} <= set(heads.names())
    assert heads.get("distance").channels == (1, 2, 3)
    assert heads.get("watershed").channels == (0,)
    assert [heads.get(name).dense for name in ("distance", "everything", "watershed")] == [True, False, True]


@pytest.mark.parametrize("name", ["distance", "everything", "watershed"])
def test_every_searched_parameter_has_a_default_among_its_candidates(name):
    head = heads.get(name)
    for parameter, candidates in head.search.items():
        assert head.defaults[parameter] in candidates


def test_heads_are_listed_without_torch():
    code = "import sys; from registry import heads; heads.names(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_interior_distance_of_hand_made_labels():
    label_map = np.zeros((7, 7), np.int32)
    label_map[1:6, 1:6] = 9  # the centre of a 5 × 5 square is 3 px from outside, its ring 2 px, its rim 1 px
    distance = interior_distance(label_map)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance[3], [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], rtol=1e-6)


def test_distance_of_touching_nuclei_is_measured_separately():
    label_map = np.zeros((5, 12), np.int32)
    label_map[:, 1:6], label_map[:, 6:11] = 1, 2
    np.testing.assert_allclose(interior_distance(label_map)[2, 1:11], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3] * 2, rtol=1e-6)


def test_a_nucleus_of_one_pixel_has_distance_1_and_ids_may_have_gaps():
    label_map = np.zeros((3, 3), np.int64)
    label_map[1, 1] = 2**31
    assert interior_distance(label_map)[1, 1] == 1.0
    label_map[:] = 2**31  # no background at all
    assert interior_distance(label_map).max() == 1.0
    assert interior_distance(np.zeros((3, 3), np.int32)).max() == 0.0


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_distances_of_all_nuclei_at_once_are_those_of_each_bit_for_bit(coarse, high, wide):
    label_map = np.kron(coarse, np.ones((high, wide), np.int32))
    np.testing.assert_array_equal(interior_distance(label_map), interior_distance_of_each(label_map))


@pytest.mark.parametrize("side", [127, 128, 129, 130, 131, 300])
def test_distances_of_nuclei_around_the_largest_size_for_the_fast_form(side):
    label_map = np.zeros((side + 9, side + 4), np.int32)
    label_map[3 : side + 3, :side] = 1
    label_map[:2, 4:90], label_map[side + 4 :, :] = 2, 7
    np.testing.assert_array_equal(interior_distance(label_map), interior_distance_of_each(label_map))


def test_inner_boundary_of_hand_made_labels():
    label_map = np.array([[1, 1, 1, 0], [1, 1, 2, 0], [1, 1, 2, 2]])
    expected = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 1]], bool)
    np.testing.assert_array_equal(inner_boundary(label_map), expected)


@pytest.mark.parametrize("name", DENSE)
def test_targets_are_float32_probabilities(name):
    head = heads.get(name)
    targets = head.targets(discs((20, 20, 9), (20, 37, 8)))
    assert targets.shape == (len(head.channels), 64, 64) and targets.dtype == np.float32
    assert targets.min() == 0.0 and targets.max() == 1.0


@pytest.mark.parametrize("name", DENSE)
def test_loss_of_a_batch_is_the_mean_over_its_images(name):
    head = heads.get(name)
    maps = [discs((20, 20, 9)), discs((30, 30, 5), (10, 50, 7)), np.zeros((64, 64), np.int32)]
    targets = torch.from_numpy(np.stack([head.targets(m) for m in maps]))
    logits = torch.randn(targets.shape, generator=torch.Generator().manual_seed(0))
    single = [head.loss(logits[i : i + 1], targets[i : i + 1]).item() for i in range(3)]
    assert head.loss(logits, targets).item() == pytest.approx(np.mean(single), rel=1e-6)


def test_losses_of_hand_made_maps():
    zeros = torch.zeros(1, 1, 2, 2)
    # BCE ln 2; p = ½ everywhere against two of four pixels: Dice 1 − (2·1 + 1) / (2 + 2 + 1).
    half = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert heads.get("watershed").loss(zeros, half).item() == pytest.approx(np.log(2) + 1 - 3 / 5, rel=1e-6)
    # Boundary likewise. Distance: ((½−1)² + (½−0)²)/2 inside, (½)² outside.
    distance = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    loss = heads.get("distance").loss(torch.zeros(1, 3, 2, 2), torch.cat([half, distance, half], dim=1))
    assert loss.item() == pytest.approx(2 * (np.log(2) + 2 / 5) + 0.25 + 0.25, rel=1e-6)


@pytest.mark.parametrize("name", heads.names())
def test_terms_of_the_loss_add_up_to_it_bit_for_bit_with_the_same_gradient(name):
    head = heads.get(name)
    if not head.dense:
        assert not hasattr(head, "loss_terms")  # there is no loss either
        return
    targets = torch.from_numpy(np.stack([head.targets(discs((20, 20, 9))), head.targets(discs((9, 40, 7)))]))
    logits = torch.randn(targets.shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss, terms = heads.loss_and_terms(head, logits, targets)
    expected = head.loss(logits, targets)
    assert loss.item() == expected.item()
    assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))
    assert len(terms) > 1 and all(term.shape == () and not term.requires_grad for term in terms.values())
    assert sum(term.item() for term in terms.values()) == pytest.approx(loss.item(), rel=1e-6)


def test_terms_of_hand_made_maps():
    half = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    _, terms = heads.loss_and_terms(heads.get("watershed"), torch.zeros(1, 1, 2, 2), half)
    assert {name: term.item() for name, term in terms.items()} == {
        "foreground_bce": pytest.approx(np.log(2), rel=1e-6),
        "foreground_dice": pytest.approx(2 / 5, rel=1e-6),
    }


@pytest.mark.parametrize("terms", [None, {}])
def test_head_that_names_no_terms_has_its_loss_alone(terms):
    class Plain:
        def loss(self, logits, targets):
            return (logits - targets).sum()

    head = Plain()
    if terms is not None:
        head.loss_terms = lambda logits, targets: terms
    assert heads.loss_and_terms(head, torch.ones(2), torch.zeros(2)) == (torch.tensor(2.0), {})


@pytest.mark.parametrize("name", DENSE)
def test_loss_decreases_towards_the_targets_with_gradients_in_every_channel(name):
    head = heads.get(name)
    targets = torch.from_numpy(head.targets(discs((20, 20, 9), (20, 37, 8))))[None]
    good = torch.logit(targets, eps=1e-4)
    assert head.loss(good, targets) < 0.05 < 0.5 < head.loss(torch.zeros_like(good), targets)
    logits = torch.zeros_like(good, requires_grad=True)
    head.loss(logits, targets).backward()
    assert (logits.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", DENSE)
def test_loss_is_float32_inside_autocast(name):
    head = heads.get(name)
    targets = torch.from_numpy(head.targets(discs((20, 20, 9))))[None]
    logits = torch.randn(targets.shape, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss(logits, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(head.loss(logits.float(), targets).item(), rel=1e-6)


@pytest.mark.parametrize("name", DENSE)
def test_loss_refuses_other_shapes(name):
    head = heads.get(name)
    channels = len(head.channels)
    with pytest.raises(ValueError, match="Pool the targets to the logits' size"):
        head.loss(torch.zeros(1, channels, 8, 8), torch.zeros(1, channels, 16, 16))
    with pytest.raises(ValueError, match=rf"\(b, {channels}, h, w\)"):
        head.loss(torch.zeros(1, 5, 8, 8), torch.zeros(1, 5, 8, 8))


@pytest.mark.parametrize("name", DENSE)
def test_instances_of_two_touching_discs_and_a_speck(name):
    head = heads.get(name)
    true = discs((20, 20, 9), (20, 37, 8), (50, 50, 3))
    predicted = head.instances(logits_of(head.targets(true)))
    assert predicted.dtype == np.int32 and predicted.shape == true.shape
    np.testing.assert_array_equal(np.unique(predicted), [0, 1, 2, 3])
    assert (predicted > 0).sum() == (true > 0).sum()
    # Each nucleus's centre carries an id of its own; the small one, which has no large seed, is kept.
    assert len({predicted[20, 20], predicted[20, 37], predicted[50, 50]}) == 3


@pytest.mark.parametrize("name", DENSE)
def test_instances_accept_arrays_and_tensors_of_any_type(name):
    head = heads.get(name)
    logits = logits_of(head.targets(discs((20, 20, 9), (20, 37, 8))))
    expected = head.instances(logits)
    tensor = torch.from_numpy(logits).requires_grad_()
    np.testing.assert_array_equal(head.instances(tensor), expected)
    assert head.instances(tensor.to(torch.bfloat16)).max() == expected.max()


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(("value", "count"), [(-30.0, 0), (30.0, 1), (0.0, 0)])
def test_instances_of_uniform_logits(name, value, count):
    head = heads.get(name)
    predicted = head.instances(np.full((len(head.channels), 40, 30), value))
    assert predicted.shape == (40, 30) and predicted.max() == count


@pytest.mark.parametrize("name", DENSE)
def test_instances_refuse_other_shapes_and_parameters(name):
    head = heads.get(name)
    with pytest.raises(ValueError, match="one image without batch"):
        head.instances(np.zeros((1, len(head.channels), 8, 8)))
    with pytest.raises(StrategyError, match=f"unknown parameter of head '{name}' 'smoothin'.*'smoothing'"):
        head.instances(np.zeros((len(head.channels), 8, 8)), smoothin=0.1)


def noisy_logits(head, seed: int = 0, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    circles = [(*rng.uniform(0, side, 2), rng.uniform(3, 9)) for _ in range(50)]
    coarse = logits_of(head.targets(discs(*circles, side=side))) / 4 + rng.normal(size=(len(head.channels), side, side))
    return gaussian_filter(coarse, (0, 1, 1))


@pytest.mark.parametrize("name", DENSE)
def test_prepared_image_gives_the_instances_of_every_candidate_bit_for_bit(name):
    head = heads.get(name)
    logits = noisy_logits(head)
    prepared = heads.prepared(head, logits)
    candidates = [{key: value} for key, values in head.search.items() for value in values]
    maps = [prepared(**candidate) for candidate in candidates]
    for candidate, label_map in zip(candidates, maps, strict=True):
        np.testing.assert_array_equal(label_map, head.instances(logits, **candidate))
    assert len({label_map.tobytes() for label_map in maps}) > len(candidates) // 2
    with pytest.raises(StrategyError, match="unknown parameter"):
        prepared(depht=1.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.12, 0.3])
def test_watershed_equals_its_plain_form_with_the_h_maxima_of_scikit_image(smoothing):
    head = heads.get("watershed")
    logits = noisy_logits(head)
    for foreground, depth in ((0.5, 0.06), (0.3, 0.2), (0.6, 0.02)):
        found = foreground_of(probabilities(logits, 1)[0] > foreground)
        height = gaussian_filter(found.distance, smoothing * found.radius) if smoothing else found.distance
        seeds = h_maxima(height, depth * found.radius) > 0
        expected = grow(seeds, -height, found, min_seed=0.0, min_area=0.02)
        label_map = head.instances(logits, smoothing=smoothing, depth=depth, foreground=foreground)
        np.testing.assert_array_equal(label_map, expected)


def test_head_without_prepare_is_called_for_each_choice():
    class Plain:
        def instances(self, logits, *, above):
            return (logits > above).astype(np.int32)

    prepared = heads.prepared(Plain(), np.array([[1.0, 3.0]]))
    assert prepared(above=2.0).tolist() == [[0, 1]] and prepared(above=0.0).tolist() == [[1, 1]]


def test_each_parameter_has_its_effect():
    head = heads.get("distance")
    true = discs((20, 20, 9), (20, 37, 8), (50, 50, 2))
    logits = logits_of(head.targets(true))
    assert head.instances(logits, min_area=0.2).max() == 2  # the speck goes
    assert head.instances(logits, seed=0.999, min_seed=0.5).max() == 2  # no seeds: components
    assert head.instances(logits, foreground=0.99999).max() == 0
    shallow = heads.get("watershed").instances(logits[:1], depth=5.0)
    assert shallow.max() == 2  # no saddle is that deep: components


def test_the_radius_ignores_small_components():
    mask = discs((20, 20, 10), (45, 45, 10)) > 0
    mask[60, ::3] = True
    assert foreground_of(mask).radius == pytest.approx(10, abs=1)
    assert foreground_of(np.zeros((8, 8), bool)).radius == 1.0


def valley(side: int = 40) -> np.ndarray:
    """Logits of the distance head for one foreground whose distance has two summits, and an edge between them."""
    y, x = np.mgrid[:side, :side]
    height = 0.9 - 0.1 * np.minimum(abs(x - 10), abs(x - 28) + 1) / 9 - 0.01 * abs(y - 20)
    inside = (abs(y - 20) <= 8) & (x > 2) & (x < 36)
    maps = np.stack([inside, np.where(inside, height, 0), inside & (x == 19)]).astype(float)
    return logits_of(maps)


def test_seeds_of_the_distance_head_by_threshold_by_depth_and_where_both_maps_agree():
    head, logits = heads.get("distance"), valley()
    plain = {"boundary": 0.0, "seed": 0.5, "smoothing": 0.0}
    assert head.instances(logits, **plain).max() == 1  # the valley lies above the threshold
    assert head.instances(logits, **plain, depth=0.05).max() == 2
    assert head.instances(logits, **plain, depth=0.15).max() == 1  # deeper than the valley is
    assert head.instances(logits, **plain, edge=0.5).max() == 2
    apart = head.instances(logits, **plain, edge=0.5)
    assert apart[20, 10] != apart[20, 28] and (apart > 0).sum() == (head.instances(logits, **plain) > 0).sum()
    assert head.instances(logits, **{**plain, "seed": 0.95}, depth=0.05).max() == 1  # no summit is that high


def test_depth_0_and_edge_1_are_the_thresholded_seeds_of_before():
    head = heads.get("distance")
    logits = noisy_logits(head)
    nucleus, distance, edge = probabilities(logits, 3)
    found = foreground_of(nucleus > 0.5)
    height = gaussian_filter(distance * (1 - edge), 0.06 * found.radius)
    expected = grow(height > 0.35, -height, found, min_seed=0.015, min_area=0.02)
    np.testing.assert_array_equal(head.instances(logits), expected)


def test_depth_of_the_distance_head_is_that_of_the_h_maxima_of_scikit_image():
    head = heads.get("distance")
    logits = noisy_logits(head)
    nucleus, distance, edge = probabilities(logits, 3)
    found = foreground_of(nucleus > 0.5)
    height = gaussian_filter(distance * (1 - edge), 0.06 * found.radius)
    seeds = (h_maxima(np.where(found.mask, height, 0), 0.1) > 0) & (height > 0.2)
    expected = grow(seeds, -height, found, min_seed=0.0, min_area=0.02)
    np.testing.assert_array_equal(head.instances(logits, depth=0.1, seed=0.2), expected)


def test_holes_of_hand_made_instances():
    label_map = np.array(
        [[1, 1, 1, 0, 0, 4, 4], [1, 0, 1, 2, 2, 0, 4], [1, 0, 1, 2, 0, 2, 4], [1, 1, 1, 2, 2, 2, 4]], np.int32
    )
    filled = without_holes(label_map)
    # Two pixels inside nucleus 1 and one inside nucleus 2; what lies between 2 and 4, or touches the edge, stays.
    expected = label_map.copy()
    expected[1:3, 1], expected[2, 4] = 1, 2
    np.testing.assert_array_equal(filled, expected)
    assert filled.dtype == np.int32 and label_map[1, 1] == 0
    solid = np.ones((3, 3), np.int32)
    np.testing.assert_array_equal(without_holes(solid), solid)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_holes_of_a_single_instance_are_those_that_scipy_fills(mask):
    np.testing.assert_array_equal(without_holes(mask), binary_fill_holes(mask))


@pytest.mark.parametrize(("name", "one_seed"), [("distance", {}), ("watershed", {"depth": 5.0})])
def test_dense_heads_fill_holes_where_asked(name, one_seed):
    head = heads.get(name)
    logits = logits_of(head.targets(discs((30, 30, 12))))
    logits[0, 30, 33] = -9.0
    plain, filled = (head.instances(logits, **one_seed, fill_holes=value) for value in (0.0, 1.0))
    assert plain[30, 33] == 0 and filled[30, 33] == filled[30, 35] > 0
    assert (plain != filled).sum() == 1
    np.testing.assert_array_equal(plain, head.instances(logits, **one_seed))
