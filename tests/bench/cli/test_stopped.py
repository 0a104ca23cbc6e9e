"""Ctrl-C at any time: one line, exit code 130, no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import cli


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch) -> None:
    """Keep this process's output and loggers as they are."""
    monkeypatch.setattr(cli.characters, "replace_what_cannot_be_shown", lambda: None)
    monkeypatch.setattr(cli, "set_up_logging", lambda _: None)


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def call(monkeypatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def test_a_plan_that_is_stopped_says_so(monkeypatch, capsys, tmp_path: Path) -> None:
    from bench.submission import prepare

    monkeypatch.setattr(prepare, "prepare", stop)
    assert call(monkeypatch, "plan", "--results", tmp_path) == 130
    captured = capsys.readouterr()
    assert captured.err == "Stopped.\n" and "Aborted" not in captured.out


@pytest.mark.parametrize("arguments", [("retry",), ("data", "fetch"), ("weights", "fetch")])
def test_commands_that_can_be_continued_say_so(monkeypatch, capsys, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    from bench.planning import plugins
    from bench.submission import retry_plans

    monkeypatch.setattr(plugins, "load", stop)
    monkeypatch.setattr(retry_plans, "retry_plans", stop)
    assert call(monkeypatch, *arguments) == 130
    assert capsys.readouterr().err == "Stopped. The same command continues where this one stopped.\n"


def test_a_run_that_is_stopped_while_it_is_prepared_has_a_single_line(monkeypatch, capsys, tmp_path: Path) -> None:
    from bench.submission import prepare

    monkeypatch.setattr(prepare, "prepare", stop)
    assert call(monkeypatch, "run", "--results", tmp_path) == 130
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "Stopped: nothing was started." and captured.err == ""


def test_a_run_that_is_stopped_while_its_folds_are_written_can_be_continued(
    monkeypatch, capsys, tmp_path: Path, tiny_grid: Path, tiny_data: Path
) -> None:
    from bench.submission import plan_folds

    monkeypatch.setattr(plan_folds, "write", stop)
    where = ("--grid", tiny_grid, "--data", tiny_data, "--results", tmp_path / "r", "--cluster", "inline")
    assert call(monkeypatch, "run", *where) == 130
    assert capsys.readouterr().err == "Stopped. The same command continues where this one stopped.\n"


def test_a_start_that_is_stopped_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli.cache_dir, "set_missing_user_name", stop)
    assert call(monkeypatch, "list") == 130
    assert capsys.readouterr().err == "Stopped.\n"
