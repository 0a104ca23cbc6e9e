"""Folders that are filled whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import DataError
from registry.names import shown


def require_empty(folder: Path) -> None:
    """Raise `DataError` unless the folder is missing, or empty and not the current one."""
    folder = folder.resolve()  # `new/..` names the folder above even while `new` does not exist
    if folder == Path.cwd():  # replaced, it would leave the shell in a folder that was deleted
        raise DataError("the current folder can't be filled, as it would be replaced; name a new folder in it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{shown(folder)} exists and is not an empty folder; name another one, or remove it first.")


@contextmanager
def filling(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`; it becomes `target` when the block ends without an error.

    Args:
        target: a folder that does not exist yet, or is empty; see `require_empty`.

    Raises:
        OSError: no room or no permission; nothing is left then.
    """
    target = target.resolve()  # names such as `.` and `new/..` have no parent or name of their own
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkdtemp: its mode 0700 would shut colleagues out, and mkdir follows the umask.
    temporary = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:8]}.partial")
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
