"""Processes that are killed, stopped, or started twice. Real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.results import progress, record, run_lock, submissions
from bench.submission import prepare
from bench.worker import worker
from bench.worker.job import Job
from bench.worker.settings import WorkerSettings
from registry import datasets
from registry.contract import Sample
from registry.datasets import synthetic

WORKER = """
import sys
from pathlib import Path
from bench import run
from bench.results.record import RunRecord
from bench.submission import prepare
from bench.worker.settings import WorkerSettings
from bench.worker.worker import work

log, grid, data, results = sys.argv[1:]

def execute(one, images, context, **_):
    with open(log, "a") as file:
        file.write(one.id + "\\n")
    return RunRecord(id=one.id, status="ok", run=one.as_dict(), scores={})

run.execute = execute
prepared = prepare.prepare(grid, data=Path(data), weights_folder=None, results=Path(results))
work(prepared.plan.runs, WorkerSettings(Path(results), Path(data), device="cpu"))
"""


def start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def bench(results: Path, grid: Path, data: Path, *more: str) -> subprocess.Popen:
    where = ["--grid", str(grid), "--data", str(data), "--results", str(results), "--device", "cpu"]
    return start(["-m", "bench.cli", "run", *where, *more])


def when_training(process: subprocess.Popen, results: Path, epoch: int) -> Path:
    """Wait until some run trains its `epoch`-th epoch; returns the run's folder."""
    while process.poll() is None:
        for folder in results.glob("runs/*"):
            if (progress.read(folder) or {}).get("epoch", 0) >= epoch:
                return folder
    raise AssertionError(f"the command ended early:\n{process.communicate()[0]}")


def trained_bytes(results: Path) -> dict[str, bytes]:
    return {path.parts[-3]: path.read_bytes() for path in results.glob("runs/*/trained/trained.safetensors")}


def test_three_workers_at_once_do_no_run_twice(tmp_path, tiny_grid, tiny_data):
    log, results = tmp_path / "log", tmp_path / "results"
    arguments = ["-c", WORKER, str(log), str(tiny_grid), str(tiny_data), str(results)]
    for process in [start(arguments) for _ in range(3)]:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    prepared = prepare.prepare(str(tiny_grid), data=tiny_data, weights_folder=None, results=results)
    assert Counter(log.read_text().split()) == {run.id: 1 for run in prepared.plan.runs}
    assert prepared.pending == ()
    assert not list(results.glob("runs/*/.*"))


def test_two_commands_at_once_share_the_work(tmp_path, tiny_grid, tiny_data):
    flags = ["--only", "strategy=decoder_only", "--cluster", "inline"]
    both = [bench(tmp_path, tiny_grid, tiny_data, *flags) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all("4 of 4 runs are done, 0 failed" in output for output in outputs)
    records = list(record.read_all(tmp_path))
    assert len(records) == 4 and {r.status for r in records} == {"ok"}
    assert all(r.attempts == [] for r in records)
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".") or p.name == run_lock.FILENAME]


def test_a_killed_run_leaves_no_record_and_resumes_bit_equal(tmp_path, tiny_grid, tiny_data, bench_run):
    narrow = ["strategy=lora_qv", "fold=1"]
    epochs = ["train.epochs=20", "train.patience=0"]
    code, _ = bench_run(tmp_path / "undisturbed", only=narrow, assignments=epochs)
    assert code == 0
    flags = [f for pair in (("--only", n) for n in narrow) for f in pair]
    flags += [f for pair in (("--set", e) for e in epochs) for f in pair]
    process = bench(tmp_path / "killed", tiny_grid, tiny_data, "--cluster", "inline", *flags)
    folder = when_training(process, tmp_path / "killed", epoch=3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / record.FILENAME).exists()
    assert (folder / "state.pt").exists()
    code, _ = bench_run(tmp_path / "killed", only=narrow, assignments=epochs)
    assert code == 0
    assert trained_bytes(tmp_path / "killed") == trained_bytes(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("cluster", "number"), [("inline", signal.SIGINT), ("local", signal.SIGINT), ("local", signal.SIGTERM)]
)
def test_a_signal_saves_the_state_and_the_message_says_how_to_continue(tmp_path, tiny_grid, tiny_data, cluster, number):
    flags = ["--only", "strategy=decoder_only", "--set", "train.epochs=500", "--set", "train.patience=0"]
    process = bench(tmp_path, tiny_grid, tiny_data, "--cluster", cluster, *flags)
    folder = when_training(process, tmp_path, epoch=2)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 130 and "Traceback" not in output, output
    assert "2 of 4 runs are done and kept. Stopped. The same command continues where this one stopped." in output
    assert (folder / "state.pt").exists() and run_lock.holder(folder) is None


