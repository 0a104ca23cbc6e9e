from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bench.grid import FoldSettings, Grid, Run, Settings
from bench.planning import plan
from bench.worker import job as room
from bench.worker.job import Job, JobResult
from bench.worker.settings import WorkerSettings
from bench.worker.stop import StopFlag
from bench.worker.worker import WorkResult


def runs(count: int) -> tuple[Run, ...]:
    grid = Grid("g", ("sam_nano",), ("full",), Settings(weights="random", folds=FoldSettings(n_splits=count)))
    return plan.make(replace(grid, classical=False), "d").runs


def test_a_job_sees_its_gpu_alone(monkeypatch):
    seen: list[str] = []

    def work(*_, **__):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return WorkResult()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(room, "work", work)
    assert Job((), WorkerSettings(Path("r"), Path("d")), {}, gpu="3")() == JobResult()
    assert seen == ["3"]


def test_only_jobs_that_may_be_requeued_have_a_checkpoint():
    job = Job((), WorkerSettings(Path("r"), Path("d")), {})
    assert job.checkpoint() is None
    again = replace(job, requeue=True).checkpoint()
    assert again.function == replace(job, requeue=True) and (again.args, again.kwargs) == ((), {})


def test_several_processes_share_a_gpu_and_do_every_run_once(tmp_path, tiny_grid, tiny_data):
    from bench.results import record
    from bench.submission import prepare

    prepared = prepare.prepare(
        str(tiny_grid), only=["backbone=classical"], data=tiny_data, weights_folder=None, results=tmp_path
    )
    job = Job(prepared.plan.runs, WorkerSettings(tmp_path, tiny_data, device="cpu"), {}, at_once=2, threads=1)
    assert job() == JobResult()
    found = list(record.read_all(tmp_path))
    assert {one.status for one in found} == {"ok"} and len(found) == 2 and not any(one.attempts for one in found)


def test_what_keeps_processes_that_share_a_gpu_from_working_comes_back(tmp_path):
    job = Job(runs(2), WorkerSettings(tmp_path, tmp_path / "gone", device="cpu"), {}, at_once=2)
    assert str(tmp_path / "gone") in str(job().error)


def test_a_job_whose_gpu_torch_can_not_see_says_so(tmp_path):
    import pytest
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    job = Job(runs(2), WorkerSettings(tmp_path, tmp_path, device="cuda"), {})
    assert "PyTorch finds no usable GPU in job" in str(job().error)
    assert not (tmp_path / "runs").exists()


def test_a_job_that_is_told_to_stop_before_it_works_does_nothing(tmp_path, monkeypatch):
    import signal

    import torch

    monkeypatch.setattr(torch, "set_num_threads", lambda _: signal.raise_signal(signal.SIGUSR2))
    job = Job(runs(2), WorkerSettings(tmp_path, tmp_path / "gone", device="cpu"), {}, threads=1)
    assert job() == JobResult(stopped=True, signal=signal.SIGUSR2)


def test_signals_are_noted_on_the_jobs_standard_error(monkeypatch, capfd):
    import logging
    import signal

    def work(*_, **__):
        with StopFlag() as stop:
            signal.raise_signal(signal.SIGTERM)
        return WorkResult(stopped=stop())

    monkeypatch.setattr(room, "work", work)
    loggers = [logging.getLogger(name) for name in ("bench", "registry")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    assert Job((), WorkerSettings(Path("r"), Path("d")), {})().stopped
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(" INFO ")[2] for line in lines] == ["Stopping: the state is saved first …"]
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


def test_messages_that_a_command_shows_are_not_written_a_second_time(monkeypatch, capfd):
    import logging
    from io import StringIO

    from rich.console import Console

    from bench.console import logging_to

    def work(*_, **__):
        logging.getLogger("bench.some_module").info("a message")
        return WorkResult()

    monkeypatch.setattr(room, "work", work)
    printed = StringIO()
    with logging_to(Console(file=printed)):
        Job((), WorkerSettings(Path("r"), Path("d")), {})()
    assert printed.getvalue() == "a message\n" and capfd.readouterr().err == ""


def test_a_job_without_slurms_commands_is_judged_by_its_signal(tmp_path, monkeypatch):
    import signal

    import pytest

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))  # as in a container
    job = Job((), WorkerSettings(Path("r"), Path("d")), {}, requeue=True)
    monkeypatch.setattr(room, "work", lambda *_, **__: WorkResult({"a": "interrupted"}, True, signal.SIGUSR2))
    assert job() == JobResult(stopped=True, left=("a",), signal=signal.SIGUSR2)  # a time limit: submitted again
    monkeypatch.setattr(room, "work", lambda *_, **__: WorkResult({"a": "interrupted"}, True, signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:  # cancelled, preempted or requeued: SLURM knows, and no result is left
        job()
    assert ended.value.code == 143
