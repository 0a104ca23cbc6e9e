"""`bench retry` before anything is executed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from slurm_commands import put_commands

from bench.errors import BenchError, ClusterError, PluginError
from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.results import plans
from bench.submission import retry_plans


def retry(results, **changes) -> int:
    options = {"console": Console(file=StringIO()), "failed": False, "detach": False, "profile": None}
    return retry_plans.retry_plans(results, **{**options, **changes})


def save_plan(
    results, kind: str, profile: str = "default", *, dataset: str = "synthetic", digest: str = "d", plugins=(), seed=0
) -> None:
    settings = Settings(dataset=dataset, weights="random", seed=seed, folds=FoldSettings(n_splits=2))
    runs = plan.make(replace(Grid("g", ("sam_nano",), ("full",), settings), classical=False), digest).runs
    plans.write(results, plans.SavedPlan("g", "now", runs, (), results, None, "cpu", kind, profile, tuple(plugins)))


@pytest.fixture
def executed(monkeypatch):
    """Plans that are executed, in place of executing them."""
    executed = []
    monkeypatch.setattr(retry_plans, "execute", lambda plan, **_: executed.append(plan) or 0)
    return executed


def test_a_folder_without_plans_is_refused_and_not_made(tmp_path):
    with pytest.raises(BenchError, match=r"there is no plan in .*: nothing was run there yet\. Start with `bench run`"):
        retry(tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_profile_that_no_node_serves_is_refused(tmp_path, monkeypatch):
    nodes = "echo 'gpu|gpu*|infinite|2|64000|gpu:1|(null)'"
    put_commands(tmp_path / "bin", monkeypatch, sbatch="exit 0", sinfo=nodes)
    save_plan(tmp_path, "slurm")
    with pytest.raises(ClusterError) as caught:
        retry(tmp_path)
    assert str(caught.value) == (
        "profile default: cpus_per_gpu = 8: no node of partition gpu has more than 2 CPUs; write cpus_per_gpu = 2 or "
        "less in the profile. If jobs start there all the same, write check_nodes = false in the profile. "
        "Another profile is given with `bench retry --profile NAME`."
    )


def test_local_runs_can_not_be_left_to_themselves(tmp_path):
    save_plan(tmp_path, "local")
    with pytest.raises(ClusterError, match="--detach needs SLURM"):
        retry(tmp_path, detach=True)


def test_plans_of_one_folder_are_executed_apart_for_each_dataset_and_its_images(tmp_path, executed):
    save_plan(tmp_path, "inline", dataset="synthetic", digest="d")
    save_plan(tmp_path, "inline", dataset="synthetic", digest="e")
    save_plan(tmp_path, "inline", dataset="nuinsseg", digest="d")
    save_plan(tmp_path, "inline", dataset="nuinsseg", digest="d", seed=1)
    assert retry(tmp_path) == 0
    inputs = [{(run.dataset, run.dataset_digest) for run in plan.runs} for plan in executed]
    assert sorted(map(tuple, inputs)) == [(("nuinsseg", "d"),), (("synthetic", "d"),), (("synthetic", "e"),)]
    assert sorted(len(plan.runs) for plan in executed) == [2, 2, 4]


def test_a_plug_in_that_can_not_be_loaded_keeps_no_other_plan_from_being_executed(tmp_path, executed):
    broken = tmp_path / "broken_plug_in.py"
    broken.write_text("1 / 0\n")
    save_plan(tmp_path, "inline", seed=1, plugins=[broken])
    save_plan(tmp_path, "inline", seed=2)
    printed = StringIO()
    assert retry(tmp_path, console=Console(file=printed, width=500)) == 1
    assert [plan.runs[0].seed for plan in executed] == [2]
    assert printed.getvalue() == (
        f"error: 2 runs of synthetic in {tmp_path}: the plug-in {broken} can't be run: ZeroDivisionError: division by "
        "zero (line 1). Fix it.\n"
    )


def test_plug_ins_of_two_plans_with_the_same_file_name_are_reported_and_the_first_is_executed(tmp_path, executed):
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "same_plug_in_name.py").write_text(f"NUMBER = {seed}\n")
        save_plan(tmp_path, "inline", seed=seed, plugins=[folder])
    printed = StringIO()
    assert retry(tmp_path, console=Console(file=printed, width=500)) == 1
    assert len(executed) == 1
    assert printed.getvalue().startswith(f"error: 2 runs of synthetic in {tmp_path}: the plug-in ")
    assert "same_plug_in_name.py has a name that Python finds first elsewhere" in printed.getvalue()


def test_the_error_of_the_only_plan_ends_the_command(tmp_path, executed):
    save_plan(tmp_path, "inline", plugins=[tmp_path / "gone.py"])
    with pytest.raises(PluginError, match=r"gone\.py is not there"):
        retry(tmp_path)
    assert executed == []


def test_an_error_while_one_plan_is_executed_does_not_keep_the_next_from_it(tmp_path, monkeypatch):
    save_plan(tmp_path, "inline", digest="d")
    save_plan(tmp_path, "inline", digest="e")
    digests = []

    def execute(plan, **_):
        digests.append(plan.runs[0].dataset_digest)
        if len(digests) == 1:
            raise PluginError("the dataset 'synthetic' can't list its images")
        return 0

    monkeypatch.setattr(retry_plans, "execute", execute)
    printed = StringIO()
    assert retry(tmp_path, console=Console(file=printed, width=500)) == 1
    assert sorted(digests) == ["d", "e"] and "can't list its images" in printed.getvalue()
