"""The retry rules: what was lost, out of time or out of memory is done again; what diverged or is a bug is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bench.grid import Run
from bench.slurm.profile import ClusterProfile

FailureKind = Literal["lost", "timed out", "out of time", "out of memory", "disk full", "diverged", "error"]
PREFIXES: tuple[FailureKind, ...] = ("lost", "timed out", "out of time", "out of memory", "disk full", "diverged")
FINAL: frozenset[FailureKind] = frozenset(("diverged", "error"))
"""Would fail again in the same way: only `bench retry --failed` does them again."""


@dataclass(frozen=True)
class Limits:
    """How often a run is tried again under one command, by what ended its attempts.

    Attributes:
        lost: its process was killed, its node failed, its job vanished.
        timed_out: its job was ended at the time limit and not requeued.
        out_of_memory: each time with half the micro-batch.
    """

    lost: int = 3
    timed_out: int = 20
    out_of_memory: int = 3

    def of(self, kind: FailureKind) -> int:
        """The limit for one kind of end; those without a rule are not tried again."""
        by_kind = {"lost": self.lost, "timed out": self.timed_out, "out of memory": self.out_of_memory}
        return by_kind.get(kind, 0)


def limits(profile: ClusterProfile) -> Limits:
    """The limits that a cluster profile sets."""
    return Limits(profile.lost_retries, profile.timeout_retries, profile.out_of_memory_retries)


def failure_kind(reason: object) -> FailureKind:
    """What ended an attempt, from the words that a record's reason begins with."""
    text = str(reason)
    for prefix in PREFIXES:
        if text.startswith(f"{prefix}:"):
            return prefix
    return "error"


class Attempted(Protocol):
    """What is left of a run's attempts: a `RunRecord`, or its `index.Entry`."""

    @property
    def status(self) -> str: ...
    @property
    def failures(self) -> tuple[str, ...]: ...


def is_due(found: Attempted | None, run: Run, *, limits: Limits, forgiven: int = 0) -> bool:
    """Whether a run is to be attempted.

    Args:
        found: what its attempts left; None if there were none.
        run: the run.
        limits: how often each kind of failure is tried again.
        forgiven: how many failed attempts do not count, because they were there when the command was given.
    """
    if found is None or found.status != "failed":
        return found is None or found.status != "ok"
    counted = [failure_kind(reason) for reason in found.failures[forgiven:]]
    if not counted:
        return True
    halvable = int(run.train.get("batch_size") or 1).bit_length() - 1
    if counted[-1] == "out of memory" and halvings(found.failures) > halvable:
        return False  # it was down to one image already
    return counted.count(counted[-1]) <= limits.of(counted[-1])


def halvings(reasons: Sequence[str]) -> int:
    """How often the micro-batch is to be halved: once per attempt that ran out of memory."""
    return sum(failure_kind(reason) == "out of memory" for reason in reasons)


def count_ignored(reasons: Sequence[str], *, final_too: bool = False) -> int:
    """How many failures a new command forgives: all, unless the last would come again (`final_too` forgives these)."""
    return len(reasons) if reasons and (final_too or failure_kind(reasons[-1]) not in FINAL) else 0
