"""Costs of the trials of a tuning in a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabricated import record
from planned_run import RUN, taking

from bench.estimate import estimator, flops, packing, tuning_costs
from bench.estimate.resources import StepCost
from bench.grid import TrainSettings
from bench.slurm.profile import ClusterProfile

TUNED = {**vars(TrainSettings(epochs=60, encoder_lr=5e-4, tune=3, tune_epochs=10))}
RUNS = [replace(RUN, fold=fold, train=TUNED) for fold in (1, 2, 3)]
PLAIN = [replace(run, train={**TUNED, "tune": 0, "tune_epochs": 0}) for run in RUNS]


@pytest.fixture
def minutes(monkeypatch):
    """Minutes of runs by id, where a training epoch of 100 images takes what the FLOPs of a step say."""
    cost = StepCost(10**8, 10**6, 10**13, 10**12, 2**30, 2**30, 9 * 10**11, 2**30)
    monkeypatch.setattr(flops, "cached_step_cost", lambda run, **_: cost)

    def call(runs, records=()):
        resources = estimator.estimate_resources(runs, records=records, profile=ClusterProfile(), n_images=100)
        assert resources.keys() == {run.id for run in runs}  # trials are no runs of the plan
        return resources

    return call


def test_trials_are_counted_once_in_equal_parts_of_the_runs_that_share_them(minutes):
    tuned, plain = minutes(RUNS), minutes(PLAIN)
    added = [tuned[run.id].minutes - plain[other.id].minutes for run, other in zip(RUNS, PLAIN, strict=True)]
    first = tuned[RUNS[0].id]
    assert added == [pytest.approx(first.tuning_share)] * 3
    assert 3 * first.tuning_share == pytest.approx(first.tuning_minutes)
    # Three trials of a sixth of the epochs each, validated once.
    assert first.tuning_minutes / plain[PLAIN[0].id].minutes == pytest.approx(3 / 6, rel=0.05)


def test_a_time_limit_covers_all_trials_since_a_single_run_may_have_to_do_them():
    own = replace(taking(60), tuning_minutes=30.0, tuning_share=10.0)
    assert packing.granted_minutes(own) == (60 - 10 + 30) * own.factor
    assert packing.granted_minutes(taking(60)) == 60 * own.factor


def test_trials_that_an_earlier_run_did_cost_nothing_more(minutes):
    done = replace(RUN, fold=4, train=TUNED)
    assert tuning_costs.of_runs(RUNS, [record(done.as_dict(), cost={})]) == {}
    failed = record(done.as_dict(), status="failed", reason="error: something")
    others = record(replace(done, train={**TUNED, "tune": 5}).as_dict(), cost={})
    assert tuning_costs.of_runs(RUNS, [failed, others]).keys() == {run.id for run in RUNS}


def test_a_phrase_says_what_is_tried_where_and_for_how_long(minutes):
    resources = {run.id: replace(taking(120), tuning_share=40.0, tuning_minutes=120.0) for run in RUNS}
    text = tuning_costs.describe(RUNS, resources)
    assert text == (
        "≈ 2 h of these try encoder rates: 3 for each of 1 pair of backbone and strategy, 10 epochs each, once for all "
        "folds"
    )
    own = [replace(run, train={**TUNED, "tune_fold": "own"}) for run in RUNS]
    shares = dict.fromkeys((run.id for run in own), replace(taking(120), tuning_share=120.0, tuning_minutes=120.0))
    assert tuning_costs.describe(own, shares).endswith("10 epochs each, on each fold")
    assert tuning_costs.describe(PLAIN, {run.id: taking(120) for run in PLAIN}) == ""
