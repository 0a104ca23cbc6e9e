"""Characters that a terminal can't show, and what is shown in their place."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

REPLACEMENTS = str.maketrans(
    {
        "±": "+/-",
        "×": "x",
        "·": ".",
        "•": "*",
        "–": "-",
        "—": "-",
        "−": "-",
        "─": "-",
        "━": "-",
        "│": "|",
        "┃": "|",
        "≈": "~",
        "≤": "<=",
        "≥": ">=",
        "→": "->",
        "…": "...",
        "†": "*",
        "‡": "**",
        "§": "***",
        "✓": "+",
        "▸": ">",
        "≡": "=",
        "○": "o",
        "‖": "|",
        "⊘": "/",
        "✗": "x",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
    }
    | dict(zip("▁▂▃▄▅▆▇█", "_.-=+*%#", strict=True))  # of a sparkline, from low to high
    | {chr(code): "*" for code in range(0x2801, 0x2900)}  # braille patterns: rich draws its spinner with them
)
"""ASCII for the characters that this program prints; the symbols of the states stay different from each other."""


def shortened(text: str, length: int) -> str:
    """Return a text of at most `length` characters, its middle left out; names differ at both of their ends."""
    if len(text) <= length:
        return text
    start = (length - 1) // 2
    return f"{text[:start]}…{text[len(text) - (length - 1 - start) :]}"


def shown_in(encoding: str, text: str) -> str:
    """Return `text` with the characters that an encoding lacks replaced, so that widths can be counted before printing.

    Args:
        encoding: of a terminal or file.
        text: any text; bytes of file names that are not UTF-8 are shown as ``\\xe9``.
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_shown_in(encoding, character) for character in text)
    return text


def replace_what_cannot_be_shown() -> None:
    """Make standard output and error replace what their encoding lacks, where Python would raise or print escapes.

    Everything that is printed goes through these two streams, that of libraries included. Encodings other than
    Unicode are those of ``LC_ALL=C`` without UTF-8 mode, of old terminals, and of PYTHONIOENCODING. Names that are
    not UTF-8 can't be printed to any terminal.
    """
    codecs.register_error("bench.replace", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="bench.replace")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_shown_in(error.encoding, character) for character in characters), error.end


def _shown_in(encoding: str, character: str) -> str:
    """Return a character as an encoding shows it: itself, its replacement, its base letter, or ``?``."""
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    letters = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    for text in (character, character.translate(REPLACEMENTS), letters):
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        if text:
            return text
    return "?"
