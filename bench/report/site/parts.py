"""Content of the report page as plain values: tables, charts, pictures and the sentences beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.report.table import Block, block_notes

MOST_ROWS = 2_000
"""Rows of a table that the page holds; a browser takes seconds for more."""
MOST_BYTES = 7_500_000
"""Of all files of a page but its scripts, which take 5.5 MB, so that it stays small enough to be sent: pictures that
would make it larger are left out, and the page says so."""
_NUMBER = re.compile(r"[-−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
_UNITS = {" k": 1e3, " M": 1e6, " G": 1e9}


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and the number by which it is sorted.

    Attributes:
        text: as it is shown.
        order: None in a column of words; an empty text where a column of numbers has no value.
        bold: set in bold.
    """

    text: str
    order: float | str | None = None
    bold: bool = False


@dataclass(frozen=True)
class Head:
    """Head of a column.

    Attributes:
        title: its text.
        numeric: sorted as numbers, and aligned to the right.
        choice: offered as a list of values to filter by.
    """

    title: str
    numeric: bool = False
    choice: bool = False


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and filtered.

    Attributes:
        name: unique in the page.
        title: heading; empty for none.
        heads: its columns.
        rows: cells of each row.
        caption: a line above it.
        notes: lines below it.
    """

    name: str
    title: str
    heads: list[Head]
    rows: list[list[Cell]]
    caption: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """Interactive chart with one or several views, of which the reader chooses.

    Attributes:
        name: unique in the page.
        title: its heading.
        alt: the content in words, for readers who don't see it.
        views: figures as plotly's JSON, by the name of the view.
        width: pixels below which it is scrolled instead of squeezed.
        notes: lines below it.
    """

    name: str
    title: str
    alt: str
    views: dict[str, Any]
    width: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """Static figure in a file beside the page.

    Attributes:
        file: its name in the folder of files.
        title: its heading.
        alt: the content in words.
        width: pixels, if known, so that the page does not jump while it loads.
        height: likewise.
    """

    file: str
    title: str
    alt: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Entry:
    """Text that is opened on demand, e.g. the traceback of a failed run."""

    title: str
    text: str


@dataclass(frozen=True)
class Part:
    """Part of the page under one heading.

    Attributes:
        name: unique in the page; the address of the heading.
        title: its heading.
        text: sentences at its top; for content that is not there, the reason.
        items: tables, charts, pictures and texts in order.
        pictures: a gallery, in which pictures stand side by side and open on demand.
    """

    name: str
    title: str
    text: list[str] = field(default_factory=list)
    items: list[Table | Chart | Picture | Entry] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def table_of(block: Block, name: str, *, title: str = "", choices: Sequence[str] = (), most: int = MOST_ROWS) -> Table:
    """Return a table with the columns and notes of a block.

    Args:
        block: columns of text.
        name: unique in the page.
        title: heading; the block's own title is that of the section.
        choices: titles of columns whose values are offered as a filter.
        most: rows that are kept, from the top.
    """
    heads, columns = [], []
    for column in block.columns:
        heads.append(Head(column.title.replace("\n", " "), column.right, column.title in choices))
        cells = []
        for place, text in enumerate(column.cells[:most]):
            cells.append(Cell(text, number_in(text) if column.right else None, place in column.bold))
        columns.append(cells)
    notes = block_notes(block)
    n_rows = len(block.columns[0].cells) if block.columns else 0
    if n_rows > most:
        notes = [f"The first {most:,} of {n_rows:,} rows; the CSV file below has all.", *notes]
    return Table(name, title, heads, [list(row) for row in zip(*columns, strict=True)], block.caption, notes)


def number_in(text: str) -> float | str:
    """Return the number at the start of a cell's text, its unit included; empty for a text that has none.

    The number is read from the text, so that rows which show the same value are in no order.
    """
    match = _NUMBER.match(text)
    if match is None:
        return ""
    value = float(match[0].replace(",", "").replace("−", "-"))
    return value * _UNITS.get(text[match.end() : match.end() + 2], 1.0)
