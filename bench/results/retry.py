"""Retry rules: which failures are tried again, how often, and which a new command ignores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.grid import Run
from bench.results.failure import FailureKind
from bench.slurm.profile import ClusterProfile

FINAL: frozenset[FailureKind] = frozenset(("diverged", "error"))
"""Kinds that would come again in the same way: only `bench retry --failed` does such runs again."""


@dataclass(frozen=True)
class Limits:
    """Number of times that a run is tried again under one command, by the kind of its failures.

    Attributes:
        lost: its process was killed, its node failed, its job vanished.
        timed_out: its job was ended at the time limit and not requeued.
        out_of_memory: first with activations computed again (`train.memory=auto`), then each time with half the
            micro-batch.
    """

    lost: int = 3
    timed_out: int = 20
    out_of_memory: int = 3

    def of(self, kind: FailureKind) -> int:
        """The limit of one kind; 0 for the others, which the same command doesn't try again."""
        by_kind: dict[FailureKind, int] = {
            "lost": self.lost,
            "node_failed": self.lost,
            "timed_out": self.timed_out,
            "out_of_memory": self.out_of_memory,
        }
        return by_kind.get(kind, 0)


def limits(profile: ClusterProfile) -> Limits:
    """The limits that a cluster profile sets."""
    return Limits(profile.lost_retries, profile.timeout_retries, profile.out_of_memory_retries)


class Attempted(Protocol):
    """State of a run's attempts: a `RunRecord`, or its `index.Entry`."""

    @property
    def status(self) -> str: ...
    @property
    def failures(self) -> tuple[FailureKind, ...]: ...


def is_due(attempted: Attempted | None, run: Run, *, limits: Limits, ignored_failures: int = 0) -> bool:
    """Return whether a run is to be attempted.

    Args:
        attempted: state of its attempts; None if there were none.
        run: the run.
        limits: number of times that each kind of failure is tried again.
        ignored_failures: number of failed attempts that don't count, because they were there before the command.
    """
    if attempted is None or attempted.status != "failed":
        return attempted is None or attempted.status != "ok"
    counted = attempted.failures[ignored_failures:]
    if not counted:
        return True
    is_divisible = run.train.get("batchnorm") != "trained"  # else batches stay whole, see `bench.training.batchnorm`
    halvable = int(run.train.get("batch_size") or 1).bit_length() - 1 if is_divisible else 0
    if counted[-1] == "out_of_memory" and halvings(attempted.failures, run.train.get("memory")) > halvable:
        return False  # the last attempt had the smallest micro-batch already
    # A failed node is a lost process as far as the limit goes: both count together.
    last = _counted_as(counted[-1])
    return sum(_counted_as(kind) == last for kind in counted) <= limits.of(last)


def checkpoints(failures: Sequence[FailureKind], memory: str | None) -> bool:
    """Return True if activations are to be computed again from the start, since an attempt ran out of memory.

    Within an attempt the micro-batch is halved first, which costs no FLOPs (see `bench.training.step`). An attempt that
    ended was beyond that: one image did not fit, or the machine's memory was full and the process was killed. Attempts
    are few and begin anew, so the next one begins with what saves most.

    Args:
        failures: kinds of the failures so far.
        memory: the run's ``train.memory``; None for a run that trains nothing.
    """
    return memory == "auto" and "out_of_memory" in failures


def halvings(failures: Sequence[FailureKind], memory: str | None) -> int:
    """Number of times that the micro-batch is to be halved: once per attempt that ran out of memory.

    With ``train.memory=auto`` the first of them is answered by `checkpoints`.
    """
    return max(0, sum(kind == "out_of_memory" for kind in failures) - (memory == "auto"))


def count_ignored(failures: Sequence[FailureKind], *, final_too: bool = False) -> int:
    """Number of failures that a new command ignores: all, or none if the last is final (`final_too` ignores these)."""
    return len(failures) if failures and (final_too or failures[-1] not in FINAL) else 0


def _counted_as(kind: FailureKind) -> FailureKind:
    return "lost" if kind == "node_failed" else kind
