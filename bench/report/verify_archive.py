"""Zip files of others, unpacked with care: no path leads out of the target, and no size is believed."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bench.errors import BenchError

MOST_FILES = 200_000
MOST_BYTES = 4 * 2**30
"""Of all files unpacked. A pack of 2,000 runs takes 60 MB."""
MOST_BYTES_OF_A_FILE = 2**29
_LONGEST = 250
_CHUNK = 2**20


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose names and sizes are harmless.

    Raises:
        BenchError: no zip file, a truncated one, or one that holds a name or a size that is refused.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BenchError(f"{path} does not exist; give the zip file that `bench report --pack` wrote.") from error
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BenchError(f"{path} is no zip file, or a truncated one ({error}); copy the pack again.") from error
    with archive:
        problem = _problem(archive.infolist())
        if problem:
            raise BenchError(f"{path} is refused: {problem}. It was not written by `bench report --pack`.")
        yield archive


def _problem(infos: list[zipfile.ZipInfo]) -> str:
    """Return the reason for which an archive is refused; empty for none."""
    if len(infos) > MOST_FILES:
        return f"it holds {len(infos):,} files, and {MOST_FILES:,} are the most"
    seen: set[str] = set()
    for info in infos:
        name = info.filename
        if reason := _unsafe(info):
            return f"the name {name!r:.300} {reason}"
        if name.casefold() in seen:
            return f"it holds {name!r:.300} twice"
        seen.add(name.casefold())
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"{name!r:.300} is encrypted, or packed in a way that packs are not"
        if info.file_size > MOST_BYTES_OF_A_FILE:
            return f"{name!r:.300} unpacks to {info.file_size:,} bytes"
    total = sum(info.file_size for info in infos)
    return f"it unpacks to {total:,} bytes, and {MOST_BYTES:,} are the most" if total > MOST_BYTES else ""


def _unsafe(info: zipfile.ZipInfo) -> str:
    """Return what is wrong with a name; empty for nothing."""
    # zipfile cuts names at NUL and turns backslashes round on Windows: the raw name is what other programs see.
    name = info.orig_filename
    parts = name.split("/")
    if name != info.filename or not name.isprintable() or "\\" in name or ":" in name:
        return "has characters that no pack has"
    if len(name) > _LONGEST:
        return "is too long"
    if PurePosixPath(name).is_absolute() or any(part in ("", ".", "..") for part in parts):
        return "leads out of the pack, or is a folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    return "is a link or a device" if kind not in (0, stat.S_IFREG) else ""


def unpack(archive: zipfile.ZipFile, target: Path) -> dict[str, tuple[str, int]]:
    """Write the files of an archive that was `opened` below a folder; return their SHA-256 digests and sizes.

    Raises:
        BenchError: a file is damaged, or holds more bytes than it says.
    """
    digests = {}
    for info in archive.infolist():
        path = target / info.filename
        digest, n_bytes = hashlib.sha256(), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, path.open("xb") as file:
                while chunk := source.read(_CHUNK):
                    n_bytes += len(chunk)
                    if n_bytes > info.file_size:
                        raise BenchError(f"{info.filename!r:.300} holds more bytes than it says; the pack is refused.")
                    digest.update(chunk)
                    file.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise BenchError(f"{info.filename!r:.300} can't be unpacked ({error}); copy the pack again.") from error
        digests[info.filename] = digest.hexdigest(), n_bytes
    return digests
