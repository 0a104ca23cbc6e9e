"""Places that reports are written to: files, standard output, and the error where neither can be written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from registry import atomic

STDOUT = Path("-")
"""Stands for standard output in place of a file name."""


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
