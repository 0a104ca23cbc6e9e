"""Labels that tell settings of one backbone and strategy apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planned_run import RUN

from bench.planning.setting_labels import setting_labels

OTHER_FOLD = replace(RUN, fold=2)
SWEPT = replace(RUN, options={"rank": 8}, seed=1)
FULL = replace(RUN, strategy="full", options={})


def test_rows_of_one_pair_with_several_settings_are_told_apart():
    assert setting_labels([RUN, OTHER_FOLD, SWEPT, FULL]) == {
        RUN.id: "seed=0, rank=4",
        OTHER_FOLD.id: "seed=0, rank=4",
        SWEPT.id: "seed=1, rank=8",
        FULL.id: "",
    }


def test_ignored_settings_make_no_row():
    seeds = [replace(run, seed=seed) for run in (RUN, SWEPT) for seed in (0, 1)]
    labels = setting_labels(seeds, ignored=("seed",))
    assert [labels[run.id] for run in seeds] == ["rank=4", "rank=4", "rank=8", "rank=8"]
    assert set(setting_labels(seeds[:2], ignored=("seed",)).values()) == {""}


def test_of_settings_changed_one_at_a_time_the_label_is_the_change():
    changes: tuple[dict[str, Any], ...] = ({}, {"ema": 0.99}, {"refit": True}, {"lr": 0.01})
    runs = [replace(RUN, train={**RUN.train, **change}) for change in changes]
    labels = setting_labels(runs)
    assert [labels[run.id] for run in runs] == ["", "ema=0.99", "refit=True", "lr=0.01"]


def test_values_of_a_sweep_stand_in_every_label():
    runs = [replace(RUN, options={"rank": rank}, seed=seed) for rank in (1, 4) for seed in (0, 1)]
    labels = setting_labels(runs)
    assert [labels[run.id] for run in runs] == ["seed=0, rank=1", "seed=1, rank=1", "seed=0, rank=4", "seed=1, rank=4"]
