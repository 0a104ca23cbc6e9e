"""FLOPs and memory of a step of a model, counted once and kept in the user's cache.

Counting needs neither a GPU nor a checkpoint, so it can be done on a login node. The counts of the grids that come with
the program are in `SHIPPED_COUNTS`; ``make counts`` (this module as a program) writes that file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path

from bench.estimate.fake_step import run_fake_step
from bench.estimate.resources import StepCost
from bench.grid import CLASSICAL, Grid, Run, digest
from bench.planning import plan
from registry import atomic, backbones, cache_dir, heads, strategies
from registry.errors import CacheDirError
from registry.source_digest import source_digest

VERSION = 3
"""Version of the way of counting; a change of it outdates all stored counts."""
SHIPPED_COUNTS = Path(__file__).with_name("counts.json")

logger = logging.getLogger(__name__)


def cached_step_cost(run: Run, *, recomputed: bool = False) -> StepCost | None:
    """Return the cost of a run's step if it was counted before; None if not, or if the stored file is damaged."""
    key = model_key(run, recomputed=recomputed)
    try:
        return StepCost(**json.loads(_cache_path(key).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, CacheDirError):
        return _shipped_counts().get(key)


def count_step(run: Run, *, recomputed: bool = False) -> StepCost:
    """Count the cost of a run's step, and keep the result in the user's cache.

    Args:
        run: the run.
        recomputed: activations of the encoder's blocks are computed again in the backward pass (``train.memory``).

    Raises:
        Exception: whatever building or running a backbone, strategy or head of any origin on fake tensors raises.
    """
    cost = run_fake_step(
        backbone=run.backbone,
        strategy=run.strategy,
        options=run.options,
        image_size=run.image_size,
        head=run.head,
        trains=bool(run.train),
        recomputed=recomputed,
    )
    try:
        atomic.write_text(_cache_path(model_key(run, recomputed=recomputed)), json.dumps(asdict(cost)) + "\n")
    except (OSError, CacheDirError) as error:  # a home that is full, read-only or missing: counted again each time
        logger.debug("the cost of a step of %s × %s can't be kept: %s", run.backbone, run.strategy, error)
    return cost


def write_shipped_counts(grids: Iterable[Grid]) -> int:
    """Count all models of `grids`, write them to `SHIPPED_COUNTS`, and return their number."""
    runs = {model_key(run): run for grid in grids for run in plan.make(grid, "").runs if run.backbone != CLASSICAL}
    counts = {key: asdict(cached_step_cost(run) or count_step(run)) for key, run in sorted(runs.items())}
    atomic.write_text(SHIPPED_COUNTS, json.dumps(counts, indent=1) + "\n")
    return len(counts)


@cache
def _shipped_counts() -> dict[str, StepCost]:
    try:
        values = json.loads(SHIPPED_COUNTS.read_text(encoding="utf-8"))
        return {key: StepCost(**cost) for key, cost in values.items()}
    except (OSError, ValueError, TypeError):  # a TypeError: of another version of the counts
        return {}


def model_key(run: Run, *, recomputed: bool = False) -> str:
    """Return a name that is equal for runs whose steps cost the same; it changes with the code of the model."""
    backbone = backbones.get(run.backbone)
    key = digest(
        {
            **({"recomputed": True} if recomputed else {}),
            "version": VERSION,
            "card": asdict(backbone.card),
            "strategy": run.strategy,
            "options": dict(run.options),
            "image_size": run.image_size,
            "head": run.head,
            "trains": bool(run.train),
            "sources": source_digest(backbone.build, strategies.get(run.strategy).apply, heads.get(run.head)),
        }
    )
    return f"{run.backbone}-{run.strategy}-{key}"


def _cache_path(key: str) -> Path:
    return cache_dir.estimates() / f"{key}.json"


if __name__ == "__main__":
    print(f"{SHIPPED_COUNTS}: {write_shipped_counts(map(plan.load_grid, plan.grid_names()))} models")
