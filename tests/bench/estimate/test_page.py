"""The bill of a plan, and what `bench plan` prints of it."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.estimate import page, summary
from bench.estimate.packing import JobArray
from bench.estimate.resources import Resources, unknown_resources
from bench.grid import CLASSICAL, Grid, Run, Settings
from bench.planning.plan import Plan
from bench.results.index import Index
from bench.slurm.profile import ClusterProfile
from bench.submission.prepare import Prepared

RUN = Run(
    backbone="sam_nano",
    strategy="full",
    head="distance",
    dataset="nuinsseg",
    dataset_digest="0",
    fold=1,
    n_splits=5,
    fold_seed=19,
    validation_fraction=0.2,
    seed=0,
    weights="random",
    image_size=64,
    scale=None,
    options={},
    train={"epochs": 1, "batch_size": 8},
)
FOLDS = [replace(RUN, fold=fold) for fold in (1, 2, 3)]
LORA = [replace(run, strategy="lora_qv") for run in FOLDS]
CLASSIC = replace(RUN, backbone=CLASSICAL, strategy=CLASSICAL, head=CLASSICAL, train={})
GB = 2**30


def need(minutes: float, gigabytes: float = 10, micro_batch: int = 8, state: int = 0) -> Resources:
    return Resources(minutes, int(gigabytes * GB), micro_batch, 10**9, state, "FLOPs at 25 % of 312 TFLOP/s", 3.0)


NO_GPU = Resources(1.0, 0, None, 400_000, 0, "no GPU", 3.0)


def billed(runs, needs, profile=ClusterProfile(), done=()):  # noqa: B008  # frozen
    pending = [run for run in runs if run.id not in done]
    arrays = [JobArray(60, 1, tuple((run,) for run in pending))]
    return summary.summarise(runs, frozenset(done), needs, arrays, profile)


def test_sums_by_hand():
    needs = {run.id: need(90, state=4) for run in FOLDS} | {run.id: need(30, state=1) for run in LORA}
    found = billed([*FOLDS, *LORA], needs, ClusterProfile(array_parallelism=2))
    assert [line.gpu_hours for line in found.lines] == [4.5, 1.5]
    assert found.gpu_hours == 6
    assert found.wall_hours == 3  # 90 + 90 minutes, beside 90 + 30 + 30 + 30
    assert found.disk_bytes == 6 * 10**9
    assert found.state_bytes == 8  # two run at once, the two largest at worst
    assert found.unknown == 0


def test_what_is_done_costs_nothing():
    needs = {run.id: need(60) for run in FOLDS[1:]}
    (line,) = billed(FOLDS, needs, done=(FOLDS[0].id,)).lines
    assert (line.todo, line.done, line.gpu_hours) == (2, 1, 2)
    (line,) = billed(FOLDS, {}, done=[run.id for run in FOLDS]).lines
    assert (line.todo, line.done, line.need, line.gpu_hours) == (0, 3, None, 0)


def test_what_is_unknown_is_in_no_sum_but_counted():
    needs = {run.id: need(60) for run in FOLDS} | {run.id: unknown_resources("new") for run in LORA}
    found = billed([*FOLDS, *LORA], needs)
    assert (found.gpu_hours, found.unknown) == (3, 3)


def test_the_classical_pipeline_takes_no_gpu_hours():
    assert billed([CLASSIC], {CLASSIC.id: NO_GPU}).gpu_hours == 0


@pytest.mark.parametrize(
    ("durations", "places", "expected"),
    [([], 3, 0), ([5], 3, 5), ([3, 2, 2], 2, 4), ([1, 1, 1, 1], 2, 2), ([1, 5], 1, 6)],
)
def test_when_the_last_job_ends(durations, places, expected):
    assert summary.makespan(durations, places) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "1 min"), (0.5, "30 min"), (0.996, "60 min"), (1, "1 h"), (1.25, "1.2 h"), (12, "12 h"), (12.4, "12 h")],
)
def test_hours_read_like_hours(value, text):
    assert units.hours(value) == text


def warned(one: Resources, free: int | None = None, **profile: object) -> list[str]:
    chosen = ClusterProfile(**profile)  # type: ignore[arg-type]
    return summary.warnings(billed(FOLDS[:1], {RUN.id: one}, chosen), chosen, free)


def test_memory_beyond_the_gpu_is_warned_of():
    assert warned(need(1, 50, micro_batch=1)) == [
        "sam_nano × full needs ≈ 50 GiB even at a micro-batch of 1, and a GPU of this profile has 40 GiB: take a "
        "larger GPU, or a smaller image_size."
    ]
    assert warned(need(1, 50, micro_batch=2)) == []  # measured elsewhere; here training halves once more
    assert warned(need(1, 40, micro_batch=1)) == []


def test_runs_longer_than_the_time_limit_are_warned_of():
    assert warned(need(720)) == []
    assert warned(need(721)) == [
        "sam_nano × full: ≈ 12 h a run, and the time limit is 12 h: each will be requeued about once and go on from "
        "its state."
    ]
    assert warned(need(30 * 60), timeout_retries=1) == [
        "sam_nano × full: ≈ 30 h a run, and the time limit is 12 h: each will be requeued about 2 times and go on "
        "from its state. That is more than timeout_retries = 1 allows; raise it."
    ]
    assert warned(need(30 * 60), requeue=False) == [
        "sam_nano × full: ≈ 30 h a run, and the time limit is 12 h: each stops and must be submitted again about 2 "
        "times; `bench run` does so while it follows."
    ]


def test_many_long_runs_are_warned_of_once():
    runs = [replace(RUN, strategy=f"strategy_{i}") for i in range(4)]
    found = billed(runs, {run.id: need(1000 + 600 * i) for i, run in enumerate(runs)})
    assert summary.warnings(found, ClusterProfile(), None) == [
        "4 kinds of runs take longer than a job may, sam_nano × strategy_3 most: ≈ 47 h a run, and the time limit is "
        "12 h: each will be requeued about 3 times and go on from its state."
    ]


def test_a_disk_that_is_too_small_is_warned_of():
    assert warned(need(1, state=2 * 10**9), free=3 * 10**9) == []
    assert warned(need(1, state=2 * 10**9), free=10**9) == [
        "the results may take 3.0 GB while jobs run, and 1.0 GB are free: make room, choose another disk with "
        "--results DIR, or lower array_parallelism."
    ]


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """What `show` prints, on a terminal of 100 columns without colour."""

    def call(runs, needs, *, done=(), skipped=(), profile=None, results=tmp_path / "results", free=10**12) -> str:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))
        monkeypatch.setattr(page.estimate, "needs", lambda *_, **__: needs)
        plan = Plan(Grid("tiny", (), (), Settings()), tuple(runs), tuple(skipped))
        prepared = Prepared(
            plan=plan,
            data=tmp_path,
            samples=(),
            dataset_digest="0",
            done=tuple(done),
            index=Index(tmp_path),
            n_images=665,
        )
        text = StringIO()
        page.show(prepared, profile or ClusterProfile(), results, Console(file=text, width=100))
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        assert max(map(len, lines)) <= 100
        return "\n".join(lines)

    return call


def test_the_whole_page(printed):
    needs = {CLASSIC.id: NO_GPU} | {run.id: need(800, 33.3, 4, 10**10) for run in FOLDS[1:]}
    needs |= {run.id: unknown_resources("it can't be counted (RuntimeError: no)") for run in LORA}
    text = printed(
        [CLASSIC, *FOLDS, *LORA],
        needs,
        done=FOLDS[:1],
        skipped=[(RUN, "no checkpoint")],
        results=Path("/nowhere/at/all"),
    )
    assert (
        text
        == """\
