"""Hints for runs whose PQ is zero: in words, in the note below a table, on the page of a run, after `bench run`."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from fabricated import record, run
from rich.console import Console

from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.section import sections
from bench.results.hints import hint
from bench.results.record import RunRecord, write
from bench.status import live, run_page
from bench.submission import exit_message
from bench.submission.controller import Outcome

MASKS = {"n_images": 3, "n_prompted": 9216, "n_kept": 12, "n_passed": 0, "largest_iou": 0.612}
MASKS |= {"loosest_iou": 0.5, "loosest_stability": 0.5}


def zero(strategy: str, chosen: dict[str, float], n_pred: int = 0, fold: int = 1, **known: Any) -> RunRecord:
    one = record(run(strategy=strategy, fold=fold, n_splits=2), pq=0.0, aji=0.0, official=False)
    facts = {"n_images": 3, "n_pred": n_pred, "n_training_images": 9, **known}
    one = replace(one, scores={**(one.scores or {}), "post_processing": chosen, "zero_pq": facts})
    return replace(one, cost={**(one.cost or {}), "train_steps": 8 if strategy != "zero_shot" else None})


ZERO_SHOT = zero("zero_shot", {"iou": 0.88, "stability": 0.95}, **MASKS)
TRAINED = zero("lora_qv", {"foreground": 0.5}, largest_foreground=0.314)


def test_zero_shot_names_masks_and_thresholds() -> None:
    assert hint(ZERO_SHOT) == (
        "PQ 0.000: no nucleus was found in 3 test images. Of 9,216 prompted masks, 12 reach predicted IoU 0.5 and "
        "stability 0.5, the lowest thresholds that are tried, and 0 the chosen iou 0.88 and stability 0.95; the "
        "largest predicted IoU is 0.61. May help: a head of your own with lower `iou` in its `search`, or a strategy "
        "that trains."
    )
    random = replace(ZERO_SHOT, run={**ZERO_SHOT.run, "weights": "random"})
    assert hint(random).endswith("predicted IoUs mean nothing. May help: weights=official.")


def test_a_short_training_names_steps_images_and_the_probability() -> None:
    assert hint(TRAINED) == (
        "PQ 0.000: no nucleus was found in 3 test images. The largest foreground probability is 0.31; a nucleus needs "
        "pixels above 0.5. It was trained for 8 steps on 9 images. May help: more steps (train.epochs, now 60), more "
        "training images, or another train.lr."
    )
    some = zero("lora_qv", {"foreground": 0.5}, n_pred=7)
    assert hint(some).startswith("PQ 0.000: 7 predicted objects in 3 test images, but too few match a true nucleus. It")


def test_runs_above_zero_failed_runs_and_old_records_have_no_hint() -> None:
    assert hint(record(run())) == hint(record(run(), pq=0.0)) == ""
    assert hint(replace(TRAINED, status="failed", scores=None)) == ""


def test_the_table_the_page_of_the_run_and_the_end_of_the_command_show_it(tmp_path: Path) -> None:
    other = zero("lora_qv", {"foreground": 0.5}, fold=2, largest_foreground=0.2)
    for one in (TRAINED, other):
        write(tmp_path, one)
    (section,) = sections(leaderboard_frame(record_frame([TRAINED, other])), baseline_frame())
    notes = leaderboard.blocks([section])[0].notes
    assert [note for note in notes if "PQ 0.000" in note] == [f"mobile_sam lora_qv, fold 1: {hint(TRAINED)}"]

    page = run_page.read(tmp_path, TRAINED.id)
    shown = StringIO()
    run_page.show(page, Console(file=shown, width=80))
    assert f"hint    {hint(TRAINED)}" in shown.getvalue()

    planned: Any = [_Planned(one.id) for one in (TRAINED, other)]
    view = live.View(tmp_path, planned, lambda _: True, Console(file=StringIO()))
    ended = StringIO()
    code = exit_message.print_end(view, tmp_path, Outcome(), Console(file=ended, width=80), on_slurm=False)
    assert code == 0 and f"mobile_sam lora_qv fold 2: {hint(other)}" in ended.getvalue()


class _Planned:
    """A run of which the view needs its id alone."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
