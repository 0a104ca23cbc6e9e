"""Prints and writes the ratios of a session of benchmarks, after everything else that pytest says."""

from __future__ import annotations

from pathlib import Path

import pytest
import ratios
from rich.console import Console

FILE = Path(__file__).parents[1] / ".benchmarks" / "ratios.json"
WIDTH = 160
BROKEN = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[BROKEN] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [one for outcome in ("failed", "error") for one in terminalreporter.stats.get(outcome, [])]
    config.stash[BROKEN] = [one.nodeid for one in reports]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    broken = config.stash[BROKEN]
    if not ratios.reported() and not broken:
        return
    ratios.write(FILE, ratios.reported(), broken)
    console = Console(width=WIDTH, force_terminal=False)
    with console.capture() as text:
        ratios.show(ratios.reported(), broken, console)
    config.get_terminal_writer().write("\n" + text.get())
