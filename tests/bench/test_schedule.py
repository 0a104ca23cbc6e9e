from __future__ import annotations

import pytest

from bench import schedule
from bench.errors import ClusterError
from bench.work import Places


def test_auto_is_slurm_where_there_is_an_sbatch(monkeypatch):
    monkeypatch.setattr(schedule.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert schedule.choose("auto") == "slurm"
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
