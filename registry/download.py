"""Download of one file over HTTP, continued where an earlier attempt broke off."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from registry.errors import WeightsError

if TYPE_CHECKING:
    from requests import Response
    from rich.progress import Progress, TaskID

CHUNK_BYTES = 1 << 16  # the most that a broken connection loses
TIMEOUT_SECONDS = 30


def download(url: str, part: Path, *, progress: bool = True) -> None:
    """Download `url` to `part`, after the bytes that it holds already.

    Args:
        url: an HTTP address; a server that ignores ranges is read from the start.
        part: the file to write; it is kept when the download breaks off.
        progress: draw a progress bar on the terminal.

    Raises:
        WeightsError: no connection, an HTTP error, a broken connection, no space, or another process that writes it.
    """
    import requests

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as file:
            if not _continue(url, file, progress=progress):
                file.truncate(0)
                _continue(url, file, progress=progress)
    except requests.RequestException as error:
        kept = (
            f" {part.stat().st_size:,} bytes are kept in {part}; run the same again to continue."
            if part.exists()
            else ""
        )
        raise WeightsError(f"the download of {url} broke off: {error}.{kept}") from error
    except OSError as error:
        raise WeightsError(
            f"{part} could not be written: {error.strerror or error}. Make room or fix the permissions of its folder "
            "and run the same again, or name another folder with --weights."
        ) from error


def _continue(url: str, file: IO[bytes], *, progress: bool) -> bool:
    """Append the missing bytes; returns False if the server says that its file is shorter than the one on disk."""
    import requests

    n_bytes = file.seek(0, 2)
    # Without identity, Content-Length would count compressed bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={n_bytes}-"} if n_bytes else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if n_bytes and response.status_code == requests.codes.requested_range_not_satisfiable:
            return _total(response) == n_bytes
        response.raise_for_status()
        if n_bytes and response.status_code != requests.codes.partial_content:
            n_bytes = 0
            file.truncate(0)
        expected = n_bytes + int(response.headers.get("Content-Length", 0))
        with _bar(url, n_bytes, expected, shown=progress) as (bar, task):
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(task, advance=len(chunk))
        if file.tell() < expected:
            raise requests.ConnectionError(f"{file.tell():,} of {expected:,} bytes arrived")
    return True


def _total(response: Response) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeightsError(f"another process is writing {part}; wait for it, then run the same again.") from error
        yield file


@contextmanager
def _bar(url: str, completed: int, expected: int, *, shown: bool) -> Iterator[tuple[Progress, TaskID]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not shown) as bar:
        yield bar, bar.add_task(url.rsplit("/", 1)[-1], total=expected or None, completed=completed)
