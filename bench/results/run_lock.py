"""Lock of a run: one file per run, so that no run is done twice, by any number of processes and hosts.

Made for shared file systems: a lock is taken by `os.link`, which is atomic on NFS too, and never by advisory locks.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.slurm.environment import job_environment

FILENAME = "claim.json"
HEARTBEAT_LIMIT_S = 900.0
"""A lock held on another host is taken over when its file was not touched for this long."""


@dataclass(frozen=True)
class RunLock:
    """A lock that this process holds.

    Attributes:
        path: the lock file.
        token: distinguishes this lock from every other.
    """

    path: Path
    token: str

    def is_ours(self) -> bool:
        """Return whether nobody took the lock over, as another host may when this process seemed dead."""
        current = _read(self.path)
        return current is not None and current.get("token") == self.token

    @contextmanager
    def heartbeat(self, interval_s: float = 60.0) -> Iterator[None]:
        """Touch the file from a thread while the block runs, so that other hosts see that its holder lives."""
        finished = threading.Event()

        def touch() -> None:
            while not finished.wait(interval_s):
                with suppress(OSError):  # transient I/O errors: the next touch will do
                    if not self.is_ours():
                        return
                    os.utime(self.path)

        threading.Thread(target=touch, daemon=True).start()
        try:
            yield
        finally:
            finished.set()

    def release(self) -> None:
        """Remove the lock; one that somebody else took over meanwhile stays."""
        with suppress(OSError):  # the results folder is gone, or read-only by now
            if self.is_ours():
                self.path.unlink(missing_ok=True)


def acquire(folder: Path, *, limit_s: float = HEARTBEAT_LIMIT_S) -> RunLock | None:
    """Lock the run in `folder`, or return None if another live process holds it.

    A dead holder's lock is taken over: of this host, when its process is gone; of another, when its file
    has not been touched for the limit that its holder set; and of this very job, when SLURM has requeued it since.

    Args:
        folder: the run's.
        limit_s: seconds without a touch after which other hosts may take this lock over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILENAME
    current = _read(path)
    if current is not None and (is_alive(path, current) or not _remove_dead(path, str(current.get("token")))):
        return None
    token = uuid.uuid4().hex
    job = job_environment()
    content = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _start_of(os.getpid()),
        "job": job.id,
        "restarts": job.restarts,
        "node": job.node,
        "limit_s": limit_s,
        **_visible_processes(),
    }
    temporary = folder / f".{FILENAME}.{token[:8]}.tmp"
    try:
        # Not the atomic writer, which replaces: of two processes only one may create the file.
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.link(temporary, path)
    except FileNotFoundError:
        return None  # somebody removed the folder meanwhile; the caller's next attempt makes it anew
    except FileExistsError:
        # NFS may repeat a link that had succeeded; then the file there is ours.
        current = _read(path)
        return RunLock(path, token) if current is not None and current.get("token") == token else None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return RunLock(path, token)


def holder(folder: Path) -> Mapping[str, Any] | None:
    """Process that works on the run now (token, host, pid), or None if no living one does."""
    path = folder / FILENAME
    content = _read(path)
    return content if content is not None and is_alive(path, content) else None


def is_abandoned(folder: Path) -> bool:
    """Return whether a process worked on the run and ended without removing its lock: killed, most likely."""
    path = folder / FILENAME
    content = _read(path)
    return content is not None and not is_alive(path, content)


def is_alive(path: Path, content: Mapping[str, Any]) -> bool:
    """Return whether the holder of a lock still works.

    Args:
        path: the lock file.
        content: of the file.
    """
    job = job_environment()
    if job.id and content.get("job") == job.id and int(content.get("restarts") or 0) < job.restarts:
        # SLURM gave it up before it started us. It may go on all the same, on a node that only lost its daemon.
        return False
    start = content.get("born")
    same_boot = content.get("host") == socket.gethostname() and str(start).startswith(_boot())
    if same_boot and all(content.get(key, value) == value for key, value in _visible_processes().items()):
        return _start_of(int(content["pid"])) == start
    # Another host, or this one before it was booted again, or a process that may be hidden from this one: another
    # user's (where /proc is mounted with hidepid), or one in another container.
    try:
        return time.time() - path.stat().st_mtime < float(content.get("limit_s") or HEARTBEAT_LIMIT_S)
    except FileNotFoundError:
        return False


def remove_lock_of_job(folder: Path, job_id: str) -> bool:
    """Remove the lock that a job holds which SLURM says is over; returns whether there was one."""
    path = folder / FILENAME
    content = _read(path)
    if content is None or content.get("job") != job_id:
        return False
    return _remove_dead(path, str(content.get("token")))


def _remove_dead(path: Path, token: str) -> bool:
    """Remove a dead process's lock; of several processes that try, one succeeds."""
    mark = path.with_name(f".{path.name}.{token[:8]}.dead")
    try:
        # Exclusive creation elects one remover per dead lock: nobody can remove a successor's lock by mistake.
        mark.touch(exist_ok=False)
    except FileExistsError:
        with suppress(FileNotFoundError):  # the elected process is just done
            if time.time() - mark.stat().st_mtime > 60:  # it died in between: the next attempt elects anew
                mark.unlink(missing_ok=True)
        return False
    current = _read(path)
    if current is not None and current.get("token") == token:
        path.unlink(missing_ok=True)
    mark.unlink(missing_ok=True)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # never written by `acquire`, which links complete files; an accident of somebody else's
        return {"token": "unreadable", "host": socket.gethostname(), "pid": 0, "born": f"{_boot()}:never"}
    return content if isinstance(content, dict) else None


def _start_of(pid: int) -> str | None:
    """Start of a process of this host, in clock ticks since boot; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] == "Z" else f"{_boot()}:{fields[19]}"


def _visible_processes() -> dict[str, Any]:
    """User and namespace whose processes this one sees in /proc; it shows none of other users and containers."""
    return {"uid": os.getuid(), "processes": str(Path("/proc/self/ns/pid").readlink())}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
