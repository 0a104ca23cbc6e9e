"""Rates that a tuning tries, the ids of its trials, and the settings of tuned runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import PlanError
from bench.grid import FoldSettings, Grid, Settings, TrainSettings
from bench.planning import plan, sweeps, tuning

SETTINGS = Settings(dataset="synthetic", weights="random", image_size=64, folds=FoldSettings(n_splits=2))
GRID = Grid("mine", ("sam_nano",), ("zero_shot", "decoder_only", "lora_qv"), SETTINGS, classical=False)


def planned(*assignments: str, grid: Grid = GRID) -> list:
    changed, problems = sweeps.apply(grid, assignments)
    assert problems == []
    return list(plan.make(changed, "0" * 16).runs)


def test_rates_go_outwards_from_the_centre_the_smaller_first():
    assert tuning.rates(5e-4, 5) == (5e-4, 1.58e-4, 1.58e-3, 5e-5, 5e-3)
    assert tuning.rates(2e-4, 2) == (2e-4, 6.32e-5)


def test_a_larger_budget_has_the_trials_of_a_smaller_one():
    three, five = (planned(f"train.tune={count}")[-1] for count in (3, 5))
    ids = [[trial.id for trial in tuning.trials(run, 1)] for run in (three, five)]
    assert ids[1][:3] == ids[0] and len(set(ids[1])) == 5
    assert three.id != five.id and tuning.tuning_id(tuning.trials(three, 1)) != tuning.tuning_id(tuning.trials(five, 1))


def test_runs_that_are_not_tuned_keep_their_ids_and_frozen_encoders_have_nothing_to_tune():
    without = {(run.strategy, run.fold): run.id for run in planned()}
    tuned = {(run.strategy, run.fold): run.id for run in planned("train.tune=3")}
    same = {key for key in without if without[key] == tuned[key]}
    assert same == {(name, fold) for name in ("zero_shot", "decoder_only") for fold in (1, 2)}
    # Settings that are not read make no run of their own.
    assert {
        (run.strategy, run.fold): run.id for run in planned("train.tune_epochs=3", "train.tune_fold=own")
    } == without


def test_all_folds_and_seeds_of_a_method_share_trials_unless_each_fold_has_its_own():
    runs = [run for run in planned("train.tune=3", "seed=0,1") if run.strategy == "lora_qv"]
    assert len(runs) == 4
    assert len({tuning.tuning_id(tuning.trials(run, 1)) for run in runs}) == 1
    own = [replace(run, train={**run.train, "tune_fold": "own"}) for run in runs]
    assert len({tuning.tuning_id(tuning.trials(run, 1)) for run in own}) == 2
    assert [trial.fold for trial in tuning.trials(own[1], 1)] == [own[1].fold] * 3


def test_a_trial_is_short_is_validated_once_and_is_not_tuned_itself():
    run = planned("train.tune=3", "train.epochs=60", "train.patience=4", "seed=7")[-1]
    assert (run.train["tune"], run.train["tune_epochs"], run.seed) == (3, 10, 7)
    trial = tuning.trials(run, 2)[1]
    changed = {name: value for name, value in trial.train.items() if value != run.train[name]}
    assert changed == {
        "encoder_lr": pytest.approx(run.train["encoder_lr"] / 10**0.5, rel=0.01),
        "epochs": 10,
        "validate_every": 10,
        "patience": 0,
        "tune": 0,
        "tune_epochs": 0,
    }
    assert (trial.fold, trial.seed, trial.options, tuning.is_tuned(trial)) == (2, 0, run.options, False)


def test_budget_out_of_range_is_a_problem_of_the_plan():
    with pytest.raises(PlanError) as caught:
        planned(grid=replace(GRID, settings=replace(SETTINGS, train=TrainSettings(epochs=2, tune=1, tune_epochs=3))))
    assert str(caught.value).count("must be") == 2
    assert "train.tune is 1; it must be 0, or from 2 to 13." in str(caught.value)
    assert "train.tune_epochs is 3; it must be from 0 to train.epochs." in str(caught.value)
