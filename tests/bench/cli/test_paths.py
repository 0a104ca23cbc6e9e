"""Paths on the command line: names that are not UTF-8, and errors of the file system in words."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli

NAME = os.fsdecode(b"caf\xe9")  # Latin-1, as file systems may hold it


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "XDG_CACHE_HOME": str(cwd)},
    )


def test_names_that_are_not_utf_8_are_shown_or_refused_without_a_traceback(tmp_path: Path, tiny_data: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    expected = {
        ("plan", "--data", folder): (2, r"the data folder .*caf\xe9 has a name that is not UTF-8"),
        ("plan", "--grid", f"{NAME}.py"): (2, "there is no grid file"),
        ("data", "synth", folder / "s", "--size", 64): (2, r"caf\xe9/s: the folder has a name that is not UTF-8"),
        ("run", "--data", tiny_data, "--cluster", "inline", "--results", folder): (2, "has a name that is not UTF-8"),
        ("list", "heads", "--plugins", folder): (0, "distance"),
        ("status", "--results", folder): (0, r"caf\xe9"),
        ("weights", "check", "mobile_sam", "--weights", folder): (1, r"caf\xe9"),
    }
    for arguments, (code, text) in expected.items():
        done = bench(*arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert text.replace(".*", "") in done.stdout + done.stderr or all(
            part in done.stdout + done.stderr for part in text.split(".*")
        ), (arguments, done.stderr)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "r/t.csv"),
            "r/t.csv: Read-only file system. Make it writable, or name another place (--results DIR, or -o FILE).",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device. What is done is kept: make room, and give the same command again.",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", NAME), r"caf\xe9: No such file or directory."),
    ],
)
def test_errors_of_the_file_system_are_in_words(monkeypatch, capsys, error: OSError, text: str) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(
        cli.characters, "replace_what_cannot_be_shown", lambda: None
    )  # pytest's streams stay as they are
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {text}\n"


def test_an_unknown_error_keeps_its_traceback(monkeypatch) -> None:
    def app() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(cli.characters, "replace_what_cannot_be_shown", lambda: None)
    with pytest.raises(KeyError, match="a bug"):
        cli.main()


def test_v_shows_debug_messages(monkeypatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    levels: list[int] = []
    monkeypatch.setattr(cli, "set_up_logging", levels.append)
    runner = CliRunner()
    for flags in ([], ["-v"], ["-v", "--verbose"]):
        assert runner.invoke(cli.app, [*flags, "list", "heads"]).exit_code == 0
    assert levels == [0, 1, 2]


def test_plan_takes_a_device(tmp_path: Path, tiny_data: Path, tiny_grid: Path) -> None:
    where = ("--grid", tiny_grid, "--data", tiny_data, "--results", tmp_path / "r")
    on_cpu = bench("plan", *where, "--device", "cpu", cwd=tmp_path)
    assert on_cpu.returncode == 0, on_cpu.stderr
    assert "measured on a CPU" in on_cpu.stdout
    assert "measured on a CPU" not in bench("plan", *where, cwd=tmp_path).stdout
