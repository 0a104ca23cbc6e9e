"""Tables as a LaTeX document with booktabs, which compiles as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bench.columns import Column, fit
from bench.report.table import ESSENTIAL, Block, block_notes

WIDTH = 110
"""Characters side by side that are still legible at the width of a page."""
MOST_LINES = 45
"""Rows and notes that one page holds; a longer table breaks over pages."""
LONG_TITLE = 14
"""A title of so many characters stands in one line."""
NOTE_LINE = 130
"""Characters of a line of notes."""
HEAD = r"""% Compiles as it is, and can be \input into a document that loads booktabs, graphicx and longtable.
\expandafter\ifx\csname @nodocument\endcsname\relax
\let\closedocument\relax
\else
\def\closedocument{\end{document}}
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\begin{document}
\fi
\ifdefined\fittedbox\else\newsavebox{\fittedbox}\fi
\providecommand{\fitted}[1]{\sbox{\fittedbox}{#1}%
  \ifdim\wd\fittedbox>\textwidth\resizebox{\textwidth}{!}{\usebox{\fittedbox}}\else\usebox{\fittedbox}\fi}
% A table that breaks over pages can't be scaled: the largest size of type at which its widest row fits is taken.
\providecommand{\fittedtry}[3]{#1\sbox{\fittedbox}{#2}\ifdim\wd\fittedbox>\textwidth #3\fi}
\providecommand{\fittedsize}[1]{\fittedtry{\normalsize}{#1}{\fittedtry{\small}{#1}{\fittedtry{\footnotesize}{#1}{%
  \fittedtry{\scriptsize}{#1}{\tiny}}}}}

"""
r"""``\@nodocument`` is ``\relax`` once a document has begun, so that the file can tell where it is."""
LAST_LETTER = 0x17F
"""Code of the last character that LaTeX's fonts have as they come."""
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line break, [ and * would be its arguments
    "*": "{*}",
    "–": r"\textendash{}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "−": r"\ensuremath{-}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\S{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(blocks: Iterable[Block]) -> str:
    """Return a document, or a part of one, with a table for each block: title and caption above, notes below.

    A table is a float ``table``; one that a page doesn't hold is a ``longtable``, with its head on every page.
    """
    tables = [_long_table(block) if _is_long(block) else _table(block) for block in map(_narrowed, blocks)]
    return HEAD + "\n".join(tables) + "\n\\closedocument\n"


def _narrowed(block: Block) -> Block:
    """Return the block without the columns that a page has no room for, and a note that names them."""
    chosen = fit(block.columns, WIDTH, squeeze=ESSENTIAL)
    if not chosen.left_out:
        return block
    names = ", ".join(column.title.replace("\n", " ") for column in chosen.left_out)
    other = (
        "--columns chooses."
        if any(column.key == "rank" for column in block.columns)
        else "Markdown, HTML and CSV have all."
    )
    kept = [column for column in block.columns if column not in chosen.left_out]
    return replace(block, columns=kept, notes=[*block.notes, f"No room for: {names}. {other}"])


def _is_long(block: Block) -> bool:
    notes = sum(1 + len(note) // NOTE_LINE for note in block_notes(block))
    return len(block.columns[0].cells) + notes > MOST_LINES


def _table(block: Block) -> str:
    notes = _notes(block)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        f"\\caption{{{_caption(block)}}}",
        f"\\fitted{{\\begin{{tabular}}{{{_alignment(block)}}}",
        *_head(block),
        *_rows(block),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if notes:
        lines += [r"\par\smallskip\begin{minipage}{\textwidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _long_table(block: Block) -> str:
    widest = " & ".join(escaped(max((column.title, *column.cells), key=len)) for column in block.columns)
    alignment, notes = _alignment(block), _notes(block)
    lines = [
        r"\begingroup\setlength{\tabcolsep}{3pt}",
        f"\\fittedsize{{\\begin{{tabular}}{{{alignment}}}{widest}\\end{{tabular}}}}",
        f"\\begin{{longtable}}{{{alignment}}}",
        f"\\caption{{{_caption(block)}}}\\\\",
        *_head(block),
        r"\endfirsthead",
        *_head(block),
        r"\endhead",
        *_rows(block),
        r"\bottomrule",
        r"\end{longtable}",
        r"\endgroup",
    ]
    if notes:
        lines += [r"{\footnotesize", *notes, r"\par}"]
    return "\n".join([*lines, ""])


def _caption(block: Block) -> str:
    return escaped(" ".join(part for part in (f"{block.title}.", block.caption) if part))


def _alignment(block: Block) -> str:
    return "@{}" + "".join("r" if column.right else "l" for column in block.columns) + "@{}"


def _head(block: Block) -> list[str]:
    titles = " & ".join(map(_title, block.columns))
    return [r"\toprule", f"{titles} \\\\", r"\midrule"]


def _title(column: Column) -> str:
    """Return a title in one line, or in several where one would be much wider than the cells below it."""
    flat = column.title.replace("\n", " ")
    if "\n" not in column.title or len(flat) <= max(LONG_TITLE, *map(len, column.cells)):
        return escaped(flat)
    lines = r"\\".join(map(escaped, column.title.split("\n")))
    return f"\\begin{{tabular}}[b]{{@{{}}{'r' if column.right else 'l'}@{{}}}}{lines}\\end{{tabular}}"


def _rows(block: Block) -> list[str]:
    n_rows = len(block.columns[0].cells)
    return [" & ".join(_cell(column, row) for column in block.columns) + r" \\" for row in range(n_rows)]


def _notes(block: Block) -> list[str]:
    return [f"\\par\\noindent {escaped(note)}" for note in block_notes(block)]


def _cell(column: Column, row: int) -> str:
    text = escaped(column.cells[row])
    return f"\\textbf{{{text}}}" if row in column.bold else text


def escaped(text: str) -> str:
    """Return a text in which no character has a meaning to LaTeX; control characters are left out.

    A character that LaTeX's fonts lack is written as its code, because pdflatex stops at it. A declaration of it was
    refused: only the head of a document may have some.
    """
    plain = "".join(_escape(character) for character in text if character.isprintable())
    return plain.replace("--", "-{}-")  # two hyphens would be set as a dash


def _escape(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    return character if ord(character) <= LAST_LETTER else f"{{[}}U+{ord(character):04X}]"
