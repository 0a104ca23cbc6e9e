"""Sums, warnings and notes of a plan's costs, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_run import CLASSICAL_RUN, FOLDS, LORA, NO_GPU, taking
from planned_run import FULL_RUN as RUN
from planned_run import RUN as PLANNED

from bench.estimate import summary
from bench.estimate.packing import JobArray
from bench.estimate.resources import Resources, unknown_resources
from bench.slurm.profile import ClusterProfile


def summed(runs, resources, profile=ClusterProfile(), done=()):  # noqa: B008  # frozen
    pending = [run for run in runs if run.id not in done]
    arrays = [JobArray(60, 1, tuple((run,) for run in pending))]
    return summary.summarise(runs, frozenset(done), resources, arrays, profile)


def test_sums_by_hand():
    resources = {run.id: taking(90, state=4) for run in FOLDS} | {run.id: taking(30, state=1) for run in LORA}
    costs = summed([*FOLDS, *LORA], resources, ClusterProfile(array_parallelism=2))
    assert [line.gpu_hours for line in costs.lines] == [4.5, 1.5]
    assert costs.gpu_hours == 6
    assert costs.wall_hours == 3  # 90 + 90 minutes, beside 90 + 30 + 30 + 30
    assert costs.disk_bytes == 6 * 10**9
    assert costs.state_bytes == 8  # two run at once: the two largest
    assert costs.unknown == 0


def test_finished_runs_cost_nothing():
    resources = {run.id: taking(60) for run in FOLDS[1:]}
    (line,) = summed(FOLDS, resources, done=(FOLDS[0].id,)).lines
    assert (line.pending, line.done, line.gpu_hours) == (2, 1, 2)
    (line,) = summed(FOLDS, {}, done=[run.id for run in FOLDS]).lines
    assert (line.pending, line.done, line.resources, line.gpu_hours) == (0, 3, None, 0)


def test_each_swept_setting_has_a_line_of_its_own_and_seeds_share_one():
    ranks = [replace(PLANNED, options={"rank": rank}, fold=fold) for rank in (1, 8) for fold in (1, 2)]
    seeds = [replace(run, seed=1) for run in (*ranks, *FOLDS)]
    minutes = {1: 60, 8: 120}
    resources = {run.id: taking(minutes[run.options["rank"]]) for run in (*ranks, *seeds[:4])}
    resources |= {run.id: taking(30) for run in (*FOLDS, *seeds[4:])}
    costs = summed([*ranks, *FOLDS, *seeds], resources, done=(ranks[0].id,))
    assert [(line.name, line.pending, line.done, line.gpu_hours) for line in costs.lines] == [
        ("sam_nano × lora_qv (rank=1)", 3, 1, 3),
        ("sam_nano × lora_qv (rank=8)", 4, 0, 8),
        ("sam_nano × full", 6, 0, 3),
    ]
    assert costs.gpu_hours == 14


def test_a_warning_names_the_setting_that_it_is_about():
    sizes = [replace(RUN, image_size=size) for size in (64, 128)]
    resources = {sizes[0].id: taking(1), sizes[1].id: taking(1, 50, micro_batch=1)}
    (warning,) = summary.warnings(summed(sizes, resources), ClusterProfile(), None)
    assert warning.startswith("sam_nano × full (image_size=128) needs ≈ 50.0 GiB even at a micro-batch of 1")


def test_runs_of_unknown_duration_are_in_no_sum():
    resources = {run.id: taking(60) for run in FOLDS} | {run.id: unknown_resources("new") for run in LORA}
    costs = summed([*FOLDS, *LORA], resources)
    assert (costs.gpu_hours, costs.unknown) == (3, 3)


def test_the_classical_pipeline_takes_no_gpu_hours():
    assert summed([CLASSICAL_RUN], {CLASSICAL_RUN.id: NO_GPU}).gpu_hours == 0


@pytest.mark.parametrize(
    ("durations", "parallel", "expected"),
    [([], 3, 0), ([5], 3, 5), ([3, 2, 2], 2, 4), ([1, 1, 1, 1], 2, 2), ([1, 5], 1, 6)],
)
def test_makespan(durations, parallel, expected):
    assert summary.makespan(durations, parallel) == expected


def warnings_of(resources: Resources, free: int | None = None, **profile: object) -> list[str]:
    chosen = ClusterProfile(**profile)  # type: ignore[arg-type]
    return summary.warnings(summed(FOLDS[:1], {RUN.id: resources}, chosen), chosen, free)


def test_memory_beyond_the_gpu_is_warned_of():
    assert warnings_of(taking(1, 50, micro_batch=1)) == [
        "sam_nano × full needs ≈ 50.0 GiB even at a micro-batch of 1, and a GPU of this profile has 40 GiB: take a "
        "larger GPU, or a smaller image_size."
    ]
    assert warnings_of(taking(1, 50, micro_batch=2)) == []  # measured elsewhere; here training halves once more
    assert warnings_of(taking(1, 40, micro_batch=1)) == []


def test_runs_longer_than_the_time_limit_are_warned_of():
    assert warnings_of(taking(720)) == []
    assert warnings_of(taking(721)) == [
        "sam_nano × full: ≈ 12 h a run, and the time limit is 12 h: each will be requeued about once and continue "
        "from its saved state."
    ]
    assert warnings_of(taking(30 * 60), timeout_retries=1) == [
        "sam_nano × full: ≈ 30 h a run, and the time limit is 12 h: each will be requeued about 2 times and continue "
        "from its saved state. That is more than timeout_retries = 1 allows; raise it."
    ]
    assert warnings_of(taking(30 * 60), requeue=False) == [
        "sam_nano × full: ≈ 30 h a run, and the time limit is 12 h: each stops and must be submitted again about 2 "
        "times; `bench run` does so while it follows."
    ]


def test_many_long_runs_are_warned_of_once():
    runs = [replace(RUN, strategy=f"strategy_{i}") for i in range(4)]
    costs = summed(runs, {run.id: taking(1000 + 600 * i) for i, run in enumerate(runs)})
    assert summary.warnings(costs, ClusterProfile(), None) == [
        "runs of 4 backbones × strategies, the longest of sam_nano × strategy_3: ≈ 47 h a run, and the time limit is "
        "12 h: each will be requeued about 3 times and continue from its saved state."
    ]


def test_a_disk_that_is_too_small_is_warned_of():
    assert warnings_of(taking(1, state=2 * 10**9), free=3 * 10**9) == []
    assert warnings_of(taking(1, state=2 * 10**9), free=10**9) == [
        "the results may take 3.0 GB while jobs run, and 1.0 GB are free: free some space, choose another disk "
        "with --results DIR, or lower array_parallelism."
    ]


def test_notes_explain_each_basis_once():
    measured = replace(taking(60), basis="measured", details="5 runs on A100", factor=1.5)
    resources = {run.id: measured for run in FOLDS} | {run.id: unknown_resources("not counted") for run in LORA}
    notes = summary.basis_notes(summed([*FOLDS, *LORA], resources).lines, ClusterProfile())
    assert notes == [
        ("measured", "5 runs on A100. Time limits are 1.5 × that."),
        ("unknown", "not counted. Jobs of these runs have the profile's time limit."),
    ]


def test_a_split_batch_is_explained_by_the_gpus_memory_only_if_there_is_a_gpu():
    lines = summed(FOLDS, {run.id: taking(60, micro_batch=4) for run in FOLDS}).lines
    assert [title for title, _ in summary.basis_notes(lines, ClusterProfile())] == ["FLOPs", "batch"]
    assert [title for title, _ in summary.basis_notes(lines, ClusterProfile(gpus=0))] == ["FLOPs"]
