"""Unequal budgets of tuning are marked, and the seconds of trials are counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from compared import add, page
from fabricated import TRAIN, record, run

from bench.report import leaderboard, tuning_budgets
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.report.section import Section, sections
from bench.results.record import RunRecord

TUNED = {"tune": 3, "tune_epochs": 10, "tune_fold": "first"}


def runs(strategy: str, pq: float, *, chosen: str = "", seed: int = 0, **train: Any) -> list[RunRecord]:
    """Return five folds of a strategy; with `chosen`, the id of their tuning, of 90 s, 60 of them on a GPU."""
    made = [
        record(run(strategy=strategy, fold=fold, seed=seed, train={**TRAIN, **train}), pq=pq) for fold in range(1, 6)
    ]
    if not chosen:
        return made
    own = train.get("tune_fold") == "own"
    return [
        replace(
            one,
            tuning={"id": chosen + str(fold) * own, "fold": fold if own else 1, "chosen": 1.58e-4 * (1 + own * fold)},
            cost={**(one.cost or {}), "tuning_seconds": 90.0, "tuning_gpu_seconds": 60.0},
        )
        for fold, one in enumerate(made, start=1)
    ]


def section(*records: list[RunRecord]) -> Section:
    frame = pooled(record_frame([one for part in records for one in part]))
    return sections(leaderboard_frame(frame), baseline_frame(None))[0]


def ranks(of: Section) -> dict[str, str]:
    (own, *_) = leaderboard.blocks([of])
    columns = {column.title: column.cells for column in own.columns}
    return dict(zip(columns["strategy"], columns["#"], strict=True))


def tuning_notes(of: Section) -> list[str]:
    (own, *_) = leaderboard.blocks([of])
    return [note for note in own.notes if "ncoder rate" in note]


LORA = runs("lora_qv", 0.9, chosen="a", encoder_lr=1e-3, **TUNED)
ADAPTER = runs("adapter", 0.8, chosen="b", encoder_lr=5e-4, **TUNED)


def test_equal_budgets_are_not_marked_and_frozen_encoders_have_none():
    equal = section(LORA, ADAPTER, runs("decoder_only", 0.7))
    assert all("¶" not in rank for rank in ranks(equal).values())
    assert tuning_notes(equal) == [
        "Encoder rates that tuning chose: mobile_sam lora_qv 0.000158 (fold 1); mobile_sam adapter 0.000158 (fold 1). "
        "GPU hours contain the trials, counted once. One fold chose for all, so that this single number has seen "
        "images on which the other folds are tested (train.tune_fold=own avoids it)."
    ]


def test_rows_that_were_tuned_less_or_by_hand_are_marked_beside_tuned_ones():
    unequal = section(LORA, runs("adapter", 0.8, encoder_lr=5e-4), runs("full", 0.7, encoder_lr=3e-4))
    marks = {name: rank.endswith("¶") for name, rank in ranks(unequal).items()}
    assert marks == {"lora_qv": False, "adapter": True, "full": True}
    assert tuning_notes(unequal)[0] == (
        "¶ Unequal tuning: mobile_sam lora_qv tried 3 encoder rates (10 epochs each); mobile_sam adapter took the "
        "strategy's own encoder rate, untuned; mobile_sam full had an encoder rate set by hand. Part of a difference "
        "may be that of the budgets; `bench run --tune N` gives all of them the same one."
    )


def test_without_tuning_only_rates_set_by_hand_are_marked():
    own = section(runs("lora_qv", 0.9, encoder_lr=1e-3), runs("adapter", 0.8, encoder_lr=5e-4))
    assert tuning_notes(own) == [] and all("¶" not in rank for rank in ranks(own).values())
    by_hand = section(runs("lora_qv", 0.9, encoder_lr=1e-3), runs("adapter", 0.8, encoder_lr=1e-4))
    assert [rank.endswith("¶") for rank in ranks(by_hand).values()] == [False, True]
    older = section(runs("lora_qv", 0.9), runs("adapter", 0.8))  # records from before there was an encoder's rate
    assert tuning_notes(older) == []


def test_seconds_of_trials_are_counted_once_for_all_folds_and_seeds_or_for_each_fold_of_its_own():
    both_seeds = runs("lora_qv", 0.9, chosen="a", seed=1, encoder_lr=1e-3, **TUNED)
    (shared,) = section(LORA, both_seeds).rows.to_dict("records")
    assert (shared["n_seeds"], shared["tuning_seconds"], shared["tuning_gpu_seconds"]) == (2, 90.0, 60.0)
    assert shared["gpu_seconds"] == 10 * 3060.0 + 60
    own = runs("lora_qv", 0.9, chosen="a", encoder_lr=1e-3, **TUNED | {"tune_fold": "own"})
    (apart,) = section(own).rows.to_dict("records")
    assert (apart["tuning_seconds"], apart["gpu_seconds"]) == (5 * 90.0, 5 * 3060.0 + 5 * 60)
    assert apart["tuned_rates"].startswith("0.000316 (fold 1), 0.000474 (fold 2), ")
    (untuned,) = section(runs("lora_qv", 0.9)).rows.to_dict("records")
    assert (untuned["tuning_seconds"], untuned["gpu_seconds"], untuned["tuned_rates"]) == (0.0, 5 * 3060.0, "")


def test_a_choice_among_equal_scores_is_told_as_such():
    tied = [replace(one, tuning={**(one.tuning or {}), "tied": 2}) for one in LORA]
    assert "lora_qv 0.000158 (fold 1, where other rates scored the same)." in tuning_notes(section(tied))[0]


def test_unknown_seconds_of_trials_make_the_gpu_time_unknown():
    shared = [replace(one, cost={**(one.cost or {}), "tuning_gpu_seconds": None}) for one in LORA]
    (row,) = section(shared).rows.to_dict("records")
    assert row["gpu_seconds"] != row["gpu_seconds"]  # NaN


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (ADAPTER, ""),
        (runs("decoder_only", 0.7), ""),
        (
            runs("adapter", 0.8, chosen="b", encoder_lr=5e-4, **TUNED | {"tune": 5}),
            "¶ Unequal tuning: A tried 3 encoder rates (10 epochs each); B tried 5 encoder rates (10 epochs each). "
            "Part of the difference may be that of the budgets.",
        ),
    ],
    ids=["equal", "nothing to tune", "unequal"],
)
def test_a_comparison_of_methods_with_unequal_budgets_says_so(other, text):
    assert tuning_budgets.method_note(["A", "B"], [record_frame(LORA), record_frame(other)]) == text


def test_comparison_of_two_rows_shows_unequal_budgets(tmp_path):
    add(tmp_path, "mobile_sam", "adapter", train={**TRAIN, "encoder_lr": 5e-4})
    add(tmp_path, "mobile_sam", "lora_qv", train={**TRAIN, "encoder_lr": 1e-3, **TUNED})
    text = page(tmp_path, "mobile_sam/adapter", "mobile_sam/lora_qv")
    assert "¶ Unequal tuning: mobile_sam/adapter took the strategy's own encoder rate, untuned" in text
    assert "mobile_sam/lora_qv tried 3 encoder rates (10 epochs each)." in text
