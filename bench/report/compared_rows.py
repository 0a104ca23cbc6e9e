"""All rows of each section compared with each other, for the figures of ranks and of significance."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from bench.errors import BenchError, RecordError
from bench.report import overall
from bench.report.baselines import baseline_frame
from bench.report.figure_rows import MOST_ROWS, Drawable, figure_title
from bench.report.frame import SECTION_KEYS, leaderboard_frame
from bench.report.methods import Method, rows
from bench.report.paired import ScoreFiles
from bench.report.reading import read_records
from bench.report.section import of_section, sections

logger = logging.getLogger(__name__)


def frames(results: Path) -> list[Drawable]:
    """Return the comparison of all rows of each section, as `bench compare -o FILE.csv` writes it.

    Columns: see `bench.report.overall.csv_frame`. A row of which a file of scores is missing or damaged is left out,
    with a warning and a note.

    Raises:
        BenchError: there are no records, or no section has two rows that can be compared.
    """
    records, files = read_records(results), ScoreFiles(results)
    drawables, problems = [], []
    for section in sections(leaderboard_frame(records), baseline_frame()):
        methods = rows(of_section(records, section.keys))
        best = _best(methods)
        notes = [f"The best {len(best)} of {len(methods)} rows by PQ."] if len(best) < len(methods) else []
        readable, unreadable = _readable(best, files)
        try:
            compared, more = overall.compare_all(readable, files)
        except BenchError as error:  # another section may have what is needed
            problems.append(" ".join([f"{section.title}: {error}", *unreadable]))
            continue
        notes += [*unreadable, *more]
        frame = overall.csv_frame(compared, dict(zip(SECTION_KEYS, section.keys, strict=True)))
        drawables.append(Drawable(figure_title(section), section.file_stem, frame, tuple(notes)))
    if not drawables:
        raise BenchError("\n".join(problems))
    for problem in problems:
        logger.warning("not drawn: %s", problem)
    return drawables


def named_row(name: str) -> pd.Series:
    """Return method, backbone and strategy of a name as `bench compare` writes it: BACKBONE/STRATEGY, then settings."""
    backbone, _, strategy = name.split(",")[0].partition("/")
    return pd.Series({"method": name, "backbone": backbone, "strategy": strategy})


def _best(methods: list[Method]) -> list[Method]:
    """Return the rows with the highest PQ, as many as a figure shows."""
    if len(methods) <= MOST_ROWS:
        return methods
    means = [method.ok["pq"].mean() if len(method.ok) else float("nan") for method in methods]
    order = sorted(range(len(methods)), key=lambda place: -means[place] if means[place] == means[place] else 1.0)
    return [methods[place] for place in order[:MOST_ROWS]]


def _readable(methods: list[Method], files: ScoreFiles) -> tuple[list[Method], list[str]]:
    """Return the rows whose scores can be read, and a note on each other one."""
    kept, notes = [], []
    for method in methods:
        try:
            files.of(method.ok)
        except RecordError as error:
            logger.warning("%s is not compared: %s", method.name, error)
            notes.append(f"Not compared, because a file of scores can't be read: {method.name}.")
            continue
        kept.append(method)
    return kept, notes
