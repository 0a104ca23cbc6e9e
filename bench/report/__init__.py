"""Reports: `bench table` and `bench plot`, made from the records below a results folder alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.errors import BenchError
from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.report.image_scores import interval_scores
from bench.report.organs import organ_frame
from bench.report.output import STDOUT, write_text
from bench.report.plot import pareto
from bench.report.section import Section, sections
from bench.report.table import Block, markdown, terminal
from bench.results.record import read_all
from registry import atomic

logger = logging.getLogger(__name__)

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
    """Make the leaderboard from the records: print it, or write it to a file and print the file's path.

    Args:
        results: the results folder.
        format: ``terminal`` prints; ``markdown`` and ``csv`` write a file.
        output: the file; ``-`` is standard output, to which nothing else is printed then; None takes
            ``tables/leaderboard`` (or ``tables/organs``) below `results`.
        by_organ: PQ per organ instead of the leaderboard.
        baselines: published scores; None takes the shipped ones.
        console: what is printed on; None takes stdout.

    Returns:
        The file written; None for ``terminal``, standard output, and what is no file.

    Raises:
        BenchError: no records, an unknown format, a file name for the terminal, or a file that can't be written.
    """
    if format not in ("terminal", *SUFFIXES):
        raise BenchError(f"unknown format {format!r}; known: terminal, markdown, csv.")
    if format == "terminal" and output not in (None, STDOUT):
        raise BenchError(f"the terminal table takes no file ({output}); add --format markdown or csv.")
    console = console or Console()
    records = pooled(read_records(results))
    parts = sections(leaderboard_frame(records), baseline_frame(baselines), interval_scores(results, records))
    organs = organ_frame(results, records) if by_organ else None
    if organs is not None and organs.empty:
        raise BenchError(f"no run below {results / 'runs'} is ok, so there are no scores per organ.")
    if format == "terminal":
        shown = terminal(_blocks(parts, organs), width=console.width, encoding=console.encoding)
        console.print(shown)
        return None
    if format == "markdown":
        text = markdown(_blocks(parts, organs))
    else:
        text = leaderboard.csv(parts) if organs is None else organs.to_csv(index=False)
    path = output or results / "tables" / f"{'leaderboard' if organs is None else 'organs'}{SUFFIXES[format]}"
    if not write_text(path, text):
        return None
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return path


def draw_plots(
    results: Path, *, x: str = "parameters", output: Path | None = None, baselines: Path | None = None
) -> list[Path]:
    """Draw accuracy against cost: one figure per section, as PNG and SVG.

    Args:
        results: the results folder.
        x: the cost on the horizontal axis: ``parameters`` (trainable ones of the encoder), ``total`` (all trainable
            ones), ``latency`` or ``memory``.
        output: start of the file names, or a folder for them; None takes the folder ``figures`` below `results`.
        baselines: published scores; None takes the shipped ones.

    Returns:
        The files written.

    Raises:
        BenchError: no records, an unknown cost, no row that has both scores and that cost, or an output that takes
            one file only or can't be written.
    """
    stem = output or results / "figures"
    if output is None or output.is_dir():
        stem /= f"accuracy_by_{x}"
    if stem == STDOUT or atomic.is_stream(stem):
        raise BenchError(
            f"a plot is written as several files, so it can't go to {stem}; give the start of their names with -o STEM."
        )
    records = pooled(read_records(results))
    parts = sections(leaderboard_frame(records), baseline_frame(baselines), interval_scores(results, records))
    return pareto(parts, stem, x=x)


def read_records(results: Path) -> pd.DataFrame:
    """Return a frame of all records below a results folder; files that can't be read are logged.

    Raises:
        BenchError: there are no records.
    """
    unreadable: list[str] = []
    frame = record_frame(read_all(results, unreadable, history=False))
    for sentence in unreadable:
        logger.warning(sentence)
    if frame.empty:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    return frame


def _blocks(parts: list[Section], organs: pd.DataFrame | None) -> list[Block]:
    return leaderboard.blocks(parts) if organs is None else leaderboard.organ_blocks(organs, parts)
