from __future__ import annotations

from dataclasses import replace

import pytest
from every_state import planned

from bench.errors import BenchError
from bench.results import plans
from bench.status import run_names

ONE = "mobile_sam/lora_qv/1"


@pytest.fixture
def place(tmp_path):
    return planned(tmp_path, ("mobile_sam",), ("lora_qv", "full"))


@pytest.fixture
def swept(place):
    """Add runs of other ranks and seeds; their ids by rank and seed."""
    first = place.runs[ONE]
    runs = {(r, s): replace(first, options={"rank": r}, seed=s) for r in (1, 8) for s in (0, 1)}
    plan = plans.read_all(place.results)[0]
    plans.write(place.results, replace(plan, grid="second", runs=tuple(runs.values())))
    return {key: run.id for key, run in runs.items()}


def test_a_run_is_found_by_its_id_its_beginning_and_its_name(place):
    run_id = place.id(ONE)
    assert run_names.find(place.results, run_id[:8]) == run_id  # planned, never started
    place.folder(ONE)
    for text in (run_id, run_id[:8], ONE):
        assert run_names.find(place.results, text) == run_id


def test_an_unknown_run_is_refused_with_the_nearest(place):
    with pytest.raises(BenchError, match=r"no run 'mobile_sam/lora_qv/9' in .*Did you mean mobile_sam/lora_qv/\d or"):
        run_names.find(place.results, "mobile_sam/lora_qv/9")
    wrong = place.id(ONE)[:-1] + "x"
    with pytest.raises(BenchError) as refused:
        run_names.find(place.results, wrong)
    assert f"no run '{wrong}'" in str(refused.value)
    assert f"\n  {place.id(ONE)}  mobile_sam/lora_qv/1" in str(refused.value)
    with pytest.raises(BenchError, match="give an id, its beginning, or BACKBONE/STRATEGY"):
        run_names.find(place.results, "")


def test_several_runs_are_listed(place):
    for name in ("aaa111", "aaa222"):
        (place.results / "runs" / name).mkdir(parents=True)
    with pytest.raises(BenchError, match="'aaa' is the beginning of several runs:\n  aaa111\n  aaa222"):
        run_names.find(place.results, "aaa")
    other = replace(place.runs[ONE], seed=3)
    plan = plans.read_all(place.results)[0]
    plans.write(place.results, replace(plan, grid="second", runs=(other,)))
    with pytest.raises(BenchError) as refused:
        run_names.find(place.results, ONE)
    assert f"{ONE} names several runs; add what differs, or give the id of one:" in str(refused.value)
    assert f"\n  {other.id}  mobile_sam/lora_qv,seed=3/1" in str(refused.value)


def test_records_without_a_plan_are_found_by_name_too(place):
    place.finish(ONE)
    for path in (place.results / "plans").iterdir():
        path.unlink()
    assert run_names.find(place.results, ONE) == place.id(ONE)


def test_conditions_choose_among_the_settings_of_a_sweep(place, swept):
    for (rank, seed), run_id in swept.items():
        for conditions in (f"strategy.rank={rank},seed={seed}", f" seed={seed} , strategy.rank={rank}"):
            assert run_names.find(place.results, f"mobile_sam/lora_qv,{conditions}/1") == run_id


def test_every_name_that_is_listed_finds_its_run(place, swept):
    with pytest.raises(BenchError) as refused:
        run_names.find(place.results, ONE)
    listed = dict(line.split() for line in str(refused.value).splitlines()[1:])
    assert listed.keys() == {place.id(ONE), *swept.values()}
    assert all(run_names.find(place.results, name) == run_id for run_id, name in listed.items())
    assert listed[swept[8, 1]] == "mobile_sam/lora_qv,strategy.rank=8,seed=1/1"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("rank=8", r"unknown setting 'rank'\. Did you mean 'strategy\.rank'\?"),
        ("sed=1", r"unknown setting 'sed'\. Did you mean 'seed'\?"),
        ("seed=7", r"unknown value of seed '7'\. Known: 0, 1"),
        ("strategy.rank=8", r"names several runs; add what differs"),
    ],
)
def test_a_condition_that_chooses_no_run_is_refused(place, swept, condition, message):
    with pytest.raises(BenchError, match=message):
        run_names.find(place.results, f"mobile_sam/lora_qv,{condition}/1")


def test_a_value_may_hold_commas(place):
    run = replace(place.runs[ONE], options={"targets": ["q", "v"]})
    plan = plans.read_all(place.results)[0]
    plans.write(place.results, replace(plan, grid="second", runs=(run,)))
    assert run_names.find(place.results, "mobile_sam/lora_qv,strategy.targets=['q', 'v']/1") == run.id


def test_records_without_a_plan_are_chosen_by_conditions_too(place):
    place.finish(ONE)
    for path in (place.results / "plans").iterdir():
        path.unlink()
    assert run_names.find(place.results, "mobile_sam/lora_qv,seed=0/1") == place.id(ONE)
    with pytest.raises(BenchError, match="unknown value of seed '1'"):
        run_names.find(place.results, "mobile_sam/lora_qv,seed=1/1")
