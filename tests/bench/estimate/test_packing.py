"""Grouping of runs into job arrays, by resources that are chosen by hand."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from planned_run import GIB, RUN

from bench.estimate.packing import JobArray, granted_minutes, pack
from bench.estimate.resources import Resources, unknown_resources
from bench.grid import Run
from bench.slurm.profile import ClusterProfile


def runs(count: int) -> list[Run]:
    return [replace(RUN, seed=seed) for seed in range(count)]


def taking(minutes: float | None, gigabytes: float | None = 30.0, factor: float = 2.0) -> Resources:
    memory = None if gigabytes is None else int(gigabytes * GIB)
    return Resources(minutes, memory, 8, 0, 0, "measured", "1 run on a GPU", factor)


def packed(resources: list[Resources], profile: ClusterProfile, size: int = 1000) -> list[JobArray]:
    planned = runs(len(resources))
    return pack(planned, {run.id: r for run, r in zip(planned, resources, strict=True)}, profile, size)


def shapes(arrays: list[JobArray]) -> list[tuple[int, int, list[int]]]:
    return [(a.time_limit_min, a.runs_at_once, [len(job) for job in a.jobs]) for a in arrays]


def test_time_limits_are_at_least_minutes_times_factor():
    resources = [taking(30), taking(30.1), taking(120), taking(121), taking(None), taking(10_000)]
    assert shapes(packed(resources, ClusterProfile(time_limit_min=720))) == [
        (60, 1, [1]),
        (240, 1, [1, 1]),
        (720, 1, [1, 1, 1]),
    ]


def test_no_time_limit_exceeds_the_profiles():
    assert shapes(packed([taking(5), taking(40)], ClusterProfile(time_limit_min=30))) == [(30, 1, [1, 1])]


def test_a_job_holds_runs_in_the_grids_order():
    (array,) = packed([taking(1)] * 5, ClusterProfile(runs_per_job=2))
    assert [[run.seed for run in job] for job in array.jobs] == [[0, 1], [2, 3], [4]]


def test_runs_share_a_gpu_as_far_as_memory_allows():
    profile = ClusterProfile(gpu_memory_gb=40, runs_per_gpu=4)  # 36 GB usable
    resources = [taking(1, 8.9)] * 4 + [taking(1, 12)] * 3 + [taking(1, 12.1)] * 3 + [taking(1, 100), taking(1, None)]
    assert shapes(packed(resources, profile)) == [(60, 4, [4]), (60, 3, [3]), (60, 2, [2, 1]), (60, 1, [1, 1])]


def test_a_job_holds_as_many_runs_as_share_its_gpu():
    assert shapes(packed([taking(1, 1)] * 8, ClusterProfile(runs_per_gpu=4))) == [(60, 4, [4, 4])]


def test_runs_that_take_no_gpu_share_a_job():
    assert shapes(packed([taking(1, 0)] * 4, ClusterProfile(runs_per_gpu=4))) == [(60, 4, [4])]


def test_a_job_holds_no_more_runs_than_its_time_limit_covers():
    # 4 × 2 × 100 minutes are more than 720, so three runs are a job; those of unknown length are not split.
    profile = ClusterProfile(time_limit_min=720, runs_per_job=4)
    assert shapes(packed([taking(100)] * 4 + [taking(None)] * 4, profile)) == [(720, 1, [3, 4, 1])]


def test_runs_that_do_not_fit_the_time_limit_together_do_not_share_a_gpu():
    profile = ClusterProfile(time_limit_min=100, runs_per_gpu=4)
    assert shapes(packed([taking(40, 1)] * 2, profile)) == [(100, 1, [1, 1])]


def test_a_run_longer_than_the_limit_has_a_job_of_its_own():
    profile = ClusterProfile(time_limit_min=100, runs_per_job=3)
    assert shapes(packed([taking(20), taking(90), taking(20)], profile)) == [(100, 1, [1, 1, 1])]


def test_the_smallest_group_is_merged_into_one_that_covers_it():
    profile = ClusterProfile(time_limit_min=720, runs_per_gpu=2)
    resources = [taking(1, 1)] * 3 + [taking(1)] * 3 + [taking(60)] * 2 + [taking(300)] * 3 + [taking(50, 1)] * 2
    # Five groups: (60, 2 at once), (60, 1), (240, 1), (720, 1) and (240, 2), which are as few as (240, 1).
    assert shapes(packed(resources, profile)) == [
        (60, 2, [2, 1]),
        (60, 1, [1, 1, 1]),
        (720, 1, [1, 1, 1, 1, 1]),
        (240, 2, [2]),
    ]


def test_a_group_is_split_at_the_largest_array():
    assert shapes(packed([taking(1)] * 5, ClusterProfile(), size=2)) == [(60, 1, [1, 1]), (60, 1, [1, 1]), (60, 1, [1])]


def test_no_runs_give_no_arrays():
    assert pack([], {}, ClusterProfile()) == []


RESOURCES = st.one_of(
    st.just(unknown_resources("not measured")),
    st.builds(taking, st.floats(0, 2000), st.one_of(st.none(), st.floats(0, 120)), st.sampled_from([1.5, 3.0])),
)
PROFILES = st.builds(
    ClusterProfile,
    time_limit_min=st.integers(5, 3000),
    runs_per_job=st.integers(1, 9),
    runs_per_gpu=st.integers(1, 9),
    gpu_memory_gb=st.integers(4, 141),
    gpus=st.sampled_from([0, 1]),
)
MANY = runs(1000)
IDS = [run.id for run in MANY]


@settings(max_examples=60, deadline=None)
@given(st.lists(RESOURCES, min_size=1, max_size=12), st.integers(0, 1000), PROFILES)
def test_a_thousand_runs_need_at_most_five_sbatch_calls(kinds, count, profile):
    resources = {IDS[i]: kinds[i * 7 % len(kinds)] for i in range(count)}
    arrays = pack(MANY[:count], resources, profile)
    jobs = [(array, job) for array in arrays for job in array.jobs]

    assert len(arrays) <= 5
    assert sorted(run.seed for _, job in jobs for run in job) == list(range(count))
    for array, job in jobs:
        assert len(array.jobs) <= 1000
        assert array.time_limit_min <= profile.time_limit_min
        assert 1 <= array.runs_at_once <= profile.runs_per_gpu
        assert len(job) <= max(profile.runs_per_job, array.runs_at_once)
        granted = sum(granted_minutes(resources[run.id]) for run in job)
        assert granted <= array.time_limit_min or (len(job) == 1 and array.time_limit_min == profile.time_limit_min)
        memory = [resources[run.id].gpu_memory_bytes for run in job]
        if array.runs_at_once > 1:
            assert max(memory) * array.runs_at_once <= profile.gpu_memory_gb * GIB * 0.9
