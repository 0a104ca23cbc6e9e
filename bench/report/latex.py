"""Tables as a LaTeX document with booktabs, which compiles as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bench.columns import Column, fit
from bench.report.table import ESSENTIAL, Block, block_notes

WIDTH = 110
"""Characters side by side that are still legible at the width of a page."""
PREAMBLE = r"""% Compiles as it is. A table copied into another document needs booktabs, graphicx and \fitted.
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\newsavebox{\fittedbox}
\newcommand{\fitted}[1]{\sbox{\fittedbox}{#1}%
  \ifdim\wd\fittedbox>\textwidth\resizebox{\textwidth}{!}{\usebox{\fittedbox}}\else\usebox{\fittedbox}\fi}
"""
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
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(blocks: Iterable[Block]) -> str:
    """Return a document with a ``table`` for each block: title and caption above, notes below."""
    tables = [_table(_narrowed(block)) for block in blocks]
    foreign = sorted({character for text in tables for character in text if ord(character) > 0x17F})
    # pdflatex stops at a character that it has no glyph for; the document must compile whatever a folder is called.
    declared = [
        f"\\DeclareUnicodeCharacter{{{ord(character):04X}}}{{[U+{ord(character):04X}]}}" for character in foreign
    ]
    lines = "".join(f"{line}\n" for line in declared)
    return f"{PREAMBLE}{lines}\\begin{{document}}\n\n" + "\n".join(tables) + "\n\\end{document}\n"


def _narrowed(block: Block) -> Block:
    """Return the block without the columns that a page has no room for, and a note that names them."""
    chosen = fit(block.columns, WIDTH, squeeze=ESSENTIAL)
    if not chosen.left_out:
        return block
    names = ", ".join(column.title for column in chosen.left_out)
    kept = [column for column in block.columns if column not in chosen.left_out]
    return replace(block, columns=kept, notes=[*block.notes, f"No room for: {names}. --columns chooses."])


def _table(block: Block) -> str:
    alignment = "".join("r" if column.right else "l" for column in block.columns)
    head = " & ".join(escaped(column.title.replace("\n", " ")) for column in block.columns)
    rows = [
        " & ".join(_cell(column, row) for column in block.columns) + r" \\"
        for row in range(len(block.columns[0].cells))
    ]
    caption = escaped(" ".join(part for part in (f"{block.title}.", block.caption) if part))
    notes = [f"\\par\\noindent {escaped(note)}" for note in block_notes(block)]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        f"\\caption{{{caption}}}",
        f"\\fitted{{\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"\toprule",
        f"{head} \\\\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if notes:
        lines += [r"\par\smallskip\begin{minipage}{\textwidth}\footnotesize", *notes, r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _cell(column: Column, row: int) -> str:
    text = escaped(column.cells[row])
    return f"\\textbf{{{text}}}" if row in column.bold else text


def escaped(text: str) -> str:
    """Return a text in which no character has a meaning to LaTeX; control characters are left out."""
    plain = "".join(ESCAPES.get(character, character) for character in text if character.isprintable())
    return plain.replace("--", "-{}-")  # two hyphens would be set as a dash
