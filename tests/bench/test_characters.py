"""Terminals that lack characters: replacements, and every command that prints more than ASCII."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated import record, run

from bench.characters import shown_in
from bench.results.record import write
from bench.status.widgets import STATE_STYLES

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for fold in (1, 2):
        write(tmp_path, record(run(fold=fold, n_splits=2), pq=0.5, official=False))
    return tmp_path


def bench(*arguments: str | bytes | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHON"))}
    command = [sys.executable, "-m", "bench.cli", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env={**inherited, **environment, "COLUMNS": "90"})


def test_characters_that_an_encoding_lacks_are_replaced() -> None:
    assert shown_in("ascii", "50 ± 1 – ≈ 2 × 3 …") == "50 +/- 1 - ~ 2 x 3 ..."
    assert shown_in("ascii", "⠋⠙⠹") == "***"
    assert shown_in("ascii", "Müller, ﬁnd 細") == "Muller, find ?"
    assert shown_in("latin-1", "50 ± 1 – Müller") == "50 ± 1 - Müller"
    assert shown_in("utf-8", "50 ± 1 – 細") == "50 ± 1 – 細"


def test_bytes_of_a_file_name_that_are_not_utf_8_are_shown_as_numbers() -> None:
    assert shown_in("utf-8", os.fsdecode(b"caf\xe9")) == "caf\\xe9"


def test_symbols_of_states_stay_different_in_ascii() -> None:
    symbols = [shown_in("ascii", symbol) for symbol, _ in STATE_STYLES.values()]
    assert len(set(symbols)) == len(symbols) and all(len(symbol) == 1 for symbol in symbols)


@pytest.mark.parametrize("environment", ENCODINGS.values(), ids=ENCODINGS)
def test_the_leaderboard_is_printed_in_every_encoding(results: Path, environment: dict[str, str]) -> None:
    done = bench("table", "--results", results, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(environment.get("PYTHONIOENCODING", "ascii"))
    sign = "±" if environment.get("PYTHONIOENCODING") == "latin-1" else "+/-"
    assert f"50.0 {sign} 0.0" in text or f"50.0{sign}0.0" in text
    assert max(map(len, text.splitlines())) <= 90


@pytest.mark.parametrize(
    "command",
    [["status"], ["list"], ["--help"], ["show", "sam_nano"], ["plan", "--only", "backbone=classical"]],
    ids=lambda command: command[0],
)
def test_every_command_prints_in_ascii(results: Path, command: list[str]) -> None:
    place = ["--results", results] if command[0] in ("status", "plan") else []
    done = bench(*command, *place, **ENCODINGS["C locale"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii() and len(done.stdout.splitlines()) > 3


def test_a_folder_whose_name_is_not_utf_8_can_be_printed(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    done = bench("table", "--results", folder, PYTHONUTF8="1")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no records below " + os.fsencode(tmp_path) + b"/caf\\xe9/runs; ")
