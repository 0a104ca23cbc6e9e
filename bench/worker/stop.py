"""Reasons to stop a run before its end: a signal, a user's cancel, or another process that took it over."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from bench.errors import InterruptedRunError, LedgerError
from bench.results import submissions
from bench.results.run_lock import RunLock

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
Why = Literal["interrupted", "cancelled", "lost"]


class StopNow(KeyboardInterrupt):
    """Raised by a signal while nothing has to be saved; no ``except Exception`` on the way takes it for an error."""


class StopFlag:
    """Flag set by SIGINT, SIGTERM or SIGUSR2 (SLURM's time limit); read between steps, so that state is saved whole.

    Attributes:
        count: number of signals so far.
        first: the first of them; None before.
        is_immediate: whether SIGINT and SIGTERM raise `StopNow`: imports and decoding take seconds, and lose nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

    def __init__(self, *, is_immediate: bool = False) -> None:
        self.count = 0
        self.first: int | None = None
        self.is_immediate = is_immediate

    def __call__(self) -> bool:
        return self.count > 0

    def __enter__(self) -> StopFlag:
        self._previous = {number: signal.signal(number, self._set) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _set(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.first = number
            logger.info("Stopping …" if self.is_immediate else "Stopping: the state is saved first …")
        # SIGUSR2 comes ahead of a time limit: there is time for one more step, without which a run might
        # never get further.
        if self.is_immediate and number != signal.SIGUSR2:
            self.is_immediate = False  # blocks that clean up are not interrupted again
            raise StopNow
        if number == signal.SIGINT and self.count > 2:  # a terminal and submitit each send one for one Ctrl-C
            raise KeyboardInterrupt


@dataclass
class StopCheck:
    """Check that a run calls between its steps; files are read every few seconds only.

    Raises `InterruptedRunError` instead of answering where another process does the run by now.

    Attributes:
        flag: the process's signals.
        lock: of the run.
        is_cancelled: returns whether a user cancelled the run.
        why: set once the answer was yes.
    """

    flag: Callable[[], bool]
    lock: RunLock
    is_cancelled: Callable[[], bool]
    why: Why | None = None
    _checked: float = field(default_factory=time.monotonic, repr=False)

    def __call__(self) -> bool:
        if self.why is None and self.flag():
            self.why = "interrupted"
        if self.why is None and time.monotonic() - self._checked > CHECK_EVERY_S:
            self.check_files()
        return self.why is not None

    def allow_immediate(self, allowed: bool) -> None:
        """Choose whether a signal stops the run at once, or at its next check; see `StopFlag.is_immediate`.

        After a signal it can only be forbidden: blocks that clean up, or save, are not interrupted by the next signal.
        """
        if isinstance(self.flag, StopFlag) and (not allowed or not self.flag()):
            self.flag.is_immediate = allowed

    def check_files(self) -> None:
        """Read the lock and the list of cancelled runs now.

        Raises:
            InterruptedRunError: another process does the run by now.
        """
        self._checked = time.monotonic()
        with suppress(OSError):  # transient I/O errors: the next check will tell
            if not self.lock.is_ours():
                self.why = "lost"
                # Returning True is not enough: the caller would save the state over the new holder's.
                raise InterruptedRunError("another process took this run over.")
            if self.is_cancelled():
                self.why = "cancelled"


def is_cancelled(results: Path, run_id: str) -> bool:
    """Return whether a user cancelled the run (see `bench.results.submissions`)."""
    try:
        return run_id in submissions.read_cancelled(results)
    except (OSError, LedgerError):
        return False  # transient I/O errors: the next check will tell
