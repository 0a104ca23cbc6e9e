"""Report: what `bench table` and `bench plot` do, from the records below a results folder alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.errors import BenchError
from bench.report import leaderboard
from bench.report.frame import baseline_frame, leaderboard_frame, organ_frame, record_frame
from bench.report.plot import pareto
from bench.report.section import Section, sections
from bench.report.table import markdown, terminal
from bench.results.record import read_all, write_atomically

SUFFIXES = {"markdown": ".md", "csv": ".csv"}


def show_table(
    results: Path,
    *,
    format: str = "terminal",
    output: Path | None = None,
    by_organ: bool = False,
    baselines: Path | None = None,
    console: Console | None = None,
) -> Path | None:
    """Regenerate the leaderboard: print it, or write it and print where it lies.

    Args:
        results: the results folder.
        format: ``terminal`` prints; ``markdown`` and ``csv`` write a file.
        output: the file; None takes ``tables/leaderboard`` (or ``tables/organs``) below `results`.
        by_organ: PQ per organ instead of the leaderboard.
        baselines: published scores; None takes the shipped ones.
        console: what is printed on; None takes stdout.

    Returns:
        The file written; None for ``terminal``.

    Raises:
        BenchError: no records, an unknown format, or a file name for the terminal.
    """
    if format not in ("terminal", *SUFFIXES):
        raise BenchError(f"unknown format {format!r}; known: terminal, markdown, csv.")
    if format == "terminal" and output is not None:
        raise BenchError(f"the terminal table takes no file ({output}); add --format markdown or csv.")
    console = console or Console()
    frame = _frame(results)
    found = sections(leaderboard_frame(frame), baseline_frame(baselines))
    organs = organ_frame(results, frame) if by_organ else None
    if organs is not None and organs.empty:
        raise BenchError(f"no run below {results / 'runs'} is ok, so there are no scores per organ.")
    if format == "csv":
        text = leaderboard.csv(found) if organs is None else organs.to_csv(index=False)
    else:
        blocks = leaderboard.blocks(found) if organs is None else leaderboard.organ_blocks(organs, found)
        if format == "terminal":
            console.print(terminal(blocks, width=console.width))
            return None
        text = markdown(blocks)
    name = "leaderboard" if organs is None else "organs"
    path = output or results / "tables" / f"{name}{SUFFIXES[format]}"
    write_atomically(path, text)
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return path


def draw_plots(
    results: Path, *, x: str = "parameters", output: Path | None = None, baselines: Path | None = None
) -> list[Path]:
    """Draw accuracy against cost: one figure per section, as PNG and SVG.

    Args:
        results: the results folder.
        x: the cost on the horizontal axis: ``parameters``, ``latency`` or ``memory``.
        output: start of the file names; None takes ``figures/accuracy_by_<x>`` below `results`.
        baselines: published scores; None takes the shipped ones.

    Returns:
        The files written.

    Raises:
        BenchError: no records, an unknown cost, or no row that has both scores and that cost.
    """
    frame = _frame(results)
    found: list[Section] = sections(leaderboard_frame(frame), baseline_frame(baselines))
    return pareto(found, output or results / "figures" / f"accuracy_by_{x}", x=x)


def _frame(results: Path) -> pd.DataFrame:
    unreadable: list[str] = []
    frame = record_frame(read_all(results, unreadable, history=False))
    for sentence in unreadable:
        warnings.warn(sentence, stacklevel=3)
    if frame.empty:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    return frame
