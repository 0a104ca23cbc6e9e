"""Large archives from the network: download that resumes, and unpacking that never leaves its target."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from registry import download
from registry.errors import DataError, WeightsError
from registry.names import shown
from registry.whole_folder import filling, require_empty

_RESERVE_BYTES = 64 * 2**20  # never fill a disk to the last byte


def fetch(
    url: str, path: Path, *, size_bytes: int | None = None, sha256: str | None = None, progress: bool = True
) -> Path:
    """Download `url` to `path`, unless a whole file stands there already.

    What an earlier attempt left in ``<path>.part`` is continued where the server allows ranges. A file of the
    wrong size or digest is kept aside as ``<path>.rejected``.

    Args:
        size_bytes: the size of the whole file; None takes the server's word (and a full disk shows late).
        sha256: hex digest, where one is known.
        progress: show a progress bar.

    Raises:
        DataError: no connection, no space, or a file of the wrong size or digest.
    """
    if path.exists():
        _verify(path, path, size_bytes, sha256)
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if size_bytes is not None:
            have = part.stat().st_size if part.exists() else 0
            _require_space(path.parent, size_bytes - have, f"download {url}")
        download.download(url, part, progress=progress)
    except OSError as error:
        raise DataError(f"{shown(path.parent)} can't be written to: {error}.") from error
    except WeightsError as error:  # the downloader's one error, whatever it downloads
        raise DataError(str(error)) from error
    _verify(part, path, size_bytes, sha256)
    part.replace(path)
    return path


def unpack(archive: Path, target: Path, keep: Callable[[PurePosixPath], bool]) -> int:
    """Unpack the members of a zip archive that `keep` chooses: all of them, or `target` is not there.

    Args:
        archive: the zip file.
        target: a folder that does not exist yet, or is empty.
        keep: called with the path of each member inside the archive.

    Returns:
        The number of files written.

    Raises:
        DataError: no zip archive, a damaged or encrypted one, any member (wanted or not) that would leave the
            target or is a link, nothing wanted in it, no space, or a target that holds something.
    """
    require_empty(target)
    try:
        with zipfile.ZipFile(archive) as source:
            members = [(entry, _safe_path(archive, entry)) for entry in source.infolist()]
            wanted = [(entry, path) for entry, path in members if not entry.is_dir() and keep(path)]
            if not wanted:
                raise DataError(f"{shown(archive)} holds none of the wanted files; is it the right archive?")
            target.parent.mkdir(parents=True, exist_ok=True)
            _require_space(target.parent, sum(entry.file_size for entry, _ in wanted), f"unpack {archive}")
            with filling(target) as temporary:
                for entry, path in wanted:
                    _write(source, entry, temporary / path)
    # RuntimeError: unknown method; UnicodeDecodeError: names that are not what the archive says of them.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{shown(archive)} is damaged or no zip archive ({error}); remove it and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(f"{shown(archive)} could not be unpacked to {shown(target)}: {error}.") from error
    return len(wanted)


def _verify(path: Path, final: Path, size_bytes: int | None, sha256: str | None) -> None:
    size, wrong = path.stat().st_size, None
    if size_bytes is not None and size != size_bytes:
        wrong = f"has {size:,} bytes instead of {size_bytes:,}"
    elif sha256 is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256.lower():
            wrong = f"has the SHA-256 {digest} instead of {sha256.lower()}"
    if wrong:
        rejected = final.with_name(final.name + ".rejected")
        path.replace(rejected)
        raise DataError(f"{shown(final)} {wrong}. It is kept aside as {shown(rejected)}; fetch it again.")


def _safe_path(archive: Path, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of a member; raises `DataError` if it would not stay below the target."""
    name, path = entry.filename, PurePosixPath(entry.filename)
    why = None
    if path.is_absolute() or "\\" in name or (path.parts and ":" in path.parts[0]):
        why = "is an absolute path or one of another system"
    elif ".." in path.parts:
        why = "leads out of the target folder"
    elif stat.S_ISLNK(entry.external_attr >> 16):
        why = "is a symbolic link"
    elif entry.flag_bits & 0x1:
        why = "is encrypted"
    if why:
        raise DataError(f"{shown(archive)} is not safe to unpack: its member {name!r} {why}. Nothing was unpacked.")
    return path


def _write(source: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": two members of one name are refused, not merged. zipfile verifies each member's CRC at its end.
    with source.open(entry) as member, path.open("xb") as file:
        shutil.copyfileobj(member, file, 2**20)


def _require_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE_BYTES:
        raise DataError(
            f"not enough space to {what}: {needed / 2**20:,.0f} MiB needed below {shown(folder)}, "
            f"{free / 2**20:,.0f} MiB free. Nothing was written; free some space or name another folder."
        )
