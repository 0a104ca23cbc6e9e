"""Kind and text of a failure: a field of the record, on which the rules of `bench.results.retry` rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

FailureKind = Literal[
    "lost", "node_failed", "timed_out", "requeue_limit", "out_of_memory", "environment", "diverged", "error"
]
"""Kinds of failure.

- ``lost``: the process was killed, or its job vanished.
- ``node_failed``: SLURM says that the node failed or did not boot.
- ``timed_out``: the job met its time limit and was not requeued.
- ``requeue_limit``: the job was requeued at its time limit as often as the profile allows.
- ``out_of_memory``: of the GPU or of the host.
- ``environment``: missing file, denied permission, full disk, plug-in that can't be imported: not the run's own fault.
- ``diverged``: loss or gradient are no longer finite.
- ``error``: everything else; most likely a bug.
"""
KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

_WORDS: Mapping[FailureKind, str] = {
    "lost": "lost",
    "node_failed": "node failed",
    "timed_out": "timed out",
    "requeue_limit": "requeue limit reached",
    "out_of_memory": "out of memory",
    "environment": "environment",
    "diverged": "diverged",
}
_ENVIRONMENT_OF_0_1 = (
    "disk full:",
    "checkpoint of ",
    "FileNotFoundError:",
    "PermissionError:",
    "ModuleNotFoundError:",
    "ImportError:",
    "unknown backbone",
    "unknown strategy",
    "unknown head",
    "unknown dataset",
    "the images in ",
)
"""First words of the reasons of version 0.1.0 that are errors of the environment by now."""


@dataclass(frozen=True)
class Failure:
    """End of an attempt without a result.

    Attributes:
        kind: see `FailureKind`.
        text: one line for people, without the kind.
    """

    kind: FailureKind
    text: str

    @property
    def reason(self) -> str:
        """The line that tables show: the kind in words, then the text."""
        words = _WORDS.get(self.kind)
        return f"{words}: {self.text}" if words else self.text


def kind_of_attempt(attempt: Mapping[str, Any]) -> FailureKind:
    """Kind of a failed attempt in a record.

    Records of version 0.1.0 have no field for it; the first words of their ``reason`` say the kind.

    Args:
        attempt: a record's values, or an element of its ``attempts``.
    """
    failure = attempt.get("failure")
    if isinstance(failure, Mapping) and failure.get("kind") in KINDS:
        kind: FailureKind = failure["kind"]
        return kind
    reason = str(attempt.get("reason"))
    if reason.startswith(_ENVIRONMENT_OF_0_1):
        return "environment"
    if reason.startswith("lost: the node failed"):
        return "node_failed"
    if reason.startswith("out of time:"):
        return "requeue_limit"
    return next((kind for kind, words in _WORDS.items() if reason.startswith(f"{words}:")), "error")
