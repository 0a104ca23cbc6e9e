"""Official checkpoints of a grid's runs, verified before anything is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.grid import CLASSICAL, Run
from registry import backbones, weights


@dataclass(frozen=True)
class CheckpointProblems:
    """Reasons why runs can't start from official weights, a sentence each.

    Attributes:
        absent: files that are still to be fetched.
        wrong: files that are there but are not the official ones, or can't be read.
    """

    absent: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def problems(runs: Sequence[Run], folder: Path | None) -> CheckpointProblems:
    """Check the official checkpoints that runs load; digests of unchanged files are kept (see `registry.digests`).

    Args:
        runs: of a plan.
        folder: of the checkpoints; None is the cache.
    """
    needed = dict.fromkeys(run.backbone for run in runs if run.weights == "official" and run.backbone != CLASSICAL)
    statuses = [weights.check(backbones.card(name), folder) for name in needed]
    missing = [status for status in statuses if status.state == "missing"]
    absent: list[str] = []
    if missing:
        titles = ", ".join(f"{status.name} ({status.path.name})" for status in missing)
        absent.append(
            f"no checkpoint for {titles} in {missing[0].path.parent}; "
            f"run `bench weights fetch {' '.join(status.name for status in missing)}`, pass --weights DIR, "
            "or --set weights=random."
        )
    wrong = [
        f"checkpoint of {status.name}, {status.path}: {status.state}: {status.detail}."
        for status in statuses
        if not status.usable and status.state != "missing"
    ]
    return CheckpointProblems(tuple(absent), tuple(wrong))
