"""Tables as terminal output and Markdown. Rendering only: columns are text already."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from bench.characters import shown_in
from bench.columns import Column, Fit, fit, total_width

ESSENTIAL = 4
"""Columns with at most this `drop` are squeezed before one of them is left out."""
NARROWEST_NAME = 16
"""Characters of a row's names that stand in one line at least."""
ASCII_RULE = box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True)


@dataclass(frozen=True)
class Block:
    """A table with its text.

    Attributes:
        title: its heading.
        columns: of equal length.
        notes: lines below it.
        caption: a line between title and table; empty for none.
        compact: the same table with the names of a row in one column, the first that is not right-aligned, whose lines
            may be broken at spaces: for terminals that have no room for all essential columns; empty: there is none.
    """

    title: str
    columns: list[Column]
    notes: list[str] = field(default_factory=list)
    caption: str = ""
    compact: list[Column] = field(default_factory=list)


def terminal(blocks: Iterable[Block], *, width: int = 80, encoding: str = "utf-8") -> RenderableType:
    """Return what a terminal shows of blocks; where there is no room, the columns with the largest `drop` are left out.

    Args:
        blocks: one table each.
        width: of the terminal, in characters.
        encoding: of the terminal; characters that it lacks are replaced before widths are counted.
    """
    parts: list[RenderableType] = []
    rule = box.SIMPLE_HEAD if encoding.lower().startswith("utf") else ASCII_RULE

    def shown(text: str) -> str:
        return shown_in(encoding, text)

    for block in blocks:
        chosen = fit([column.map(shown) for column in block.columns], width, squeeze=ESSENTIAL)
        if block.compact and any(column.drop <= ESSENTIAL for column in chosen.left_out):
            chosen = _fit_compact([column.map(shown) for column in block.compact], width)
        parts += [Text(shown(block.title), "bold")]
        parts += [Text(shown(block.caption), "dim")] if block.caption else []
        parts += [Text(""), _table(chosen, rule)]
        notes = _notes(map(shown, block.notes), chosen.columns)
        if chosen.left_out:
            names = ", ".join(_one_line(column.title) for column in chosen.left_out)
            notes.append(f"No room for: {names}. Widen the terminal, or use Markdown or CSV.")
        parts += [Text(note, "dim") for note in notes] + [Text("")]
    return Group(*parts[:-1])


def _fit_compact(columns: list[Column], width: int) -> Fit:
    """Choose columns as `fit` does, after breaking the names into lines that leave room for the essential columns."""
    names = next(place for place, column in enumerate(columns) if not column.right)
    essential = [c.narrow or c for c in columns if c.drop <= ESSENTIAL and c.right]
    room = max(NARROWEST_NAME, width - total_width(essential, gap=1) - 1)
    cells = ["\n".join(textwrap.wrap(cell, room, break_on_hyphens=False)) for cell in columns[names].cells]
    columns[names] = replace(columns[names], cells=cells)
    return fit(columns, width, squeeze=ESSENTIAL)


def _table(chosen: Fit, rule: box.Box) -> Table:
    table = Table(box=rule, pad_edge=False, padding=(0, chosen.gap - 1, 0, 0), show_edge=False)
    for column in chosen.columns:
        table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
    for row in range(len(chosen.columns[0].cells)):
        table.add_row(*(Text(c.cells[row], "bold" if row in c.bold else "") for c in chosen.columns))
    return table


def markdown(blocks: Iterable[Block]) -> str:
    """Return GitHub Markdown: a heading, a caption, a table and a list of notes for each block."""
    texts = []
    for block in blocks:
        cells = [
            [f"**{_escape(cell)}**" if i in column.bold else _escape(cell) for i, cell in enumerate(column.cells)]
            for column in block.columns
        ]
        table = tabulate(
            list(zip(*cells, strict=True)),
            headers=[_escape(_one_line(column.title)) for column in block.columns],
            tablefmt="pipe",
            colalign=["right" if column.right else "left" for column in block.columns],
            disable_numparse=True,
        )
        caption = f"{_escape(block.caption)}\n\n" if block.caption else ""
        notes = "".join(f"- {_escape(line, code=True)}\n" for line in _notes(block.notes, block.columns))
        texts.append(f"## {_escape(block.title)}\n\n{caption}{table}\n" + (f"\n{notes}" if notes else ""))
    return "\n".join(texts)


def _notes(notes: Iterable[str], columns: list[Column]) -> list[str]:
    """Return a block's notes and those of the columns shown, each once."""
    return list(dict.fromkeys([*notes, *(column.note for column in columns if column.note)]))


def block_notes(block: Block) -> list[str]:
    """Return all notes of a block, those of its columns included, each once."""
    return _notes(block.notes, block.columns)


def _one_line(title: str) -> str:
    return title.replace("\n", " ")


def _escape(text: str, *, code: bool = False) -> str:
    """Return a text of which Markdown makes neither HTML, nor a link, nor emphasis.

    Args:
        text: any text, of one line or several.
        code: backticks keep their meaning: notes quote commands by them.
    """
    marked = re.sub(r"[\\*<|]|(?<!\w)_|_(?!\w)|~~|(?<=\])\(", lambda found: f"\\{found[0]}", text)
    return _one_line(marked if code else marked.replace("`", "\\`"))