backbone   strategy   to do  done  ≈ GPU-hours  ≈ a run  ≈ GPU memory   batch  basis
classical  classical      1     0            –    1 min             –       –  no GPU
sam_nano   full           2     1         26.7     13 h      33.3 GiB  4 of 8  FLOPs
           lora_qv        3     0            ?        ?             ?       –  unknown

runs        6 to do, 1 done; 6 jobs in 2 arrays
arrays      1 job of at most 1 h, 1 run each
            5 jobs of at most 12 h, 1 run each
GPU-hours   ≈ 27 in all, and 3 runs of unknown length
wall-clock  ≈ 13 h if 6 GPUs at once (array_parallelism) are free throughout, and 3 runs of unknown
            length
disk        ≈ 2.0 GB to stay, ≈ 20.0 GB more while jobs run, for the states of training; 1000.0 GB
            are free at /nowhere/at/all

skipped  sam_nano × full: no checkpoint
warning  sam_nano × full: ≈ 13 h a run, and the time limit is 12 h: each will be requeued about once
         and go on from its state.

unknown  it can't be counted (RuntimeError: no)
FLOPs    forward and backward of one image were counted under each strategy, without computing them;
         times images and epochs, at 25 % of the 312 TFLOP/s that the profile states.
         Post-processing adds 40 ms for each image validated or tested. Reading images is not in it,
         which small models may have to wait for; nor is early stopping, which shortens runs. Time
         limits grant 3 × that.
batch    the largest micro-batch that fits 40 GiB; training halves it by itself, and an optimiser
         step sees the whole batch all the same."""
    )


def test_measured_runs_say_where_they_ran(printed):
    measured = replace(need(60), basis="measured: 5 runs on NVIDIA A100", factor=1.5)
    text = printed(FOLDS, {run.id: measured for run in FOLDS})
    assert text.endswith("\n\nmeasured  5 runs on NVIDIA A100. Time limits grant 1.5 × that.")
    assert "sam_nano  full" in text and "1 h" in text


def test_packing_is_told(printed):
    text = printed(FOLDS, {run.id: need(1, 1) for run in FOLDS}, profile=ClusterProfile(runs_per_gpu=3))
    assert "arrays      1 job of at most 1 h, up to 3 runs each, 3 at once on its GPU" in text


def test_without_gpus_there_are_no_gpu_hours(printed):
    measured = replace(need(60), gpu_memory_bytes=None, basis="measured: 2 runs on CPU")
    text = printed(FOLDS, {run.id: measured for run in FOLDS}, profile=ClusterProfile(gpus=0))
    assert "GPU-hours   " not in text
    assert "if 3 jobs at once (array_parallelism) are free throughout" in text


def test_everything_done(printed):
    text = printed(FOLDS, {}, done=FOLDS)
    assert "runs        0 to do, 3 done; 0 jobs in 0 arrays" in text
