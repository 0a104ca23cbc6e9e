"""Tables that fit the terminal: columns say what may go first where there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

GAP = 2
SHORTEST = 12


class Column(NamedTuple):
    """A column with all its cells.

    Attributes:
        name: its head.
        cells: from top to bottom.
        drop: the lower, the sooner it gets room; 0 always does.
        right: whether it is aligned to the right.
        cut: whether its cells may be shortened.
        style: of its cells.
    """

    name: str
    cells: list[str]
    drop: int = 0
    right: bool = True
    cut: bool = False
    style: str = ""


def fitted(columns: Sequence[Column], width: int, *, header: bool = True) -> Table:
    """A table of what fits: empty columns go, then those there is no room for; then cells are cut.

    Args:
        columns: all of one length.
        width: of the console, in characters.
        header: whether the columns' names are shown.
    """
    from rich.table import Table
    from rich.text import Text

    kept = chosen([one for one in columns if any(one.cells)], width)
    over = needed(kept) - width
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=header)
    for column in kept:
        widest = _widest(column)
        if column.cut and over > 0:
            less = min(over, max(0, widest - SHORTEST))
            over, widest = over - less, widest - less
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            style=column.style,
            max_width=widest,
        )
    for cells in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table


def chosen(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that stay, and of the others as many as there is room for, by their `drop`."""
    kept = {i for i, one in enumerate(columns) if not one.drop}
    for i in sorted(range(len(columns)), key=lambda i: columns[i].drop):
        if needed([columns[j] for j in kept | {i}]) <= width:
            kept.add(i)
    return [columns[i] for i in sorted(kept)]


def needed(columns: Sequence[Column]) -> int:
    """The width, in characters, at which nothing has to go."""
    return sum(_widest(column) for column in columns) + GAP * (len(columns) - 1)


def _widest(column: Column) -> int:
    return max(len(text) for text in (column.name, *column.cells))
