"""Columns of text, and the choice of those that fit the terminal: the one table fitter of all pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.table import Table

GAP = 2
SHORTEST = 12
"""Characters that a shortened cell keeps at least."""


@dataclass(frozen=True)
class Column:
    """One column of a table, as text.

    Attributes:
        title: its heading; line breaks are kept where they can be.
        cells: its texts from top to bottom.
        drop: 0: always shown. The others get room in the order of this number, so that the largest is left out first.
        right: aligned to the right, as numbers are.
        cut: its cells may be shortened.
        style: rich style of its cells.
        bold: indices of the rows that are set in bold.
        note: a line below the table, if the column is shown.
        narrow: the same column in fewer characters, for terminals with too little room; None: there is none.
        key: the column's name in the program, whatever its title says; empty: it has none.
    """

    title: str
    cells: list[str]
    drop: int = 0
    right: bool = True
    cut: bool = False
    style: str = ""
    bold: frozenset[int] = frozenset()
    note: str = ""
    narrow: Column | None = None
    key: str = ""

    @cached_property
    def width(self) -> int:
        """Number of terminal cells that its widest line takes."""
        return max(cell_len(line) for text in (self.title, *self.cells) for line in text.split("\n"))

    def map(self, change: Callable[[str], str]) -> Column:
        """Return the column with every text changed."""
        return replace(
            self,
            title=change(self.title),
            cells=[change(cell) for cell in self.cells],
            note=change(self.note),
            narrow=self.narrow and self.narrow.map(change),
        )


@dataclass(frozen=True)
class Fit:
    """Columns there is room for.

    Attributes:
        columns: those shown, in their narrow form where that was needed.
        gap: spaces between two of them.
        left_out: those there is no room for.
    """

    columns: list[Column]
    gap: int = GAP
    left_out: list[Column] = field(default_factory=list)


def total_width(columns: Sequence[Column], gap: int = GAP) -> int:
    """Return the width, in characters, that columns take side by side."""
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def fit(columns: Sequence[Column], width: int, *, squeeze: int | None = None) -> Fit:
    """Choose the columns that fit: those that are always shown, then the others by their `drop`.

    A column too wide for the room that is left doesn't stop a later, narrower one.

    Args:
        columns: all, in the order of the page.
        width: of the terminal, in characters.
        squeeze: before a column with at most this `drop` is left out, all columns are set closer together, and
            take their narrow form; None: neither.
    """
    layouts = [(GAP, False)] if squeeze is None else [(GAP, False), (1, False), (GAP, True), (1, True)]
    for gap, narrow in layouts:
        candidates = [(column.narrow or column) if narrow else column for column in columns]
        kept = {i for i, column in enumerate(candidates) if not column.drop}
        for i in sorted(range(len(candidates)), key=lambda i: candidates[i].drop):
            if total_width([candidates[j] for j in sorted(kept | {i})], gap) <= width:
                kept.add(i)
        left_out = [column for i, column in enumerate(columns) if i not in kept]
        shown = [candidates[i] for i in sorted(kept)]
        if total_width(shown, gap) <= width and all(column.drop > (squeeze or 0) for column in left_out):
            break
    return Fit(shown, gap, left_out)


def fitted_table(columns: Sequence[Column], width: int, *, header: bool = True) -> Table:
    """Return a table without lines of the columns that fit; what is still too wide is shortened where it may be.

    Args:
        columns: all of one length; those without any text are left out.
        width: of the terminal, in characters.
        header: whether the titles are shown.
    """
    from rich.table import Table
    from rich.text import Text

    kept = fit([column for column in columns if any(column.cells)], width).columns
    over = total_width(kept) - width
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=header)
    for column in kept:
        widest = column.width
        if column.cut and over > 0:
            less = min(over, max(0, widest - SHORTEST))
            over, widest = over - less, widest - less
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            style=column.style,
            max_width=widest,
        )
    for i, cells in enumerate(zip(*(column.cells for column in kept), strict=True)):
        table.add_row(
            *(Text(cell, "bold" if i in column.bold else "") for cell, column in zip(cells, kept, strict=True))
        )
    return table
