from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import schedule
from bench.errors import ClusterError
from bench.work import Places, Worked


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
    commands(tmp_path / "down", monkeypatch, sbatch="exit 0", sinfo="exit 1")  # packages without a cluster
    assert schedule.choose("auto") == "local"
    monkeypatch.setattr(schedule.shutil, "which", lambda name: None)
    assert schedule.choose("auto") == "local"
    assert schedule.choose("inline") == "inline"


def test_what_can_not_be_is_refused(monkeypatch):
    monkeypatch.setattr(schedule.shutil, "which", lambda name: None)
    with pytest.raises(
        ClusterError, match="there is no sbatch on this machine; use --cluster local or inline"
    ):
        schedule.choose("slurm")
    with pytest.raises(ClusterError, match="--cluster 'pbs': use auto, inline, local, slurm"):
        schedule.choose("pbs")


def test_what_keeps_a_job_from_working_comes_back_as_a_sentence(tmp_path, tiny_grid, tiny_data):
    from bench import launch

    prepared = launch.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path)
    places = Places(results=tmp_path, data=tmp_path / "gone", device="cpu")
    outcome = schedule.follow(prepared.plan.runs, places, kind="inline", redo_failed_before="2026")
    (error,) = outcome.errors
    assert str(tmp_path / "gone") in error


def test_what_sbatch_refuses_is_told_in_a_sentence(tmp_path, tiny_grid, tiny_data, monkeypatch):
    from bench import launch

    refuse = "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1"
    commands(tmp_path / "bin", monkeypatch, sbatch=refuse)
    prepared = launch.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path)
    places = Places(results=tmp_path, data=tiny_data, device="cpu")
    with pytest.raises(ClusterError, match=r"sbatch refused the jobs: .*invalid partition specified: gpuu"):
        schedule.follow(prepared.plan.runs, places, kind="slurm", redo_failed_before="2026")


def test_every_local_worker_gets_a_gpu_that_the_user_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert schedule._gpus() == ["2", "3"]
    seen: list[str] = []

    def work(*_, **__):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return Worked()

    monkeypatch.setattr(schedule, "work", work)
    assert schedule.job([], Places(Path("r"), Path("d")), "2026", "3", None) == schedule.JobResult()
    assert seen == ["3"]
