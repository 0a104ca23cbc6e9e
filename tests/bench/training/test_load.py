"""Load of the machine, from files and programs made up for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bench.training import load

CORES = sorted(os.sched_getaffinity(0))


def stat(path: Path, busy_ticks: int) -> Path:
    """A /proc/stat in which the first core of this process was busy for so many ticks, and every other not at all."""
    lines = [f"cpu  {busy_ticks} 0 0 9 0 0 0 0 0 0"]
    lines += [f"cpu{core} {busy_ticks if core == CORES[0] else 0} 0 0 5 7 0 0 0 3 3" for core in CORES]
    path.write_text("\n".join([*lines, f"cpu{max(CORES) + 1} 900000 0 0 0 0 0 0 0 0 0", "intr 1 2 3", ""]))
    return path


def test_busy_time_is_of_the_cores_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STAT", stat(tmp_path / "stat", 5 * load.TICKS_PER_S))
    assert load.busy_seconds() == 5.0


def test_others_are_what_the_cores_did_beyond_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STAT", stat(tmp_path / "stat", 8 * load.TICKS_PER_S))
    monkeypatch.setattr("time.perf_counter", lambda: 10.0)
    monkeypatch.setattr("time.process_time", lambda: 3.0)
    measured = load.Interval(wall=0.0, own=1.0, busy=0.0).load()  # 10 s, of which this process had 2 and the core 8
    uncertain = load.RESOLUTION_S * len(CORES)
    assert measured["others"] == pytest.approx((8 - 2 - uncertain) / (10 * len(CORES)))
    assert measured["own"] == pytest.approx(0.2)


def test_ticks_that_are_in_doubt_are_not_held_against_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "STAT", stat(tmp_path / "stat", 2))
    monkeypatch.setattr("time.perf_counter", lambda: load.SHORTEST_S)
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    assert load.Interval(wall=0.0, own=0.0, busy=0.0).load()["others"] == 0.0


@pytest.mark.parametrize(("seconds", "known"), [(0.01, False), (0.09, False), (0.1, True)])
def test_a_busy_machine_is_unknown_in_an_interval_that_is_too_short_and_never_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, known: bool
) -> None:
    monkeypatch.setattr(load, "TICKS_PER_S", 100)
    monkeypatch.setattr(load, "SHORTEST_S", 0.1)
    monkeypatch.setattr(load, "STAT", stat(tmp_path / "stat", round(100 * seconds * len(CORES))))  # all cores are busy
    monkeypatch.setattr("time.perf_counter", lambda: seconds)
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    interval = load.Interval(wall=0.0, own=0.0, busy=0.0)
    assert interval.is_too_short() is not known
    assert interval.load()["others"] == (pytest.approx(1 - load.RESOLUTION_S / seconds) if known else None)
    assert load.Interval(wall=0.0, own=0.0, busy=None).is_too_short() is False  # no wait makes it known


@pytest.mark.parametrize("content", ["", "cpu0 1 2\n", "nothing of the kind"])
def test_a_system_that_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "stat").write_text(content)
    for path in (tmp_path / "stat", tmp_path / "absent"):
        monkeypatch.setattr(load, "STAT", path)
        assert load.busy_seconds() is None
        assert load.Interval().load()["others"] is None


@pytest.mark.parametrize(("answer", "expected"), [("37", 0.37), ("[N/A]", None), ("", None)])
def test_utilisation_is_that_of_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, expected: float | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$1" = "--id=GPU-1" ] && echo "{answer}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert load.gpu_utilisation("GPU-1") == expected
    assert load.gpu_utilisation("GPU-2") is None  # the program ends with an error


def test_without_nvidia_smi_the_utilisation_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load.gpu_utilisation("GPU-1") is None
    assert load.machine_load(torch.device("cpu"))["gpu_others"] is None


@pytest.mark.parametrize(
    ("others", "gpu", "expected"),
    [
        (0.1, 0.05, []),
        (0.85, None, ["other processes take 85 % of the cores' time"]),
        (None, 0.5, ["other processes use the GPU at 50 %"]),
    ],
)
def test_a_busy_machine_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, others: float | None, gpu: float | None, expected: list[str]
) -> None:
    monkeypatch.setattr(load, "IDLE_S", 0.0)
    monkeypatch.setattr(load.Interval, "load", lambda self: {"others": others, "own": 0.0})
    monkeypatch.setattr(load, "machine_load", lambda device: {"gpu_others": gpu})
    assert load.disturbance(None) == expected
