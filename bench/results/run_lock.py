"""Who works on a run: one claim file per run, so that no run is done twice, by any number of processes and hosts.

Made for shared file systems: a claim is taken by `os.link`, which is atomic on NFS too, and never by advisory locks.
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
"""A claim of another host is given up when its file was not touched for so long."""


@dataclass(frozen=True)
class RunLock:
    """A claim that this process holds.

    Attributes:
        path: the claim file.
        token: what tells this claim from any other.
    """

    path: Path
    token: str

    def is_ours(self) -> bool:
        """Whether nobody took the claim over, as another host may when this process seemed dead."""
        current = _read(self.path)
        return current is not None and current.get("token") == self.token

    @contextmanager
    def kept_alive(self, interval_s: float = 60.0) -> Iterator[None]:
        """Touch the claim from a thread while the block runs, so that other hosts see that its holder lives."""
        over = threading.Event()

        def touch() -> None:
            while not over.wait(interval_s):
                with suppress(OSError):  # a file system that stutters; the next touch will do
                    if not self.is_ours():
                        return
                    os.utime(self.path)

        threading.Thread(target=touch, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def release(self) -> None:
        """Give the run back; a claim that somebody else took over meanwhile stays."""
        if self.is_ours():
            self.path.unlink(missing_ok=True)


def acquire(folder: Path, *, limit_s: float = HEARTBEAT_LIMIT_S) -> RunLock | None:
    """Claim the run in `folder`, or return None if another live process holds it.

    A dead holder's claim is taken over: of this host, when its process is gone; of another, when its file
    has not been touched for the limit that its holder set; and of this very job, when SLURM has requeued it since.

    Args:
        folder: the run's.
        limit_s: after how long without a touch this claim is to be given up by other hosts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILENAME
    holder = _read(path)
    if holder is not None and (is_alive(path, holder) or not _retire(path, str(holder.get("token")))):
        return None
    token = uuid.uuid4().hex
    mine = job_environment()
    content = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "job": mine.id,
        "restarts": mine.restarts,
        "node": mine.node,
        "limit_s": limit_s,
        **_view(),
    }
    temporary = folder / f".{FILENAME}.{token[:8]}.tmp"
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.link(temporary, path)
    except FileNotFoundError:
        return None  # somebody tidied up around us; the next look will do
    except FileExistsError:
        # NFS may repeat a link that had succeeded; then what stands there is ours.
        current = _read(path)
        return RunLock(path, token) if current is not None and current.get("token") == token else None
    finally:
        temporary.unlink(missing_ok=True)
    return RunLock(path, token)


def holder(folder: Path) -> Mapping[str, Any] | None:
    """Who works on the run now (token, host, pid), or None if nobody alive does."""
    path = folder / FILENAME
    holder = _read(path)
    return holder if holder is not None and is_alive(path, holder) else None


def is_abandoned(folder: Path) -> bool:
    """Whether somebody worked on the run and ended without giving it back: killed, most likely."""
    path = folder / FILENAME
    holder = _read(path)
    return holder is not None and not is_alive(path, holder)


def is_alive(path: Path, holder: Mapping[str, Any]) -> bool:
    """Whether the holder of a claim still works."""
    mine = job_environment()
    if mine.id and holder.get("job") == mine.id and int(holder.get("restarts") or 0) < mine.restarts:
        # SLURM gave it up before it started us. It may go on all the same, on a node that only lost its daemon.
        return False
    born, view = holder.get("born"), _view()
    same = holder.get("host") == socket.gethostname() and str(born).startswith(_boot())
    if same and all(holder.get(key, value) == value for key, value in view.items()):
        return _born(int(holder["pid"])) == born
    # Another host, or this one before it was booted again, or a process that we need not see: another user's
    # (where /proc is mounted with hidepid), or one in another container.
    try:
        return time.time() - path.stat().st_mtime < float(holder.get("limit_s") or HEARTBEAT_LIMIT_S)
    except FileNotFoundError:
        return False


def remove_lock_of_job(folder: Path, job_id: str) -> bool:
    """Remove the claim of a job that is over, by SLURM's word; returns whether there was one."""
    path = folder / FILENAME
    holder = _read(path)
    if holder is None or holder.get("job") != job_id:
        return False
    return _retire(path, str(holder.get("token")))


def _retire(path: Path, token: str) -> bool:
    """Remove a dead claim; only the one process that moves exactly this claim away succeeds."""
    grave = path.with_name(f".{path.name}.{token[:8]}.dead")
    try:
        # Exclusive creation elects one remover per dead claim: nobody can remove a successor's claim by mistake.
        grave.touch(exist_ok=False)
    except FileExistsError:
        with suppress(FileNotFoundError):  # the elected one is just done
            if time.time() - grave.stat().st_mtime > 60:  # it died in between: elect again, next time
                grave.unlink(missing_ok=True)
        return False
    current = _read(path)
    if current is not None and current.get("token") == token:
        path.unlink(missing_ok=True)
    grave.unlink(missing_ok=True)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # never written by `acquire`, which links complete files; somebody's accident
        return {"token": "unreadable", "host": socket.gethostname(), "pid": 0, "born": f"{_boot()}:never"}
    return content if isinstance(content, dict) else None


def _born(pid: int) -> str | None:
    """When a process of this host was started, in clock ticks since boot; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] == "Z" else f"{_boot()}:{fields[19]}"


def _view() -> dict[str, Any]:
    """Whose processes this one sees: /proc tells nothing of those of other users and containers."""
    return {"uid": os.getuid(), "processes": str(Path("/proc/self/ns/pid").readlink())}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
