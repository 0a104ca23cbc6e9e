"""When a run is to stop before its end: a signal, a user's cancel, or somebody else who took it over."""

from __future__ import annotations

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

CHECK_EVERY_S = 5.0
Why = Literal["interrupted", "cancelled", "lost"]


class StopFlag:
    """Set by SIGINT, SIGTERM or SIGUSR2 (SLURM's time limit); asked between steps, so that state is saved whole."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

    def __init__(self) -> None:
        self.count = 0

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
        if number == signal.SIGINT and self.count > 2:  # a terminal and submitit each send one for one Ctrl-C
            raise KeyboardInterrupt


@dataclass
class StopCheck:
    """Whether one run is to stop, and why; files are looked at every few seconds only.

    Raises `InterruptedRunError` instead of answering where somebody else does the run by now.

    Attributes:
        flag: the process's signals.
        taken: the run's claim.
        is_cancelled: whether a user cancelled the run.
        why: set once the answer was yes.
    """

    flag: Callable[[], bool]
    taken: RunLock
    is_cancelled: Callable[[], bool]
    why: Why | None = None
    _looked: float = field(default_factory=time.monotonic, repr=False)

    def __call__(self) -> bool:
        if self.why is None and self.flag():
            self.why = "interrupted"
        if self.why is None and time.monotonic() - self._looked > CHECK_EVERY_S:
            self.look()
        return self.why is not None

    def look(self) -> None:
        """Look at the files now.

        Raises:
            InterruptedRunError: somebody else does the run by now.
        """
        self._looked = time.monotonic()
        with suppress(OSError):  # a file system that stutters; the next look will tell
            if not self.taken.is_ours():
                self.why = "lost"
                # An answer would not do: whoever asks would save the state, over that of the new holder.
                raise InterruptedRunError("another process took this run over.")
            if self.is_cancelled():
                self.why = "cancelled"


def is_cancelled(results: Path, run_id: str) -> bool:
    """Whether a user cancelled the run (see `bench.results.submissions`)."""
    try:
        return run_id in submissions.read_cancelled(results)
    except (OSError, LedgerError):
        return False  # a file system that stutters: the next look will tell
