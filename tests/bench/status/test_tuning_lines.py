"""Tuning on the page of a run: its table, its bars, and the chosen rate."""

from __future__ import annotations

from bench.status.tuning_lines import lines

BLOCK = {
    "fold": 1,
    "epochs": 10,
    "seconds": 480.0,
    "chosen": 5e-4,
    "at_edge": False,
    "candidates": [
        {"encoder_lr": 1.58e-4, "status": "ok", "pq": 0.31, "aji": 0.4, "dice": 0.7},
        {"encoder_lr": 5e-4, "status": "ok", "pq": 0.35, "aji": 0.42, "dice": 0.71},
        {"encoder_lr": 1.58e-3, "status": "diverged", "pq": None, "aji": None, "dice": None},
    ],
}


def test_table_has_a_bar_and_the_scores_of_each_rate_and_marks_the_chosen_one():
    assert lines(BLOCK) == [
        ("tuning", "3 encoder rates on fold 1, 10 epochs each, 8 min together"),
        ("", "    rate     PQ, %  AJI, %  Dice, %"),
        ("", "0.000158  ▁   31.0    40.0     70.0"),
        ("", "  0.0005  █   35.0    42.0     71.0  ← chosen"),
        ("", " 0.00158                             diverged"),
    ]


def test_a_chosen_rate_at_the_edge_says_that_more_could_be_tried():
    text = lines({**BLOCK, "chosen": 1.58e-4, "at_edge": True, "seconds": None})
    assert text[0][1] == "3 encoder rates on fold 1, 10 epochs each"
    assert text[2][1].endswith("← chosen (at the edge of those tried: a larger --tune tries beyond it)")


def test_equal_scores_are_no_choice_and_say_what_to_raise():
    text = lines({**BLOCK, "tied": 1})
    assert text[3][1].endswith(
        "← chosen (others are equal, so the one nearest to the strategy's own: raise train.tune_epochs)"
    )


def test_runs_without_tuning_have_the_reason_or_no_line():
    assert lines({"budget": 0, "reason": "nothing is trained there"}) == [("tuning", "none: nothing is trained there")]
    assert lines(None) == lines({}) == []
