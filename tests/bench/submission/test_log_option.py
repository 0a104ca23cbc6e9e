"""`bench run --log tensorboard`: no part of a question, given to workers and jobs, refused where it can't work."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from planned_run import RUN
from rich.console import Console

from bench.errors import PlanError
from bench.results import plans
from bench.results.index import Index
from bench.submission import execute_plan, prepare
from bench.submission.controller import Outcome
from bench.training import events
from bench.worker.job import Job


@pytest.fixture
def arguments(tmp_path, tiny_data):
    return {"only": ["backbone=sam_nano"], "data": tiny_data, "weights_folder": None, "results": tmp_path}


def test_log_changes_no_id(arguments, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda _: object())
    with_log, without = (prepare.prepare("quick", log=log, **arguments) for log in ("tensorboard", None))
    assert (with_log.log, without.log) == ("tensorboard", None)
    assert [run.id for run in with_log.plan.runs] == [run.id for run in without.plan.runs] != []


@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_log_of_a_plan_reaches_workers_and_jobs(tmp_path, monkeypatch, kind):
    given = []

    def follow(plan, settings, view, **_):
        given.append(pickle.loads(pickle.dumps(Job(plan.runs, settings, {}))).settings.log)
        return Outcome()

    monkeypatch.setattr(execute_plan, "_follow", follow)
    plan = plans.SavedPlan("g", "now", (RUN,), (), tmp_path, None, "cpu", kind, "default")
    for log in (None, "tensorboard"):
        plans.write(tmp_path, replace(plan, log=log))
        (saved,) = plans.read_all(tmp_path)
        execute_plan.execute(saved, results=tmp_path, console=Console(quiet=True), index=Index(tmp_path))
    assert given == [None, "tensorboard"]


def test_log_is_refused_with_the_name_of_the_extra_where_tensorboard_is_missing(arguments, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda _: None)
    with pytest.raises(PlanError, match=r"is not installed here; pip install 'nuclei-bench\[tensorboard\]'"):
        prepare.prepare("quick", log="tensorboard", **arguments)
