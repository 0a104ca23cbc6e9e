"""Records of attempts: kinds of failures, earlier attempts, and errors of the environment that are tried again."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
import torch

from bench.errors import AuditError, DivergedError, OtherVersionError
from bench.results import record, retry
from bench.results.retry import Limits
from bench.submission import prepare
from bench.worker import provenance, worker
from bench.worker.attempt import failure_of, loader_workers
from bench.worker.settings import WorkerSettings
from registry.errors import CacheDirError, DataError, StrategyError, UnknownNameError, WeightsError

DRIVER_TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040)."
WORKER_KILLED = "DataLoader worker (pid 12) is killed by signal: Killed. "


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (DivergedError("the loss became nan at step 3"), "diverged", "diverged: the loss became nan at step 3"),
        (MemoryError(), "out_of_memory", "out of memory: MemoryError"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory", "out of memory: CUDA error: out of memory"),
        (
            OSError(errno.ESTALE, "Stale file handle"),
            "lost",
            "lost: the file system failed: [Errno 116] Stale file handle",
        ),
        (OSError(errno.ENOSPC, "No space left"), "environment", "environment: OSError: [Errno 28] No space left"),
        (PermissionError(13, "no"), "environment", "environment: PermissionError: [Errno 13] no"),
        (WeightsError("checkpoint of x: missing"), "environment", "environment: checkpoint of x: missing"),
        (DataError("/data does not exist"), "environment", "environment: /data does not exist"),
        (ImportError("no module my_sam"), "environment", "environment: ImportError: no module my_sam"),
        (UnknownNameError("backbone", "x", ()), "environment", "environment: unknown backbone 'x'. Known: none."),
        (CacheDirError("no home folder"), "environment", "environment: no home folder"),
        (OtherVersionError("newer code"), "environment", "environment: newer code"),
        (RuntimeError("No CUDA GPUs are available"), "environment", "environment: No CUDA GPUs are available"),
        (RuntimeError(DRIVER_TOO_OLD), "environment", f"environment: {DRIVER_TOO_OLD}"),
        (
            RuntimeError("Found no NVIDIA driver on your system."),
            "environment",
            "environment: Found no NVIDIA driver on your system.",
        ),
        (
            torch.AcceleratorError("CUDA error: no CUDA-capable device is detected\nSearch for it"),
            "environment",
            "environment: CUDA error: no CUDA-capable device is detected Search for it",
        ),
        (
            RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
            "environment",
            "environment: CUDA error: all CUDA-capable devices are busy or unavailable",
        ),
        (
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
            "node_failed",
            "node failed: CUDA error: uncorrectable ECC error encountered",
        ),
        (RuntimeError(WORKER_KILLED), "out_of_memory", f"out of memory: {WORKER_KILLED.strip()}"),
        (
            caused(RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"), RuntimeError(WORKER_KILLED)),
            "out_of_memory",
            "out of memory: DataLoader worker (pid(s) 12) exited unexpectedly",
        ),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error."),
            "environment",
            "environment: DataLoader worker (pid 12) is killed by signal: Bus error.",
        ),
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered"),
            "error",
            "AcceleratorError: CUDA error: device-side assert triggered",
        ),
        (ValueError("No CUDA GPUs are available"), "error", "ValueError: No CUDA GPUs are available"),
        (AuditError("the audit failed"), "error", "the audit failed"),
        (StrategyError("rank 0 is not possible"), "error", "rank 0 is not possible"),
        (KeyError("x"), "error", "KeyError: 'x'"),
    ],
)
def test_each_error_has_a_kind(error, kind, reason):
    failure = failure_of(error)
    assert (failure.kind, failure.reason) == (kind, reason)


@pytest.fixture
def one_run(tmp_path, tiny_grid, tiny_data):
    prepared = prepare.prepare(
        str(tiny_grid), only=["strategy=zero_shot", "fold=1"], data=tiny_data, weights_folder=None, results=tmp_path
    )
    return prepared.plan.runs[-1]


def test_a_checkpoint_that_a_node_lacks_fails_as_environment_and_the_next_command_tries_again(
    tmp_path, one_run, tiny_data
):
    run = replace(one_run, backbone="mobile_sam", weights="official")
    settings = WorkerSettings(tmp_path, tiny_data, weights=tmp_path / "nothing", device="cpu")
    assert worker.work([run], settings).statuses == {run.id: "failed"}
    failed = record.read(tmp_path, run.id)
    assert failed is not None and failed.failures == ("environment",)
    assert failed.reason.startswith("environment: checkpoint of mobile_sam: missing")
    assert worker.work([run], settings).statuses == {}  # not by the same command
    ignored = retry.count_ignored(failed.failures)
    assert ignored == 1 and retry.is_due(failed, run, limits=Limits(), ignored_failures=ignored)
    assert worker.work([run], settings, ignored_failures={run.id: ignored}).statuses == {run.id: "failed"}
    again = record.read(tmp_path, run.id)
    assert again is not None and [attempt["failure"] for attempt in again.attempts] == [{"kind": "environment"}]


def test_a_bug_is_final(tmp_path, one_run, tiny_data, monkeypatch):
    from bench import run as run_module

    def execute(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(run_module, "execute", execute)
    worker.work([one_run], WorkerSettings(tmp_path, tiny_data, device="cpu"))
    failed = record.read(tmp_path, one_run.id)
    assert failed is not None and failed.failures == ("error",)
    assert "ZeroDivisionError: division by zero" in str(failed.traceback)
    assert retry.count_ignored(failed.failures) == 0


def test_a_name_that_a_plug_in_did_not_register_on_the_node_is_an_error_of_the_environment(
    tmp_path, one_run, tiny_data
):
    run = replace(one_run, backbone="sam_of_a_plug_in")
    worker.work([run], WorkerSettings(tmp_path, tiny_data, device="cpu"))
    failed = record.read(tmp_path, run.id)
    assert failed is not None and failed.failures == ("environment",)
    assert "unknown backbone 'sam_of_a_plug_in'" in failed.reason


def test_training_settings_of_newer_code_fail_as_environment(tmp_path, one_run, tiny_data):
    run = replace(one_run, train={"lookahead": 0.99, "swa": True})
    worker.work([run], WorkerSettings(tmp_path, tiny_data, device="cpu"))
    failed = record.read(tmp_path, run.id)
    assert failed is not None and failed.failures == ("environment",)
    assert failed.reason.startswith(
        "environment: this run was planned by newer code: train.lookahead, train.swa are unknown here."
    )


def test_runs_planned_under_other_rules_fail_as_environment(tmp_path, one_run, tiny_data):
    run = replace(one_run, rules_version="0.1")
    worker.work([run], WorkerSettings(tmp_path, tiny_data, device="cpu"))
    failed = record.read(tmp_path, run.id)
    assert failed is not None and failed.failures == ("environment",)
    assert failed.reason.startswith("environment: this run was planned under version 0.1 of the rules for folds,")


def test_a_plug_in_that_can_not_be_read_any_more_fails_the_run_and_ends_nothing(
    tmp_path, one_run, tiny_data, monkeypatch
):
    def digests(sources):
        raise PermissionError(errno.EACCES, "Permission denied", "/plug/in.py")

    monkeypatch.setattr(provenance.plugins, "digests", digests)
    assert worker.work([one_run], WorkerSettings(tmp_path, tiny_data, device="cpu")).statuses == {one_run.id: "failed"}
    failed = record.read(tmp_path, one_run.id)
    assert failed is not None and failed.failures == ("environment",)
    assert failed.provenance is not None and failed.provenance["started"] <= failed.provenance["ended"]


@pytest.mark.parametrize(
    ("device", "threads", "at_once", "expected"),
    [("cuda", 8, 1, 8), ("cpu", 8, 1, 0), ("cpu", 6, 1, 2), ("cpu", 1, 1, 4), ("cpu", 2, 4, 0), ("cpu", 1, 4, 1)],
)
def test_samples_are_prepared_on_the_cores_that_pytorch_and_other_runs_leave_free(
    tmp_path, monkeypatch, device, threads, at_once, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    settings = WorkerSettings(tmp_path, tmp_path, runs_at_once=at_once)
    assert loader_workers(device, settings) == expected
    assert loader_workers(device, replace(settings, loader_workers=3)) == 3
