"""Giving runs out, without a cluster: what goes wrong before and around the jobs."""

from __future__ import annotations

import pytest
from test_schedule import commands

from bench.errors import ClusterError
from bench.estimate.packing import JobArray
from bench.results import submissions
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import follow
from bench.worker.worker import WorkerSettings


@pytest.fixture
def plan(tmp_path, tiny_grid, tiny_data):
    from bench.submission import prepare

    return prepare.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path).plan


def test_what_keeps_a_job_from_working_comes_back_as_a_sentence(tmp_path, plan):
    places = WorkerSettings(results=tmp_path, data=tmp_path / "gone", device="cpu")
    outcome = follow.follow_local(plan.runs, places, inline=True, forgiven={})
    (error,) = outcome.errors
    assert str(tmp_path / "gone") in error


def test_what_sbatch_refuses_is_told_in_a_sentence(tmp_path, plan, monkeypatch):
    refuse = "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1"
    monkeypatch.setattr(client, "queue", lambda: client.Queue({}, "0@here"))
    monkeypatch.setattr(client, "owner", lambda: "0@here")
    commands(tmp_path / "bin", monkeypatch, sbatch=refuse, srun="exit 0")
    with pytest.raises(ClusterError, match=r"sbatch refused the jobs: .*invalid partition specified: gpuu"):
        follow.follow_slurm(
            plan.runs,
            WorkerSettings(results=tmp_path, data=tmp_path),
            profile=ClusterProfile(),
            forgiven={},
            arrange=lambda due: [JobArray(10, 1, tuple((run,) for run in due))],
        )
    book = submissions.read(tmp_path)
    assert book.open == () and len(book.closed) == 1  # noted, and accounted for: nothing was submitted
