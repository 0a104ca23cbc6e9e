"""Reports: `bench table` and `bench plot`, made from the records below a results folder alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.console import PLAIN
from bench.errors import BenchError
from bench.report import choice, leaderboard, organs, plot_kinds, worst_images
from bench.report.baselines import baseline_frame
from bench.report.figure_files import check_output, write_figures
from bench.report.frame import leaderboard_frame, pooled
from bench.report.image_scores import INTERVAL_SCORES, interval_scores
from bench.report.latex import latex
from bench.report.output import SUFFIXES, chosen_format, write_text
from bench.report.reading import read_records
from bench.report.score_tables import ScoreTable, read_scores
from bench.report.section import Section, sections
from bench.report.table import Block, markdown, terminal
from bench.report.web import html

WORST = 20
"""Images that `--by image` shows unless told."""


def show_table(
    results: Path,
    *,
    format: str | None = None,
    output: Path | None = None,
    by: str | None = None,
    worst: int | None = None,
    columns: Sequence[str] = (),
    sort: str | None = None,
    only: Sequence[str] = (),
    baselines: Path | None = None,
    console: Console | None = None,
) -> Path | None:
    """Make the leaderboard from the records: print it, or write it to a file and print the file's path.

    Args:
        results: the results folder.
        format: ``terminal`` prints; ``markdown``, ``csv``, ``latex`` and ``html`` write a file; None: by the ending of
            `output`, or the terminal without it.
        output: the file; ``-`` is standard output, to which nothing else is printed then; None takes
            ``tables/leaderboard`` (or ``tables/organs``, ``tables/images``) below `results`.
        by: ``seed``: a row for each seed; ``organ``: PQ per organ; ``image``: the worst images.
        worst: number of images of `by` ``image``; None takes 20, and all in CSV, which has each
            row of the leaderboard on them.
        columns: the columns of the leaderboard, by title or by name in the CSV file; empty takes all.
        sort: the column that orders the rows.
        only: the records, as ``KEY=A,B``.
        baselines: published scores; None takes the shipped ones.
        console: what is printed on; None takes stdout.

    Returns:
        The file written; None for ``terminal``, standard output, and what is no file.

    Raises:
        BenchError: no records, an unknown format, name or value, options that don't go together, a file name for the
            terminal, or a file that can't be written.
    """
    format = chosen_format(format, output)
    _check_options(by, worst, columns)
    console = console or Console()
    records = read_records(results)
    records = choice.only(records, only) if only else records
    records = records if by == "seed" else pooled(records)
    numbers = {"organ": organs.COLUMNS, "image": worst_images.NUMBERS}.get(by or "", INTERVAL_SCORES)
    table = read_scores(results, records.loc[records["status"] == "ok", "id"], numbers)
    scores = interval_scores(results, records, table)
    parts = sections(leaderboard_frame(records), baseline_frame(baselines), scores)
    parts = [replace(part, only=tuple(only)) for part in parts]
    parts = choice.ordered(parts, sort) if sort else parts
    blocks, csv = _content(results, records, table, parts, by, worst, columns)
    if format == "terminal":
        console.print(terminal(blocks, width=console.width, encoding=console.encoding))
        return None
    text = csv if format == "csv" else _rendered(blocks, format, by)
    name = {"organ": "organs", "image": "images"}.get(by or "", "leaderboard")
    path = output or results / "tables" / f"{name}{SUFFIXES[format]}"
    if not write_text(path, text):
        return None
    console.print(str(path), **PLAIN)
    return path


def _rendered(blocks: list[Block], format: str, by: str | None) -> str:
    title = {"organ": "PQ per organ", "image": "Worst images"}.get(by or "", "Leaderboard")
    texts: dict[str, Callable[[list[Block]], str]] = {
        "markdown": markdown,
        "latex": latex,
        "html": partial(html, title=title),
    }
    return texts[format](blocks)


def _check_options(by: str | None, worst: int | None, columns: Sequence[str]) -> None:
    if by not in (None, "seed", "organ", "image"):
        raise BenchError(f"unknown --by {by!r}; known: seed, organ, image.")
    if worst is not None and (by != "image" or worst < 1):
        raise BenchError("--worst takes a number from 1 and needs --by image.")
    if columns and by in ("organ", "image"):
        raise BenchError(f"--columns chooses columns of the leaderboard; leave it out with --by {by}.")


def _content(
    results: Path,
    records: pd.DataFrame,
    scores: ScoreTable,
    parts: list[Section],
    by: str | None,
    worst: int | None,
    columns: Sequence[str],
) -> tuple[list[Block], str]:
    """Return a report as blocks, and as CSV."""
    if by not in ("organ", "image"):
        return leaderboard.blocks(parts, columns), leaderboard.csv(parts, columns)
    make = organs.organ_frame if by == "organ" else worst_images.image_frame
    table = make(results, records, scores)
    if table.empty:
        raise BenchError(f"no run below {results / 'runs'} is ok, so there are no scores per {by}.")
    if by == "organ":
        return organs.organ_blocks(table, parts), table.to_csv(index=False)
    shown = table if worst is None else worst_images.worst_rows(table, parts, worst)
    return worst_images.image_blocks(table, parts, worst or WORST), shown.to_csv(index=False)


def draw_plots(
    results: Path,
    *,
    kind: str = "cost",
    x: str | None = None,
    published: bool = False,
    columns: int = 2,
    output: Path | None = None,
) -> list[Path]:
    """Draw figures of one kind from the records: one for each section (same images, same folds).

    Args:
        results: the results folder.
        kind: ``cost``, or another of `bench.report.plot_kinds.MODULES`.
        x: horizontal axis of ``cost``: ``parameters`` (trainable ones of the encoder; None takes them), ``total`` (all
            trainable ones), ``latency``, ``memory``, ``gpu-hours``, or a setting such as ``strategy.rank``.
        published: draw published scores against cost, even beside other images than theirs.
        columns: width in columns of a paper, 1 or 2.
        output: a file that ends in .png, .svg or .pdf; a folder; or the start of file names; None takes the folder
            ``figures`` below `results`.

    Returns:
        The files written: PNG, SVG and PDF of each figure, or the file that is named.

    Raises:
        BenchError: no records, an unknown kind, cost or setting, options that don't go together, nothing to draw, or
            an output that can't be written.
    """
    check_output(output)
    function, name, options = plot_kinds.figures(kind), kind, {}
    if kind != "cost" and (x or published):
        raise BenchError(f"--x and --published belong to figures against cost; leave them out with --kind {kind}.")
    if kind == "cost":
        x = x or "parameters"
        function, name = plot_kinds.against(x), f"accuracy_by_{x}"
        options = {"x": x, "published": published}
    return write_figures(function(results, columns=columns, **options), name, output, results / "figures")
