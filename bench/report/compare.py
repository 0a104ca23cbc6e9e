"""`bench compare`: which of several methods is better, tested on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.errors import BenchError
from bench.report import comparison, overall, read_records
from bench.report.baselines import baseline_frame
from bench.report.frame import SECTION_KEYS, leaderboard_frame
from bench.report.methods import Method, check_comparable, find, rows
from bench.report.output import STDOUT, write_text
from bench.report.paired import ScoreFiles
from bench.report.section import sections
from bench.report.table import Block, markdown, terminal

SUFFIXES = {"markdown": ".md", "csv": ".csv"}


def show_comparison(
    results: Path,
    names: Sequence[str] = (),
    *,
    format: str | None = None,
    output: Path | None = None,
    console: Console | None = None,
) -> Path | None:
    """Compare methods pair by pair, or all rows at once: print it, or write it to a file and print the file's path.

    Args:
        results: the results folder.
        names: two or more of BACKBONE/STRATEGY, STRATEGY, BACKBONE, each perhaps with ``,KEY=VALUE``; none: all rows.
        format: ``terminal``, ``markdown`` or ``csv``; None: by the ending of `output`, or the terminal without it.
        output: the file; ``-`` is standard output, to which nothing else is printed then; None takes
            ``tables/comparison`` below `results` for a format that is a file.
        console: what is printed on; None takes stdout.

    Returns:
        The file written; None for ``terminal``, standard output, and what is no file.

    Raises:
        BenchError: no records, an unknown name or format, names that can't be compared, or a file that can't be
            written.
    """
    format = _format(format, output)
    console = console or Console()
    if len(names) == 1:
        raise BenchError(f"{names[0]!r} alone can't be compared; give a second name, or none to compare all rows.")
    records = read_records(results)
    parts = _named(results, records, names) if names else _all(results, records)
    if format == "terminal":
        blocks = [block for part, _ in parts for block in part]
        console.print(terminal(blocks, width=console.width, encoding=console.encoding))
        return None
    if format == "markdown":
        text = markdown([block for part, _ in parts for block in part])
    else:
        text = pd.concat([frame for _, frame in parts], ignore_index=True).convert_dtypes().to_csv(index=False)
    path = output or results / "tables" / f"comparison{SUFFIXES[format]}"
    if not write_text(path, text):
        return None
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return path


def _format(format: str | None, output: Path | None) -> str:
    known = f"known: terminal, {', '.join(SUFFIXES)}"
    if format is not None and format not in ("terminal", *SUFFIXES):
        raise BenchError(f"unknown format {format!r}; {known}.")
    if output is None or output == STDOUT:
        return format or "terminal"
    if format == "terminal":
        raise BenchError(f"the terminal takes no file ({output}); add --format markdown or csv.")
    endings = {suffix: name for name, suffix in SUFFIXES.items()}
    chosen = format or endings.get(output.suffix)
    if chosen is None:
        raise BenchError(f"{output} doesn't tell the format; let it end in {' or '.join(endings)}, or add --format.")
    return chosen


Part = tuple[list[Block], pd.DataFrame]
"""Blocks of a section, and the same as a table."""


def _named(results: Path, records: pd.DataFrame, names: Sequence[str]) -> list[Part]:
    methods = [find(records, name) for name in names]  # so that an unknown name is known as such, whatever the section
    check_comparable(methods)
    files, titles, parts = ScoreFiles(results), _titles(records), []
    for keys, _ in records.groupby(list(SECTION_KEYS), sort=True):
        here = [Method(m.name, m.kind, _of_section(m.runs, keys)) for m in methods]
        present = [method for method in here if len(method.runs)]
        if len(present) < 2:
            continue
        compared = comparison.compare(present, files)
        blocks = comparison.blocks(compared, titles[keys])
        absent = [method.name for method in here if not len(method.runs)]
        if absent:
            blocks[0].notes.append(f"Without runs on these images and folds: {', '.join(absent)}.")
        parts.append((blocks, comparison.csv_frame(compared, _section(keys))))
    if not parts:
        where = [f"{method.name}: {'; '.join(titles[keys] for keys in _keys(method.runs))}" for method in methods]
        raise BenchError(f"no two of these have runs on the same images and folds. {'. '.join(where)}.")
    return parts


def _all(results: Path, records: pd.DataFrame) -> list[Part]:
    files, titles, parts, problems = ScoreFiles(results), _titles(records), [], []
    for keys, part in records.groupby(list(SECTION_KEYS), sort=True):
        try:
            compared, notes = overall.compare_all(rows(part), files)
        except overall.TooFewRowsError as error:  # another section may have enough
            problems.append(f"{titles[keys]}: {error}")
            continue
        blocks = overall.blocks(compared, notes, titles[keys])
        parts.append((blocks, overall.csv_frame(compared, _section(keys))))
    if not parts:
        raise BenchError("\n".join(problems))
    return parts


def _titles(records: pd.DataFrame) -> dict[tuple[object, ...], str]:
    parts = sections(leaderboard_frame(records), baseline_frame(None))
    return {(s.dataset, s.dataset_digest, s.n_splits, s.fold_seed): s.title for s in parts}


def _keys(runs: pd.DataFrame) -> list[tuple[object, ...]]:
    return [keys for keys, _ in runs.groupby(list(SECTION_KEYS), sort=True)]


def _of_section(runs: pd.DataFrame, keys: tuple[object, ...]) -> pd.DataFrame:
    return runs[(runs[list(SECTION_KEYS)] == list(keys)).all(axis=1)]


def _section(keys: tuple[object, ...]) -> dict[str, object]:
    return dict(zip(SECTION_KEYS, keys, strict=True))
