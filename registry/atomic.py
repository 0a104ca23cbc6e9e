"""Files that are written whole or not at all: the one writer of the whole program.

It stands in `registry`, which imports nothing from `bench`, because checkpoints and trained parts are written there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path; move the file written there to `path` when the block ends without an error.

    The temporary file lies beside `path` under a unique hidden name that ends in ``.tmp``, so that nobody takes it for
    a finished file; libraries that choose a format by the suffix are told it. It follows the umask, whatever mode the
    library that wrote it has chosen. A link is followed. What is neither a regular file nor a folder (a device, a
    FIFO, a process substitution) can't be replaced: the bytes are written into it.

    Args:
        path: the file to write or replace; its folder is made.
        sync: wait until the bytes are on the disk; False for a file that may be lost with the machine.

    Raises:
        IsADirectoryError: `path` is a folder.
        OSError: no room or no permission; an earlier file then still stands.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    if is_stream(path):
        with tempfile.TemporaryDirectory(prefix="nuclei-bench-") as folder:
            temporary = Path(folder) / "output"
            yield temporary
            # Appended and not truncated, because standard output may be a file that others have written to.
            with temporary.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as target:
                shutil.copyfileobj(source, target)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as created:
            mode = os.fstat(created.fileno()).st_mode & 0o777  # what the umask leaves
        yield temporary
        if temporary.stat().st_mode & 0o777 != mode:  # some file systems refuse any chmod
            temporary.chmod(mode)
        if sync:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Return whether bytes can only be written into a path: a device, a FIFO, or the open file of a process.

    Below /dev and /proc, links lead to what a process has open; if such a file were replaced, the process would go on
    with the old one. /dev/shm is a folder for files.
    """
    parts = path.absolute().parts
    opened = parts[1:2] in (("dev",), ("proc",)) and parts[1:3] != ("dev", "shm")
    return opened or (path.exists() and not path.is_file() and not path.is_dir())


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that a killed process left in a folder; only for the sole writer of that folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write `text` as UTF-8, line breaks as they are (see `replacing`)."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
