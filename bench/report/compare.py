"""`bench compare`: which of several methods is better, tested on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.console import PLAIN
from bench.errors import BenchError
from bench.report import comparison, overall
from bench.report.baselines import baseline_frame
from bench.report.frame import SECTION_KEYS, leaderboard_frame
from bench.report.latex import latex
from bench.report.methods import Method, check_comparable, find, rows
from bench.report.output import SUFFIXES, chosen_format, write_text
from bench.report.paired import SCORES, ScoreFiles
from bench.report.reading import read_records
from bench.report.section import Section, of_section, sections
from bench.report.strata import listed
from bench.report.table import Block, markdown, terminal
from bench.report.web import html

FIGURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Part:
    """Comparison within a section.

    Attributes:
        section: its images and folds.
        blocks: its pages.
        table: the same, as CSV has it.
        notes: on the rows and images that a comparison of all rows leaves out.
    """

    section: Section
    blocks: list[Block]
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def show_comparison(
    results: Path,
    names: Sequence[str] = (),
    *,
    format: str | None = None,
    output: Path | None = None,
    score: str = "pq",
    console: Console | None = None,
) -> Path | None:
    """Compare methods pair by pair, or all rows at once: print it, or write it to a file and print the file's path.

    Args:
        results: the results folder.
        names: two or more of BACKBONE/STRATEGY, STRATEGY, BACKBONE, each perhaps with ``,KEY=VALUE``; none: all rows.
        format: ``terminal``, ``markdown``, ``csv``, ``latex`` or ``html``; None: by the ending of `output`, or the
            terminal without it.
        output: the file; ``.png``, ``.svg`` and ``.pdf`` draw the mean ranks of all rows as a critical-difference
            diagram, a file for each section; ``-`` is standard output, to which nothing else is printed then; None
            takes ``tables/comparison`` below `results` for a format that is a file.
        score: ``pq``, ``aji`` or ``dice``: orders the rows, and is the score of the matrix and of the organs where two
            methods differ. The tables of means, ranks and tests, and the diagram, have all three.
        console: what is printed on; None takes stdout.

    Returns:
        The (last) file written; None for ``terminal``, standard output, and what is no file.

    Raises:
        BenchError: no records, an unknown name or format, names that can't be compared, or a file that can't be
            written.
    """
    console = console or Console()
    if len(names) == 1:
        raise BenchError(f"{names[0]!r} alone can't be compared; give a second name, or none to compare all rows.")
    figure = output is not None and output.suffix in FIGURES and format is None
    if figure and names:
        raise BenchError(f"a diagram of ranks is of all rows, so {output} takes no names; .md and .csv do.")
    format = None if figure else chosen_format(format, output, FIGURES)
    records = read_records(results)
    if score not in SCORES:
        raise BenchError(f"unknown score {score!r}; known: {', '.join(SCORES)}.")
    parts = _named(results, records, names, score) if names else _all(results, records, score)
    if figure and output is not None:
        return _draw(parts, output, console)
    blocks = [block for part in parts for block in part.blocks]
    if format == "terminal":
        console.print(terminal(blocks, width=console.width, encoding=console.encoding))
        return None
    page = partial(html, title=_page_title(names))
    texts: dict[str | None, Callable[[list[Block]], str]] = {"markdown": markdown, "latex": latex, "html": page}
    if format in texts:
        text = texts[format](blocks)
    else:
        table = pd.concat([part.table for part in parts], ignore_index=True)
        text = table.convert_dtypes().to_csv(index=False)
    path = output or results / "tables" / f"comparison{SUFFIXES[str(format)]}"
    if not write_text(path, text):
        return None
    console.print(str(path), **PLAIN)
    return path


def _page_title(names: Sequence[str]) -> str:
    return f"Comparison of {listed(names)}" if names else "Comparison of all rows"


def _draw(parts: Sequence[Part], output: Path, console: Console) -> Path:
    """Draw the ranks of each section and print the paths; more than one get names of their own."""
    from bench.report.canvas import save
    from bench.report.figure_rows import figure_title
    from bench.report.rank_diagram import draw

    path = output
    for part in parts:
        if len(parts) > 1:
            path = output.with_stem(f"{output.stem}_{part.section.file_stem}")
        save(draw(part.table, title=figure_title(part.section), notes=part.notes), path)
        console.print(str(path), **PLAIN)
    return path


def _named(results: Path, records: pd.DataFrame, names: Sequence[str], score: str) -> list[Part]:
    methods = [find(records, name) for name in names]  # so that an unknown name is known as such, whatever the section
    check_comparable(methods)
    files, known, parts = ScoreFiles(results), _sections(records), []
    for keys, _ in records.groupby(list(SECTION_KEYS), sort=True):
        here = [Method(m.name, m.kind, of_section(m.runs, keys)) for m in methods]
        present = [method for method in here if len(method.runs)]
        if len(present) < 2:
            continue
        compared = comparison.compare(present, files)
        blocks = comparison.blocks(compared, known[keys].title, score)
        absent = [method.name for method in here if not len(method.runs)]
        if absent:
            blocks[0].notes.append(f"Without runs on these images and folds: {', '.join(absent)}.")
        parts.append(Part(known[keys], blocks, comparison.csv_frame(compared, _section(keys))))
    if not parts:
        where = [f"{method.name}: {'; '.join(known[keys].title for keys in _keys(method.runs))}" for method in methods]
        raise BenchError(f"no two of these have runs on the same images and folds. {'. '.join(where)}.")
    return parts


def _all(results: Path, records: pd.DataFrame, score: str) -> list[Part]:
    files, known, parts, problems = ScoreFiles(results), _sections(records), [], []
    for keys, part in records.groupby(list(SECTION_KEYS), sort=True):
        try:
            compared, notes = overall.compare_all(rows(part), files)
        except overall.TooFewRowsError as error:  # another section may have enough
            problems.append(f"{known[keys].title}: {error}")
            continue
        compared.sort(key=lambda part: part.score != score)
        blocks = overall.blocks(compared, notes, known[keys].title)
        parts.append(Part(known[keys], blocks, overall.csv_frame(compared, _section(keys)), tuple(notes)))
    if not parts:
        raise BenchError("\n".join(problems))
    return parts


def _sections(records: pd.DataFrame) -> dict[tuple[object, ...], Section]:
    parts = sections(leaderboard_frame(records), baseline_frame(None))
    return {part.keys: part for part in parts}


def _keys(runs: pd.DataFrame) -> list[tuple[object, ...]]:
    return [keys for keys, _ in runs.groupby(list(SECTION_KEYS), sort=True)]


def _section(keys: tuple[object, ...]) -> dict[str, object]:
    return dict(zip(SECTION_KEYS, keys, strict=True))
