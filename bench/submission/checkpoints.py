"""Official checkpoints of a grid's runs, verified before anything is submitted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.grid import CLASSICAL, Grid, Run
from registry import backbones, weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointProblems:
    """Reasons why runs can't start from official weights, a sentence each.

    Attributes:
        absent: files that are still to be fetched.
        wrong: files that are there but are not the official ones, or can't be read.
    """

    absent: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def available(grid: Grid, folder: Path | None) -> frozenset[str]:
    """Return the backbones of a grid whose official checkpoint is here, for ``weights=available``; warn of the others.

    A file that is there counts, even a wrong one: `problems` then refuses it, where random weights would hide it.

    Args:
        grid: its sweep and its names may have problems.
        folder: of the checkpoints; None is the cache.
    """
    changed = [change.get("weights") for change in grid.changes]
    if "available" not in (grid.settings.weights, *grid.sweep.get("weights", ()), *changed):
        return frozenset()
    cards = [backbones.card(name) for name in grid.backbones if name in backbones.names()]
    files = {card.name: weights.path(card, folder) for card in cards if card.checkpoint}
    absent = [name for name, path in files.items() if not path.exists()]
    if absent:
        logger.warning(
            "No official checkpoint of %s in %s: with weights=available, its runs start from RANDOM weights. "
            "`bench weights fetch %s` gets it.",
            " and ".join(absent),
            files[absent[0]].parent,
            " ".join(absent),
        )
    return frozenset(files) - frozenset(absent)


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
