"""Folder of cached embeddings: bounded in size, shared by concurrent jobs; what was not used for longest leaves first.

No locks: a file appears by a rename, so that two processes that write the same entry leave one of the two, which are
equal. A file that is to leave is renamed, too, and deleted ten minutes later: whoever has just opened it can read on,
on network file systems as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.cache import entry
from registry import cache_dir
from registry.errors import CacheDirError
from registry.names import shown

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

LIMIT = "BENCH_EMBEDDINGS_GB"
"""Environment variable: largest size of the folder in GB (10⁹ bytes); 0 stores nothing."""
DEFAULT_LIMIT_GB = 50.0
FREE_BYTES = 10**9
"""Left free on the disk, whatever the limit."""
LOW_SHARE = 0.9
"""Share of the limit to which old entries are removed once it is reached."""
EVICTED = ".evicted"
GRACE_S = 600.0
"""An entry that was used in this time is not removed, and the file of a removed one is deleted after this time."""
TOUCH_S = 300.0
"""Uses of an entry within this time of another one need not be noted."""
SCAN_S = 60.0
SCAN_SHARE = 0.02
"""The folder is measured again after a minute, or after this share of the limit was written."""


def limit_bytes() -> int:
    """Return the largest size of the folder in bytes; a value that can't be read counts as none, with a warning."""
    text = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(text or DEFAULT_LIMIT_GB)
        if not 0 <= gigabytes < 1e9:
            raise ValueError
    except ValueError:
        logger.warning(
            "%s=%s is not a number of gigabytes; allowed is 0 or more, e.g. 100. The default of %g is used.",
            LIMIT,
            text,
            DEFAULT_LIMIT_GB,
        )
        gigabytes = DEFAULT_LIMIT_GB
    return int(gigabytes * 10**9)


@dataclass(frozen=True)
class File:
    """A file of the folder.

    Attributes:
        path: of the file.
        n_bytes: its size.
        used: time of its last use, in seconds since the epoch, to within `TOUCH_S`.
    """

    path: Path
    n_bytes: int
    used: float


def files(root: Path) -> Iterator[File]:
    """Yield all files below the folder, unfinished and removed ones included; none where there is no folder."""
    waiting = [root]
    while waiting:
        # Another process may remove what this one is about to look at.
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for item in entries:
                with suppress(OSError):
                    if item.is_dir(follow_symlinks=False):
                        waiting.append(Path(item.path))
                    elif item.is_file(follow_symlinks=False):
                        status = item.stat(follow_symlinks=False)
                        yield File(Path(item.path), status.st_size, status.st_mtime)


@dataclass
class Store:
    """Arrays by their facts, in a folder per backbone and dataset. No method raises for a disk that fails.

    Attributes:
        root: the folder; None where there is none, and nothing is read or written.
        limit: its largest size in bytes, but for what other processes write within a minute.
    """

    root: Path | None
    limit: int
    _is_writable: bool = True
    _size: int = 0
    _written: int = 0
    _scanned: float = float("-inf")
    _verified: dict[Path, int] = field(default_factory=dict)

    def path(self, backbone: str, dataset: str, facts: Mapping[str, Any]) -> Path | None:
        """Return the file of an entry, which depends on `facts` and nothing else."""
        if self.root is None:
            return None
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(canonical.encode()).hexdigest()[:32]
        return self.root / quote(backbone, safe="") / quote(dataset, safe="") / f"{name}{entry.SUFFIX}"

    def read(self, path: Path | None, dtype: str) -> Tensor | None:
        """Return an entry in the type that the encoder computes, or None where it is missing or damaged.

        The first time that this process reads a file, its checksum is compared.
        """
        if path is None:
            return None
        try:
            status = path.stat()
            values = entry.read(path, verify=self._verified.get(path) != status.st_ino)
        except entry.DamagedEntryError as error:
            logger.warning("The cached embedding %s is damaged (%s); it is computed again.", shown(path), error)
            return None
        except OSError:
            return None
        self._verified[path] = status.st_ino
        if time.time() - status.st_mtime > TOUCH_S:
            with suppress(OSError):  # read-only, or removed since
                os.utime(path)
        return entry.as_computed(values, dtype)

    def write(self, path: Path | None, kept: Tensor) -> None:
        """Write an entry where there is room for it; after a failure, warn and write nothing more."""
        if path is None or not self._is_writable:
            return
        n_bytes = kept.numel() * kept.element_size() + 256
        try:
            if not self._has_room(n_bytes):
                return
            entry.write(path, kept)
        except OSError as error:
            self._is_writable = False
            logger.warning(
                "Embeddings can't be cached in %s (%s); this run computes what is missing. See `bench cache size`.",
                shown(path.parent),
                error.strerror or error,
            )
            return
        self._size += n_bytes
        self._written += n_bytes

    def _has_room(self, n_bytes: int) -> bool:
        is_outdated = time.monotonic() - self._scanned > SCAN_S or self._written > SCAN_SHARE * self.limit
        if is_outdated:
            self._scan(n_bytes)
        return self._size + n_bytes <= self.limit

    def _scan(self, n_bytes: int) -> None:
        """Measure the folder, delete what was removed some time ago, and remove old entries where the limit is near."""
        assert self.root is not None
        self.root.mkdir(parents=True, exist_ok=True)
        now = time.time()
        live: list[File] = []
        self._size = 0
        for file in files(self.root):
            if file.path.suffix != entry.SUFFIX and now - _left_at(file) > GRACE_S:
                file.path.unlink(missing_ok=True)
                continue
            self._size += file.n_bytes
            if file.path.suffix == entry.SUFFIX:
                live.append(file)
        free = shutil.disk_usage(self.root).free - FREE_BYTES
        bound = min(self.limit, self._size + free)
        if self._size + n_bytes > bound:
            self._evict(live, LOW_SHARE * bound - n_bytes, now)
        if n_bytes > free:  # the removed files take their room until they are deleted
            self._size = max(self._size, self.limit)
        self._scanned, self._written = time.monotonic(), 0

    def _evict(self, live: list[File], wanted_bytes: float, now: float) -> None:
        assert self.root is not None
        remaining = sum(file.n_bytes for file in live)
        folder = self.root / EVICTED
        folder.mkdir(exist_ok=True)
        for file in sorted(live, key=lambda file: file.used):
            if remaining <= wanted_bytes or now - file.used <= GRACE_S:
                break
            with suppress(OSError):  # another process was faster
                file.path.rename(folder / f"{now:.0f}-{uuid.uuid4().hex}")
            remaining -= file.n_bytes


def _left_at(file: File) -> float:
    """Return when an evicted file was removed, or an unfinished one was written last."""
    first = file.path.name.partition("-")[0]
    return float(first) if file.path.parent.name == EVICTED and first.isdecimal() else file.used


def open_store() -> Store:
    """Return the store in the user's cache, bounded as the environment says."""
    try:
        return Store(cache_dir.embeddings(), limit_bytes())
    except CacheDirError as error:
        logger.warning("Embeddings are not cached: %s", error)
        return Store(None, 0)
