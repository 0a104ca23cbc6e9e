"""Places that reports are written to: files, standard output, and the error where neither can be written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from registry import atomic

STDOUT = Path("-")
"""Stands for standard output in place of a file name."""
SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "html": ".html"}
"""Ending of the files of each format."""


def chosen_format(format: str | None, output: Path | None, figures: Sequence[str] = ()) -> str:
    """Return the format of a report: the one given, or that of the file's ending; without either, the terminal.

    Args:
        format: ``terminal`` or one of `SUFFIXES`; None: by the file.
        output: the file.
        figures: other endings that the command knows, for the error.

    Raises:
        BenchError: an unknown format, a file for the terminal, an ending of no format, or of another format.
    """
    if format is not None and format not in ("terminal", *SUFFIXES):
        raise BenchError(f"unknown format {format!r}; known: terminal, {', '.join(SUFFIXES)}.")
    if output is None or output == STDOUT:
        return format or "terminal"
    if format == "terminal":
        raise BenchError(f"the terminal takes no file ({output}); add --format {', '.join(SUFFIXES)}.")
    endings = {suffix: name for name, suffix in SUFFIXES.items()}
    of_file = endings.get(output.suffix.lower())
    if format and of_file and format != of_file:
        raise BenchError(f"{output} is of the format {of_file} by its ending, and --format is {format}; leave out one.")
    if (format or of_file) is None:
        raise BenchError(
            f"{output} doesn't tell the format; let it end in {', '.join([*endings, *figures])}, or add --format."
        )
    return str(format or of_file)


def write_text(path: Path, text: str) -> bool:
    """Write a report as UTF-8, whatever the encoding of the terminal.

    Args:
        path: a file, which is replaced; a device, a FIFO or ``-``, which is written into.
        text: the whole report.

    Returns:
        Whether a file was written, so that its path may be printed without mixing with the report.

    Raises:
        BenchError: nothing can be written there.
        IsADirectoryError: `path` is a folder.
    """
    if path == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return False
    with explained(path, "FILE"):
        atomic.write_text(path, text)
    return not atomic.is_stream(path)


@contextmanager
def explained(path: Path, value: str) -> Iterator[None]:
    """Turn an error of the file system into a sentence that names the folder and the option that chooses another.

    A pipe whose reader has ended is left to the command line, which ends quietly then.

    Args:
        path: the file that is written in the block.
        value: the value of the option ``-o``, as its help calls it.

    Raises:
        BenchError: the block raised an `OSError`.
    """
    try:
        yield
    except (BrokenPipeError, IsADirectoryError):
        raise
    except OSError as error:
        raise BenchError(
            f"nothing can be written to {path.parent} ({error.strerror or error}); choose another place with "
            f"-o {value}."
        ) from error
