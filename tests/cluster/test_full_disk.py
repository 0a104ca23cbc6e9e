"""Results on a full or read-only disk: one sentence, no torn file, and work continues once there is room."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from study import Study, leftovers

GRID = {"strategies": ("zero_shot", "decoder_only"), "folds": (1,), "epochs": 20, "classical": True}
SMALL, LARGE = "size=24m", "size=400m"  # the state of one training takes 65 MB


def mount(folder: Path, option: str, *, again: bool = True) -> subprocess.CompletedProcess[str]:
    options = f"remount,{option}" if again else option
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = mount(folder, SMALL, again=False)
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk to its last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError as error:
                assert error.strerror == "No space left on device"
    return filler


def stopped_between_files(one: Study) -> tuple[str, dict[str, Any]] | None:
    """A training process, stopped with no unfinished file: that one's room would do for the record of its failure."""
    for run, progress in one.training(2).items():
        os.kill(progress["pid"], signal.SIGSTOP)
        if not list(one.results.rglob("*.tmp")):
            return run, progress
        os.kill(progress["pid"], signal.SIGCONT)
    return None


def test_a_full_disk_is_refused_before_anything_is_run(disk, cluster, study):
    one = study(cluster, results=disk / "results", **GRID)
    filler = fill(disk)
    output = one.finish(one.run(cluster="inline"), expect=2)
    assert output == (
        f"error: can't write to the results folder {one.results}: No space left on device; "
        "choose another with --results DIR.\n"
    )
    assert not [path for path in one.results.rglob("*") if path.is_file()]
    filler.unlink()
    output = one.finish(one.run("--only", "strategy=zero_shot", cluster="inline"))
    assert "2 of 2 runs are done, 0 failed" in output


def test_a_run_without_room_fails_alone_and_is_done_once_there_is_room(disk, cluster, study):
    one = study(cluster, results=disk / "results", **GRID)
    output = one.finish(one.run(), expect=1)
    assert "failed sam_nano decoder_only fold 1: environment: OSError: [Errno 28] No space left on device" in output
    assert "2 of 3 runs are done, 1 failed" in output
    assert leftovers(one.results) == []
    (failed,) = [found for found in one.records().values() if found.status == "failed"]

    assert mount(disk, "ro").returncode == 0
    refused = f"error: can't write to the results folder {one.results}: Read-only file system; "
    assert one.finish(one.run(), expect=2) == f"{refused}choose another with --results DIR.\n"
    assert "environment: OSError: [Errno 28]" in one.do("status", expect=1)  # what only reads goes on working
    assert "environment: OSError: [Errno 28]" in one.do("table")
    for verb, flags in (("retry", ()), ("cancel", ("--all",))):
        output = one.do(verb, *flags, expect=2)
        assert output.startswith(refused)
    assert one.records()[failed.id] == failed

    assert mount(disk, f"rw,{LARGE}").returncode == 0
    output = one.do("retry")
    assert "1 run on SLURM; 2 done already" in output
    assert "3 of 3 runs are done, 0 failed" in output
    assert [attempt["reason"] for attempt in one.records()[failed.id].attempts] == [failed.reason]
    assert leftovers(one.results) == []


@pytest.mark.release
def test_a_disk_without_room_for_the_record_ends_the_command_and_tears_nothing(disk, cluster, study):
    assert mount(disk, LARGE).returncode == 0
    one = study(cluster, results=disk / "results", **GRID)
    command = one.run(cluster="inline")
    run, progress = one.until("a run that trains and writes no file", lambda: stopped_between_files(one))
    (one.results / "runs" / run / "progress.json").unlink()  # its room would do for a short record
    filler = fill(disk)
    os.kill(progress["pid"], signal.SIGCONT)
    output = one.finish(command, expect=1)
    assert "error: environment: OSError: [Errno 28] No space left on device" in output
    assert "Fix that, and give the same command again." in output
    assert run not in one.records() and leftovers(one.results) == []
    filler.unlink()
    assert "3 of 3 runs are done, 0 failed" in one.finish(one.run(cluster="inline"))
    assert leftovers(one.results) == []