def test_a_killed_worker_is_replaced(tmp_path, tiny_grid, tiny_data):
    flags = ["--only", "strategy=decoder_only", "--set", "train.epochs=15", "--set", "train.patience=0"]
    process = bench(tmp_path, tiny_grid, tiny_data, "--cluster", "local", *flags)
    folder = when_training(process, tmp_path, epoch=2)
    holder = run_lock.holder(folder)
    assert holder is not None and holder["pid"] != process.pid
    os.kill(holder["pid"], signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert {r.status for r in record.read_all(tmp_path)} == {"ok"}
    assert "4 of 4 runs are done, 0 failed" in output


def test_a_run_whose_process_always_dies_is_recorded_as_lost_and_the_others_are_done(tmp_path, tiny_grid, tiny_data):
    prepared = prepare.prepare(
        str(tiny_grid), only=["strategy=decoder_only"], data=tiny_data, weights_folder=None, results=tmp_path
    )
    deadly = next(run for run in prepared.plan.runs if run.strategy == "decoder_only" and run.fold == 1)
    process = bench(tmp_path, tiny_grid, tiny_data, "--cluster", "local", "--only", "strategy=decoder_only")
    killed: set[str] = set()
    while process.poll() is None:
        holder = run_lock.holder(record.folder(tmp_path, deadly.id))
        if holder is not None and holder["pid"] != process.pid and holder["token"] not in killed:
            killed.add(holder["token"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder["pid"], signal.SIGKILL)
    output = process.communicate()[0]
    assert process.returncode == 1, output
    found = {r.id: r for r in record.read_all(tmp_path)}
    assert len(found) == 4
    gone = found.pop(deadly.id)
    assert gone.reason.startswith("lost: its process was killed: out of host memory? See the logs in")
    assert len(gone.attempts) == 3  # three retries, as the profile's limits say
    assert {r.status for r in found.values()} == {"ok"}


@pytest.fixture
def first_cancelled(tmp_path, tiny_grid, tiny_data):
    """Two runs, of which a user cancelled the first."""
    prepared = prepare.prepare(
        str(tiny_grid), only=["backbone=classical"], data=tiny_data, weights_folder=None, results=tmp_path
    )
    first, second = prepared.plan.runs
    submissions.write_cancelled(tmp_path, [first.id])
    return first, second


def test_a_cancelled_run_that_is_retried_while_its_job_works_is_done_by_that_job(
    tmp_path, first_cancelled, tiny_data, monkeypatch
):
    first, second = first_cancelled
    attempt = worker.attempt

    def attempt_and_retry(run, *arguments, **options):
        submissions.write_cancelled(tmp_path, [])  # `bench retry`, while the job does its other run
        return attempt(run, *arguments, **options)

    monkeypatch.setattr(worker, "attempt", attempt_and_retry)
    result = worker.work(first_cancelled, WorkerSettings(tmp_path, tiny_data, device="cpu"))
    assert result.statuses == {first.id: "ok", second.id: "ok"}


def test_a_run_that_another_process_locked_meanwhile_is_left_to_it(tmp_path, first_cancelled, tiny_data, monkeypatch):
    first, second = first_cancelled
    attempt = worker.attempt

    def attempt_and_lock(run, *arguments, **options):
        submissions.write_cancelled(tmp_path, [])
        assert run_lock.acquire(record.folder(tmp_path, first.id)) is not None
        return attempt(run, *arguments, **options)

    monkeypatch.setattr(worker, "attempt", attempt_and_lock)
    result = worker.work(first_cancelled, WorkerSettings(tmp_path, tiny_data, device="cpu"))
    assert result.statuses == {second.id: "ok"}


def test_cancelled_runs_are_not_begun(tmp_path, first_cancelled, tiny_data):
    first, second = first_cancelled
    result = worker.work(first_cancelled, WorkerSettings(tmp_path, tiny_data, device="cpu"))
    assert result.statuses == {first.id: "cancelled", second.id: "ok"}
    assert record.read(tmp_path, first.id) is None


def test_images_that_changed_between_two_plans_fail_the_runs_of_the_first_and_not_those_of_the_second(
    tmp_path, tiny_grid
):
    data, results = tmp_path / "data", tmp_path / "results"
    synthetic.write(data, n_images=4, image_size=64, seed=5, nuclei=(4, 8))
    arguments = {"only": ["backbone=classical", "fold=1"], "data": data, "weights_folder": None, "results": results}
    (before,) = prepare.prepare(str(tiny_grid), **arguments).plan.runs
    image = next(data.rglob("*.png"))
    Image.open(image).rotate(90).save(image)
    (after,) = prepare.prepare(str(tiny_grid), **arguments).plan.runs
    runs = [before, after, replace(before, seed=7)]
    result = worker.work(runs, WorkerSettings(results, data, device="cpu"))
    assert list(result.statuses.values()) == ["failed", "ok", "failed"]
    failed = record.read(results, before.id)
    assert failed is not None and failed.failures == ("environment",)
    assert f"and the plan was made for {before.dataset_digest}." in failed.reason


class FirstFour:
    """The synthetic dataset without all but its first four images."""

    def __getattr__(self, name: str) -> object:
        return getattr(synthetic_dataset, name)

    def samples(self, root: Path) -> tuple[Sample, ...]:
        return synthetic_dataset.samples(root)[:4]


synthetic_dataset = datasets.get("synthetic")


def test_runs_of_two_datasets_in_one_folder_have_the_images_of_their_own_dataset(
    tmp_path, tiny_grid, tiny_data, monkeypatch
):
    only = ["backbone=classical", "fold=1"]
    prepared = prepare.prepare(str(tiny_grid), only=only, data=tiny_data, weights_folder=None, results=tmp_path)
    (whole,) = prepared.plan.runs
    get = datasets.get
    monkeypatch.setattr(datasets, "get", lambda name: FirstFour() if name == "first_four" else get(name))
    digest = datasets.fingerprint(FirstFour().samples(tiny_data))[: len(whole.dataset_digest)]
    part = replace(whole, dataset="first_four", dataset_digest=digest)
    worker.work([whole, part], WorkerSettings(tmp_path, tiny_data, device="cpu"))
    records = [record.read(tmp_path, run.id) for run in (whole, part)]
    assert [r.status for r in records] == ["ok", "ok"]
    assert [r.provenance["dataset"]["n_images"] for r in records] == [len(synthetic_dataset.samples(tiny_data)), 4]


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_results_folder_that_is_gone_ends_the_job_and_is_not_made_anew(
    tmp_path, tiny_grid, tiny_data, monkeypatch, made_anew
):
    results = tmp_path / "results"
    prepared = prepare.prepare(
        str(tiny_grid), only=["backbone=classical"], data=tiny_data, weights_folder=None, results=results
    )
    attempt = worker.attempt

    def attempt_and_move(*arguments, **options):
        status = attempt(*arguments, **options)
        results.rename(tmp_path / "moved")
        if made_anew:
            results.mkdir()
        return status

    monkeypatch.setattr(worker, "attempt", attempt_and_move)
    ended = Job(prepared.plan.runs, WorkerSettings(results, tiny_data, device="cpu"), {})()
    assert str(ended.error).startswith(f"the results folder {results} is gone: it was moved, removed or unmounted")
    assert [r.status for r in record.read_all(tmp_path / "moved")] == ["ok"]
    assert not (results / "runs").exists()
