"""Giving runs out, without a cluster: what goes wrong before and around the jobs."""

from __future__ import annotations

import pytest
from test_schedule import commands

from bench import cluster, follow, ledger, slurm
from bench.arrays import Array
from bench.errors import ClusterError
from bench.work import Places


@pytest.fixture
def plan(tmp_path, tiny_grid, tiny_data):
    from bench import launch

    return launch.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path).plan


def test_what_keeps_a_job_from_working_comes_back_as_a_sentence(tmp_path, plan):
    places = Places(results=tmp_path, data=tmp_path / "gone", device="cpu")
    outcome = follow.here(plan.runs, places, inline=True, forgiven={})
    (error,) = outcome.errors
    assert str(tmp_path / "gone") in error


def test_what_sbatch_refuses_is_told_in_a_sentence(tmp_path, plan, monkeypatch):
    refuse = "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1"
    monkeypatch.setattr(slurm, "queue", lambda: slurm.Queue({}, "0@here"))
    monkeypatch.setattr(slurm, "owner", lambda: "0@here")
    commands(tmp_path / "bin", monkeypatch, sbatch=refuse, srun="exit 0")
    with pytest.raises(ClusterError, match=r"sbatch refused the jobs: .*invalid partition specified: gpuu"):
        follow.on_slurm(
            plan.runs,
            Places(results=tmp_path, data=tmp_path),
            profile=cluster.ClusterProfile(),
            forgiven={},
            arrange=lambda due: [Array(10, 1, tuple((run,) for run in due))],
        )
    book = ledger.read(tmp_path)
    assert book.open == () and len(book.closed) == 1  # noted, and accounted for: nothing was submitted
