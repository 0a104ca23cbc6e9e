from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench import plan, schedule, slurm
from bench.arrays import Array
from bench.cluster import ClusterProfile
from bench.errors import ClusterError
from bench.grid import FoldSettings, Grid, Run, Settings


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put small shell scripts before everything else on the path."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_auto_is_slurm_where_a_cluster_answers(tmp_path, monkeypatch):
    commands(tmp_path / "up", monkeypatch, sbatch="exit 0", sinfo="echo gpu up")
    assert schedule.choose("auto") == "slurm"
    commands(tmp_path / "down", monkeypatch, sbatch="exit 0", sinfo="exit 1")
    monkeypatch.setattr(slurm, "configured", lambda: False)  # packages without a cluster
    assert schedule.choose("auto") == "local"
    # A named profile, or a configured cluster that is silent: not the moment to train on a login node.
    with pytest.raises(ClusterError, match=r"SLURM does not answer .*or use --cluster local to run here"):
        schedule.choose("auto", "my_cluster")
    monkeypatch.setattr(slurm, "configured", lambda: True)
    with pytest.raises(ClusterError, match="SLURM does not answer"):
        schedule.choose("auto")
    monkeypatch.setattr(slurm, "installed", lambda: False)
    assert schedule.choose("auto") == "local"
    assert schedule.choose("inline") == "inline"


def test_what_can_not_be_is_refused(monkeypatch):
    monkeypatch.setattr(slurm, "installed", lambda: False)
    with pytest.raises(ClusterError, match="there is no sbatch on this machine; use --cluster local or inline"):
        schedule.choose("slurm")
    with pytest.raises(ClusterError, match="--cluster 'pbs': use auto, inline, local, slurm"):
        schedule.choose("pbs")


def test_every_local_worker_gets_a_gpu_that_the_user_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert schedule._gpus() == ["2", "3"]


def runs(count: int) -> tuple[Run, ...]:
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=count)))
    return plan.make(replace(grid, classical=False), "d").runs


def test_the_sbatch_files_say_what_the_profile_says(tmp_path, monkeypatch):
    commands(tmp_path / "bin", monkeypatch, srun="exit 0")
    profile = ClusterProfile(
        partition="gpu",
        account="lab",
        gpu="a100",
        cpus_per_gpu=6,
        memory_gb_per_gpu=30,
        signal_delay_s=77,
        array_parallelism=2,
        setup=("module load cuda",),
        extra={"reservation": "night"},
    )
    array = Array(time_limit_min=90, runs_at_once=1, jobs=tuple((run,) for run in runs(3)))
    (text,) = schedule.sbatch_texts([array], tmp_path, profile)
    for line in (
        "--array=0-2%2",
        "--partition=gpu",
        "--account=lab",
        "--gres=gpu:a100:1",
        "--cpus-per-task=6",
        "--mem=30GB",
        "--time=90",
        "--signal=USR2@77",
        "--requeue",
        "--reservation=night",
    ):
        assert f"#SBATCH {line}\n" in text, line
    assert "\nmodule load cuda\n" in text
    single = replace(array, jobs=array.jobs[:1])
    (text,) = schedule.sbatch_texts([single], tmp_path, replace(profile, requeue=False, gpu=None))
    assert "--array" not in text and "#SBATCH --no-requeue\n" in text and "#SBATCH --gpus-per-node=1\n" in text


def test_arrays_share_the_limit_by_their_work():
    some = runs(4)
    short = Array(60, 1, tuple((run,) for run in some[:2]))
    long = Array(360, 1, tuple((run,) for run in some[2:]))
    assert schedule.shares([short, long], 14) == [2, 12]
    assert schedule.shares([short, long], 1) == [1, 1]
    assert schedule.shares([short], 32) == [32]
    assert schedule.shares([], 32) == []
