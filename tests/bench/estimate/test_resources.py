"""Number of images that a run processes, and memory of a training step, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_run import CLASSICAL_RUN, RUN

from bench.estimate.resources import IMAGE_BYTES, LABEL_MAP_BYTES, StepCost, Workload, kept_bytes, workload
from bench.estimate.shared_embeddings import sharing


def test_workload_of_100_images():
    # 100 images: 20 are tested, 16 of the other 80 validate; 5 validations, 1 more to choose.
    # In one pass from the defaults, which are among the candidates of each of the seven parameters:
    candidates = 1 + (6 + 4 + 5 + 3 + 4 + 4 + 4 - 7)
    assert workload(RUN, 100) == Workload(
        trained=64 * 10, predicted=16 * 6 + 20, post_processed=16 * (5 + candidates) + 20, tested=20
    )
    # From several starts: at most 160 candidates on 8 images, and the chosen ones and the defaults on the other 8.
    assert workload(replace(RUN, search="starts"), 100).post_processed == 16 * 5 + 8 * 160 + 8 * 2 + 20
    searched = replace(RUN, train={**RUN.train, "choose_by": "searched_pq"})  # five starts in each validation
    assert workload(searched, 100).post_processed == 16 * (5 * 5 + candidates) + 20
    untrained = replace(RUN, strategy="zero_shot", head="everything", options={}, train={})
    assert workload(untrained, 100).trained == 0
    assert workload(untrained, 100).predicted == 16 + 20
    assert workload(CLASSICAL_RUN, 100) == Workload(0, 0, 20, 20)


def test_each_tile_of_a_large_image_counts():
    tiled = replace(RUN, scale=1.0)
    # 128 px at scale 1 fill 2 × 2 inputs of 64 px in training; a prediction takes 3 × 3 that overlap by 16 px.
    assert workload(tiled, 100, (128, 128)).trained == 4 * 640
    assert workload(tiled, 100, (128, 128)).predicted == 9 * (16 * 6 + 20)
    assert workload(tiled, 100) == workload(RUN, 100)


def test_peak_memory_is_at_the_optimiser_step_if_activations_are_small():
    cost = StepCost(10, 10, 1, 1, fixed_bytes=0, image_bytes=1, encoder_flops=1, decoder_bytes=1)
    assert cost.peak_bytes(8) == 4 * 10 + 12 * 10 + 4 * 10


def test_peak_memory_grows_with_the_micro_batch():
    cost = StepCost(100, 10, 1, 1, fixed_bytes=50, image_bytes=1000, encoder_flops=1, decoder_bytes=100)
    assert cost.peak_bytes(1) == 400 + 120 + 50 + 1000
    assert cost.peak_bytes(8) == 400 + 120 + 50 + 8000
    # Cached embeddings: missing ones are computed singly, and only the decoder's activations are kept.
    assert cost.peak_bytes(8, cached=True) == 400 + 120 + 50 + 1000
    assert cost.peak_bytes(20, cached=True) == 400 + 120 + 50 + 2000


def test_frozen_weights_in_fewer_bits_take_less_memory():
    cost = StepCost(
        1000, 10, 1, 1, fixed_bytes=0, image_bytes=100, encoder_flops=1, decoder_bytes=1, frozen_weights=640
    )
    assert cost.peak_bytes(1) - cost.peak_bytes(1, base_weights="int8") == 3 * 640
    assert cost.peak_bytes(1) - cost.peak_bytes(1, base_weights="nf4") == 4 * 640 - 320 - 40  # with ten scales


CACHED = replace(
    RUN, strategy="decoder_only", options={}, embeddings="cached", train={**RUN.train, "augment": True, "epochs": 1000}
)


def test_long_trainings_draw_every_variant_of_their_images_and_predict_the_others_plain():
    # 64 of 100 images × 8 turns × 2 stain variants, and the plain variant of the other 36.
    assert workload(CACHED, 100).encoded == pytest.approx(64 * 16 + 36)
    plain = replace(CACHED, train={**CACHED.train, "augment": False})
    assert workload(plain, 100).encoded == pytest.approx(100)
    assert workload(replace(CACHED, embeddings="computed"), 100).encoded == 0


def test_one_epoch_draws_one_variant_of_each_image():
    once = replace(CACHED, train={**CACHED.train, "epochs": 1})
    # 64 draws, of which a 16th are plain ones, and the plain variant of the other 36.
    assert workload(once, 100).encoded == pytest.approx(64 + 36)


def test_folds_share_the_embeddings_of_the_same_images():
    one, five = (shares([replace(CACHED, fold=fold) for fold in range(1, n + 1)]) for n in (1, 5))
    assert sum(five) < 100 * 16 < 2 * sum(five)  # together never more than all variants of all images
    assert five[0] < one[0] / 3


def test_runs_of_one_fold_share_all_embeddings_of_the_same_encoder():
    official = replace(CACHED, weights="official")
    alone = 64 * 16 + 36
    others = [
        replace(official, seed=1),
        replace(official, head="watershed"),
        replace(official, train={**official.train, "lr": 1e-2}),
        replace(official, strategy="zero_shot", head="everything", train={}),
    ]
    assert sum(shares([official, *others])) == pytest.approx(alone)
    assert sum(shares([official, replace(official, backbone="mobile_sam")])) == pytest.approx(2 * alone)
    assert sum(shares([CACHED, replace(CACHED, seed=1)])) == pytest.approx(2 * alone)  # random weights differ by seed
    assert sum(shares([official, replace(official, embeddings="computed")])) == pytest.approx(alone)


def test_other_stains_add_variants_but_no_plain_images():
    other = replace(CACHED, train={**CACHED.train, "stain_jitter": 0.3})
    assert sum(shares([CACHED, other])) == pytest.approx(2 * 64 * 15 + 100)


def shares(runs):
    shared = sharing(runs)
    return [workload(run, 100, shared=shared(run)).encoded for run in runs]


def test_every_tile_has_an_embedding():
    tiled = replace(CACHED, scale=1.0)
    assert workload(tiled, 100, (128, 128)).encoded == pytest.approx(9 * (64 * 16 + 36), rel=1e-6)


def test_kept_label_maps_count_for_each_run_and_their_images_once():
    # Two runs on each of folds 1 and 2 of 20 images: 10 in a fold.
    runs = [replace(RUN, fold=fold, seed=seed, n_splits=2) for fold in (1, 2) for seed in (0, 1)]
    label_map, image = LABEL_MAP_BYTES, IMAGE_BYTES
    assert kept_bytes(runs, 20, 0) == 4 * 3 * label_map + 2 * 6 * image
    assert kept_bytes(runs, 20, 3) == 4 * 6 * label_map + 2 * 9 * image
    assert kept_bytes(runs, 20, None) == 4 * 10 * label_map + 20 * image
    assert kept_bytes(runs[:1], 20, 9) == 10 * label_map + 10 * image
    assert kept_bytes([], 20, None) == 0
