"""Following runs without a cluster: failures before and around the jobs."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
from slurm_commands import put_commands

from bench.errors import BenchError, ClusterError
from bench.estimate.packing import JobArray
from bench.results import submissions
from bench.slurm import client
from bench.slurm.profile import ClusterProfile
from bench.submission import follow
from bench.submission.results_folder import PresenceCheck
from bench.worker.settings import WorkerSettings


@pytest.fixture
def plan(tmp_path, tiny_grid, tiny_data):
    from bench.submission import prepare

    (tmp_path / "plans").mkdir()  # as `bench run` does first
    return prepare.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=tmp_path).plan


def test_an_error_that_keeps_a_job_from_working_comes_back_as_a_sentence(tmp_path, plan):
    settings = WorkerSettings(results=tmp_path, data=tmp_path / "gone", device="cpu")
    outcome = follow.follow_local(plan.runs, settings, inline=True, ignored_failures={})
    (error,) = outcome.errors
    assert str(tmp_path / "gone") in error


def test_a_refusal_of_sbatch_is_a_sentence(tmp_path, plan, monkeypatch):
    refuse = "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1"
    monkeypatch.setattr(client, "queue", lambda: client.Queue({}, "0@here"))
    monkeypatch.setattr(client, "owner", lambda: "0@here")
    put_commands(tmp_path / "bin", monkeypatch, sbatch=refuse, srun="exit 0")
    with pytest.raises(ClusterError, match=r"sbatch refused the jobs: .*invalid partition specified: gpuu"):
        follow.follow_slurm(
            plan.runs,
            WorkerSettings(results=tmp_path, data=tmp_path),
            profile=ClusterProfile(),
            ignored_failures={},
            arrange=lambda due: [JobArray(10, 1, tuple((run,) for run in due))],
        )
    ledger = submissions.read(tmp_path)
    assert ledger.open == () and len(ledger.closed) == 1  # noted, and accounted for: nothing was submitted


def test_a_results_folder_that_vanishes_ends_the_command_with_a_sentence(tmp_path, plan, monkeypatch):
    import shutil

    results = tmp_path / "results"
    (results / "plans").mkdir(parents=True)
    settings = WorkerSettings(results=results, data=tmp_path)

    def vanish():
        shutil.rmtree(results)
        results.mkdir()  # a worker that goes on makes it anew
        return client.Queue({}, "0@here")

    monkeypatch.setattr(follow, "PresenceCheck", partial(PresenceCheck, clock=count(step=10.0).__next__))
    monkeypatch.setattr(client, "queue", vanish)
    monkeypatch.setattr(follow.Controller, "act", lambda self: None)
    with pytest.raises(BenchError, match=r"the results folder .*results is gone: .* give the same command again"):
        follow.follow_slurm(
            plan.runs, settings, profile=ClusterProfile(), ignored_failures={}, arrange=lambda due: [], poll_s=0.0
        )
    with pytest.raises(BenchError, match="is gone"):
        follow.follow_local(plan.runs, settings, inline=True, ignored_failures={}, poll_s=0.0)
    assert not (results / "jobs").exists()  # nothing was started, or given out, a second time


def test_a_results_folder_that_is_missed_for_a_moment_changes_nothing(tmp_path, plan, monkeypatch):
    results, hidden = tmp_path / "results", tmp_path / "hidden"
    (results / "plans").mkdir(parents=True)
    answers: list[bool] = []

    class Check(PresenceCheck):
        def __call__(self) -> bool:
            answers.append(super().__call__())
            if hidden.exists():
                hidden.rename(results)  # it is back at the next poll
            return answers[-1]

    def miss():
        if answers == [True]:
            results.rename(hidden)
        return None if len(answers) < 3 else pytest.fail("the end")

    monkeypatch.setattr(follow, "PresenceCheck", Check)
    monkeypatch.setattr(client, "queue", miss)
    monkeypatch.setattr(follow.submissions, "read", lambda _: submissions.Ledger((), (), frozenset()))
    settings = WorkerSettings(results=results, data=tmp_path)
    with pytest.raises(pytest.fail.Exception, match="the end"):
        follow.follow_slurm(
            plan.runs, settings, profile=ClusterProfile(), ignored_failures={}, arrange=lambda due: [], poll_s=0.0
        )
    assert answers == [True, False, True]
