"""`bench retry` before anything is executed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from slurm_commands import put_commands

from bench.errors import BenchError, ClusterError
from bench.grid import FoldSettings, Grid, Settings
from bench.planning import plan
from bench.results import plans
from bench.submission import retry_plans


def retry(results, **changes) -> int:
    options = {"console": Console(file=StringIO()), "failed": False, "detach": False, "profile": None}
    return retry_plans.retry_plans(results, **{**options, **changes})


def save_plan(results, kind: str, profile: str = "default") -> None:
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=2)))
    runs = plan.make(replace(grid, classical=False), "d").runs
    plans.write(results, plans.SavedPlan("g", "now", runs, (), results, None, "cpu", kind, profile))


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
        "less in the profile. Another profile is given with `bench retry --profile NAME`."
    )


def test_local_runs_can_not_be_left_to_themselves(tmp_path):
    save_plan(tmp_path, "local")
    with pytest.raises(ClusterError, match="--detach needs SLURM"):
        retry(tmp_path, detach=True)
