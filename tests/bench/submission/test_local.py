"""Local workers: the code they run, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.results import record
from bench.submission import follow, local
from bench.worker import code
from bench.worker.settings import WorkerSettings

WAIT_WHILE_DECODING = """
import sys, threading
from bench import cli
from bench.worker import inputs

def images(*_):
    print("decoding", flush=True)
    threading.Event().wait()

inputs.images = images
cli.main()
"""


def _environment() -> dict[str, str]:
    """Variables under which the code of this test process is found, in any folder."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return {**kept, "PYTHONPATH": str(Path(code.__file__).resolve().parents[2])}


def words(grid: Path, data: Path, results: Path, cluster: str) -> list[str]:
    places = ["--grid", str(grid), "--data", str(data), "--results", str(results)]
    return ["run", *places, "--only", "backbone=classical", "--only", "fold=1", "--cluster", cluster, "--device", "cpu"]


def test_workers_started_in_a_folder_of_decoys_run_the_code_that_started_them(tmp_path, tiny_grid, tiny_data):
    decoy, results = tmp_path / "decoy", tmp_path / "results"
    (decoy / "bench").mkdir(parents=True)
    (decoy / "bench" / "__init__.py").write_text("raise SystemExit('the wrong code')\n")
    (decoy / "torch.py").write_text("raise SystemExit('the wrong torch')\n")
    # -P, as the installed `bench` does: the current folder is not on the path of the command itself.
    command = [sys.executable, "-P", "-m", "bench.cli", *words(tiny_grid, tiny_data, results, "local")]
    done = subprocess.run(command, cwd=decoy, env=_environment(), capture_output=True, text=True, check=False)
    assert "1 of 1 runs are done, 0 failed" in done.stdout, done.stdout + done.stderr
    (left,) = record.read_all(results)
    recorded = (left.provenance or {})["code"]
    assert recorded["path"] == code.code_version().path and len(recorded["digest"]) == 16
    assert not list(results.rglob("*%j*"))  # a folder that submitit makes before it knows the job's number


def test_ctrl_c_while_nothing_has_to_be_saved_is_acknowledged_and_ends_the_command(tmp_path, tiny_grid, tiny_data):
    command = [sys.executable, "-c", WAIT_WHILE_DECODING, *words(tiny_grid, tiny_data, tmp_path / "results", "inline")]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "decoding\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=120)  # for ever, if the signal only set a flag
        finally:
            process.kill()
    assert rest.startswith("Stopping …\n") and "0 of 1 runs are done and kept. Stopped." in rest
    assert process.returncode == 130


def test_local_workers_are_signalled_when_the_command_is_interrupted(tmp_path, monkeypatch, caplog):
    class Worker:
        def done(self):
            raise KeyboardInterrupt

    caplog.set_level("INFO", "bench")
    stopped = []
    (tmp_path / "plans").mkdir()
    monkeypatch.setattr(follow, "pending", lambda runs, *_: list(runs))
    monkeypatch.setattr(local, "start_workers", lambda *_, **__: [Worker()])
    monkeypatch.setattr(local, "stop", stopped.extend)

    class Run:
        id = "0" * 12

    with pytest.raises(KeyboardInterrupt):
        follow.follow_local([Run()], WorkerSettings(tmp_path, tmp_path), inline=False, ignored_failures={})
    assert len(stopped) == 1
    assert caplog.messages == ["Stopping: runs that train save their state first …"]


def test_every_local_worker_gets_a_gpu_that_the_user_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local.visible_gpus() == ["2", "3"]


def test_workers_of_a_command_whose_current_folder_was_removed_still_work(tmp_path, tiny_grid, tiny_data):
    folder = tmp_path / "folder"
    folder.mkdir()
    script = "import os, sys; from bench import cli; os.rmdir(os.getcwd()); cli.main()"
    command = [sys.executable, "-c", script, *words(tiny_grid, tiny_data, tmp_path / "results", "local")]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    assert "1 of 1 runs are done, 0 failed" in done.stdout, done.stdout + done.stderr
