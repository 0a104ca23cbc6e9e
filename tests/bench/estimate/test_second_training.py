"""Costs of a second training and of a moving average in what `bench plan` counts."""

from __future__ import annotations

from dataclasses import replace

from planned_run import RUN

from bench.estimate.history import History
from bench.estimate.resources import StepCost, state_bytes, workload
from bench.results.record import RunRecord

COST = StepCost(
    parameters=1000,
    trainable=100,
    train_flops=1,
    infer_flops=1,
    fixed_bytes=0,
    image_bytes=5000,
    encoder_flops=0,
    decoder_bytes=0,
)
REFIT = replace(RUN, train={**RUN.train, "refit": True})


def test_second_training_counts_all_images_outside_the_test_fold_for_as_many_epochs():
    plain, again = workload(RUN, 100), workload(REFIT, 100)
    assert plain.trained == (80 - 16) * 10
    assert again.trained == plain.trained + 80 * 10
    assert (again.predicted, again.post_processed) == (plain.predicted, plain.post_processed)


def test_second_training_caches_variants_of_the_validation_images_too():
    train = {**RUN.train, "augment": True, "stain_variants": 2}
    plain = replace(RUN, embeddings="cached", train=train)
    again = replace(plain, train={**train, "refit": True})
    assert workload(again, 100).encoded > workload(plain, 100).encoded > 0


def test_moving_average_is_one_more_copy_of_the_trained_parameters_in_memory_and_state():
    averaged = replace(RUN, train={**RUN.train, "ema": 0.99})
    assert state_bytes(averaged, 100) - state_bytes(RUN, 100) == 2 * 4 * 100
    assert COST.peak_bytes(2, averaged=True) - COST.peak_bytes(2) == 4 * 100


def test_measured_runs_with_a_second_training_are_scaled_by_the_images_of_both():
    cost = {
        **{"train_seconds": 40.0, "refit_seconds": 60.0, "train_steps": 4, "refit_steps": 6, "device": "cpu"},
        "parameters_trainable": 10,
    }
    known = History.from_records([RunRecord(id="a", status="ok", run=REFIT.as_dict(), cost=cost)], device="cpu")
    resources = known.resources(RUN, 100)
    images = workload(RUN, 100).trained
    assert resources is not None and resources.basis == "scaled"
    assert resources.minutes == 100.0 * images / (10 * 8) / 60
