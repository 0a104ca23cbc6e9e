"""Tables as terminal output and Markdown. Rendering only: columns are text already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

ESSENTIAL = 2
"""Columns with at most this `drop` are set closer together before one of them goes."""


@dataclass(frozen=True)
class Column:
    """One column as text.

    Attributes:
        title: its heading; line breaks are kept where they can be.
        cells: one text per row.
        bold: indices of the rows to set in bold.
        drop: those with the largest value go first where there is no room; 0 always stays.
        right: numbers are set to the right.
        note: a line below the table, wherever the column is shown.
    """

    title: str
    cells: list[str]
    bold: frozenset[int] = frozenset()
    drop: int = 0
    right: bool = False
    note: str = ""

    @property
    def width(self) -> int:
        return max(map(len, (*self.title.split("\n"), *self.cells)))


@dataclass(frozen=True)
class Block:
    """A title, columns of equal length, and lines below them."""

    title: str
    columns: list[Column]
    notes: list[str] = field(default_factory=list)


def terminal(blocks: Iterable[Block], *, width: int = 80) -> RenderableType:
    """For a console `width` characters wide; columns of cost go first where there is no room."""
    parts: list[RenderableType] = []
    for block in blocks:
        columns, gap = _fit(block.columns, width)
        left_out = [column.title.replace("\n", " ") for column in block.columns if column not in columns]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap - 1, 0, 0), show_edge=False)
        for column in columns:
            table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
        for place in range(len(columns[0].cells)):
            table.add_row(*(Text(c.cells[place], "bold" if place in c.bold else "") for c in columns))
        parts += [Text(block.title, "bold"), Text(""), table]
        notes = _lines(block.notes, columns)
        if left_out:
            notes.append(f"No room for: {', '.join(left_out)}. Widen the terminal, or use Markdown or CSV.")
        parts += [Text(note, "dim") for note in notes] + [Text("")]
    return Group(*parts[:-1])


def markdown(blocks: Iterable[Block]) -> str:
    """GitHub Markdown: a heading, a table and a list of notes for each block."""
    texts = []
    for block in blocks:
        cells = [
            [f"**{_escape(cell)}**" if i in column.bold else _escape(cell) for i, cell in enumerate(column.cells)]
            for column in block.columns
        ]
        table = tabulate(
            list(zip(*cells, strict=True)),
            headers=[_escape(column.title.replace("\n", " ")) for column in block.columns],
            tablefmt="pipe",
            colalign=["right" if column.right else "left" for column in block.columns],
            disable_numparse=True,
        )
        notes = "".join(f"- {line}\n" for line in _lines(block.notes, block.columns))
        texts.append(f"## {block.title}\n\n{table}\n" + (f"\n{notes}" if notes else ""))
    return "\n".join(texts)


def _fit(columns: list[Column], width: int) -> tuple[list[Column], int]:
    """The columns there is room for, and the space between them."""
    for gap in (2, 1):
        kept = list(columns)
        while sum(column.width + gap for column in kept) - gap > width and any(c.drop for c in kept):
            kept.remove(max(kept, key=lambda column: column.drop))
        if all(column in kept for column in columns if column.drop <= ESSENTIAL):
            break
    return kept, gap


def _lines(notes: list[str], columns: list[Column]) -> list[str]:
    """A block's notes and those of the columns shown, each once."""
    return list(dict.fromkeys([*notes, *(column.note for column in columns if column.note)]))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
