"""Digests of files, computed once for each state of a file: kept in the process and, for large files, in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from registry import cache_dir
from registry.atomic import write_text
from registry.errors import CacheDirError

Kind = Literal["sha256", "git blob sha1"]
log = logging.getLogger(__name__)

# Smaller files are hashed in less time than the cache is worth.
KEPT_FROM_BYTES = 16 << 20
# A file that changed a moment ago may change again within the resolution of its times, as git says of racy entries.
UNCHANGED_SECONDS = 2
KEPT_FILES = 200


def compute(file: Path, kind: Kind) -> str:
    """Return a file's digest in hexadecimal digits, read from its bytes."""
    return _ALGORITHMS[kind](Path(file))


def of(file: Path, kind: Kind = "sha256") -> str:
    """Return a file's digest in hexadecimal digits; its bytes are read once, and again when it has changed.

    A file has changed if its path, inode, size, modification time or change time has. The change time can't be set, so
    a file with a copied modification time is read again. Digests of files from 16 MiB are kept in the user's cache.
    """
    path = Path(os.path.realpath(file))
    status = path.stat()
    return _remembered(path, kind, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


@lru_cache(maxsize=64)
def _remembered(path: Path, kind: Kind, state: tuple[int, ...]) -> str:
    if state[0] < KEPT_FROM_BYTES:
        return compute(path, kind)
    entry = _entry(_load(), path, list(state))
    if isinstance(entry.get(kind), str):
        return str(entry[kind])
    log.info("reading %s (%s bytes) to verify its %s", path, f"{state[0]:,}", kind)
    digest = compute(path, kind)
    if time.time_ns() - state[2] > UNCHANGED_SECONDS * 1e9:
        _store(path, list(state), kind, digest)
    return digest


def _file() -> Path:
    return cache_dir.root() / "digests.json"


def _load() -> dict[str, Any]:
    """Return the kept digests by path; none where the file is missing or damaged."""
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, CacheDirError):
        return {}
    return content if isinstance(content, dict) else {}


def _entry(content: dict[str, Any], path: Path, state: list[int]) -> dict[str, Any]:
    entry = content.get(str(path))
    return entry if isinstance(entry, dict) and entry.get("state") == state else {}


def _store(path: Path, state: list[int], kind: Kind, digest: str) -> None:
    content = _load()
    entry = {"state": state, **_entry(content, path, state), kind: digest}
    content.pop(str(path), None)
    kept = dict(list(content.items())[-(KEPT_FILES - 1) :])
    # Two processes at once: the later one wins, and the other's digest is computed again.
    with suppress(OSError, CacheDirError):
        write_text(_file(), json.dumps(kept | {str(path): entry}, indent=1) + "\n", sync=False)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _git_blob_sha1(file: Path) -> str:
    with file.open("rb") as opened:
        # Not a signature: it is the name under which git stores the content.
        blob = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        while chunk := opened.read(1 << 20):
            blob.update(chunk)
    return blob.hexdigest()


_ALGORITHMS: dict[Kind, Callable[[Path], str]] = {"sha256": _sha256, "git blob sha1": _git_blob_sha1}
