"""The retry rules: what was lost, out of time or out of memory is done again; what diverged or is a bug is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.cluster import ClusterProfile

Kind = Literal["lost", "timed out", "out of memory", "disk full", "diverged", "error"]
PREFIXES: tuple[Kind, ...] = ("lost", "timed out", "out of memory", "disk full", "diverged")
FINAL: frozenset[Kind] = frozenset(("diverged", "error"))
"""Would fail again in the same way: only `bench retry --failed` does them again."""


@dataclass(frozen=True)
class Limits:
    """How often a run is tried again under one command, by what ended its attempts.

    Attributes:
        lost: its process was killed, its node failed, its job vanished.
        timed_out: its job met the time limit before the run could save and requeue.
        out_of_memory: each time with half the micro-batch.
    """

    lost: int = 3
    timed_out: int = 20
    out_of_memory: int = 3

    def of(self, kind: Kind) -> int:
        """The limit for one kind of end; those without a rule are not tried again."""
        by_kind = {
            "lost": self.lost,
            "timed out": self.timed_out,
            "out of memory": self.out_of_memory,
        }
        return by_kind.get(kind, 0)


def limits(profile: ClusterProfile) -> Limits:
    """The limits that a cluster profile sets."""
    return Limits(profile.lost_retries, profile.timeout_retries, profile.out_of_memory_retries)


def kind(reason: object) -> Kind:
    """What ended an attempt, from the words that a record's reason begins with."""
    text = str(reason)
    for prefix in PREFIXES:
        if text.startswith(f"{prefix}:"):
            return prefix
    return "error"


def is_due(
    status: str | None,
    reasons: Sequence[str],
    *,
    limits: Limits,
    forgiven: int = 0,
    batch_size: int | None = None,
) -> bool:
    """Whether a run is to be attempted.

    Args:
        status: of its record; None where there is none.
        reasons: of its failed attempts, oldest first, the record's own included.
        limits: how often each kind of failure is tried again.
        forgiven: how many failed attempts do not count, because they were there when the command was given.
        batch_size: images in an optimiser step: it can be halved so often; None for runs that train nothing.
    """
    if status != "failed":
        return status != "ok"
    counted = [kind(reason) for reason in reasons[forgiven:]]
    if not counted:
        return True
    if counted[-1] == "out of memory" and halvings(reasons) > (batch_size or 1).bit_length() - 1:
        return False  # it was down to one image already
    return counted.count(counted[-1]) <= limits.of(counted[-1])


def halvings(reasons: Sequence[str]) -> int:
    """How often the micro-batch is to be halved: once per attempt that ran out of memory."""
    return sum(kind(reason) == "out of memory" for reason in reasons)


def forgiven(reasons: Sequence[str], *, final_too: bool = False) -> int:
    """How many failures a new command forgives: all, unless the last would come again (`final_too` forgives these)."""
    return len(reasons) if reasons and (final_too or kind(reasons[-1]) not in FINAL) else 0
