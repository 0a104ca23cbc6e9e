"""Checks of the results folder: before anything is written there, and while runs go on."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from registry import names

logger = logging.getLogger(__name__)

GONE_AFTER_S = 30.0
"""Seconds for which the folder must be absent before it counts as gone."""
FEWEST_ABSENCES = 3  # polls: one before and one after a stopped process say nothing about the time between


def check_writable(results: Path) -> None:
    """Refuse a results folder that can't be written to, or whose name SLURM or a library would not find.

    Raises:
        BenchError: with what to do.
    """
    if problem := names.name_problem(str(results)):
        raise BenchError(f"the results folder {names.shown(results)} {problem} Or choose another with --results DIR.")
    if "%" in str(results):
        raise BenchError(
            f"the results folder {results} has a % in its path, which SLURM and submitit replace in the names of log "
            "files; choose another with --results DIR."
        )
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=results) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            _check_links(Path(probe.name), results)
    except OSError as error:
        raise BenchError(
            f"can't write to the results folder {results}: {error.strerror}; choose another with --results DIR."
        ) from error


def _check_links(probe: Path, results: Path) -> None:
    """Refuse a file system without hard links, by which a run is locked: buckets mounted as folders have none.

    Raises:
        BenchError: with what to do.
    """
    second = probe.with_name(f"{probe.name}.link")
    try:
        os.link(probe, second)
    except OSError as error:
        raise BenchError(
            f"the results folder {results} is on a file system without hard links ({error.strerror}), by which "
            "processes keep from doing a run twice; choose another with --results DIR, on NFS, Lustre or a local disk."
        ) from error
    finally:
        second.unlink(missing_ok=True)


@dataclass
class PresenceCheck:
    """Check that the results folder was not moved, removed or unmounted under a command that follows runs.

    Its plans are looked for, because workers that go on may make the folder itself anew. Without this check the empty
    folder would look as if no run had been done, and everything would be submitted again.

    A network file system may miss a folder for seconds: only an absence that lasts is believed.

    Attributes:
        results: the results folder.
        clock: returns the time in seconds.
    """

    results: Path
    clock: Callable[[], float] = time.monotonic
    _absent_since: float | None = None
    _absences: int = 0
    _is_unreadable: bool = False

    def __call__(self) -> bool:
        """Return True if the folder is there; False while that is in doubt, when nothing may be concluded from it.

        Raises:
            BenchError: it is gone, with what to do.
        """
        try:
            (self.results / "plans").stat()
        except (FileNotFoundError, NotADirectoryError):
            self._count_absence()
            return False
        except OSError as error:  # ESTALE, EIO: the file system fails, and says nothing about the folder
            if not self._is_unreadable:
                logger.warning("the results folder %s can't be read (%s); waiting.", self.results, error.strerror)
            self._is_unreadable = True
            return False
        self._absent_since, self._absences, self._is_unreadable = None, 0, False
        return True

    def wait(self, poll_s: float) -> None:
        """Return once the folder is there.

        Raises:
            BenchError: it is gone.
        """
        while not self():
            time.sleep(poll_s)

    def _count_absence(self) -> None:
        now = self.clock()
        self._absences += 1
        if self._absent_since is None:
            self._absent_since = now
        if self._absences >= FEWEST_ABSENCES and now - self._absent_since >= GONE_AFTER_S:
            raise BenchError(
                f"the results folder {self.results} is gone: it was moved, removed or unmounted while runs went on. "
                "Jobs that still run can't leave records there: end them with scancel, or bring the folder back and "
                "give the same command again."
            )
