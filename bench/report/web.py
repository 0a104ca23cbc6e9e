"""Tables as one HTML file, which needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from bench.columns import Column
from bench.report.table import Block, block_notes

STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color-scheme:light dark}"
    "div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25em .8em;text-align:left}td{white-space:nowrap}"
    "th{border-bottom:2px solid;vertical-align:bottom}td{border-bottom:1px solid #8884}"
    ".n{text-align:right}ul,p{font-size:.9em}"
)


def html(blocks: Iterable[Block], title: str = "Leaderboard") -> str:
    """Return a page with a heading, a caption, a table and a list of notes for each block.

    Args:
        blocks: one table each.
        title: of the page, which a browser shows as the name of its tab.
    """
    parts = [_part(block) for block in blocks]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>'
        f"{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "</body>\n</html>\n"
    )


def _part(block: Block) -> str:
    head = "".join(f"<th{_side(column)}>{escape(column.title)}</th>".replace("\n", " ") for column in block.columns)
    rows = [
        "<tr>" + "".join(_cell(column, row) for column in block.columns) + "</tr>\n"
        for row in range(len(block.columns[0].cells))
    ]
    caption = f"<p>{escape(block.caption)}</p>\n" if block.caption else ""
    notes = "".join(f"<li>{_with_code(note)}</li>\n" for note in block_notes(block))
    return (
        f"<h2>{escape(block.title)}</h2>\n{caption}<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "".join(rows)
        + "</tbody>\n</table></div>\n"
        + (f"<ul>\n{notes}</ul>\n" if notes else "")
    )


def _with_code(note: str) -> str:
    """Return a note with the commands that it quotes between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(note))


def _cell(column: Column, row: int) -> str:
    text = escape(column.cells[row])
    return f"<td{_side(column)}>{f'<b>{text}</b>' if row in column.bold else text}</td>"


def _side(column: Column) -> str:
    return ' class="n"' if column.right else ""
