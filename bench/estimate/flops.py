"""What one image costs under a strategy, counted once and kept in the user's cache. A login node can do it."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import registry
from bench.grid import CLASSICAL, Grid, Run, digest
from bench.results import record
from registry import backbones, cache_dir, strategies
from registry.errors import CacheDirError

VERSION = 1
"""Of the way of counting: a change makes all that was kept be counted again."""
SHIPPED = Path(__file__).with_name("counts.json")
"""Counts of the grids that come with the program, made by `make counts`."""


@dataclass(frozen=True)
class StepCost:
    """What one image costs. Multiply and add count as two FLOPs.

    Attributes:
        parameters: of the model with the strategy applied.
        trainable: those that are trained.
        train_flops: forward and backward of one input; 0 where nothing is trained.
        infer_flops: of predicting one input; a prompting head's encodes once and decodes a grid of points.
        fixed_bytes: largest sum of the bfloat16 copies of weights, which a batch of any size needs once.
        image_bytes: largest sum of all else that one image keeps, whether for its backward pass or in it.
    """

    parameters: int
    trainable: int
    train_flops: int
    infer_flops: int
    fixed_bytes: int
    image_bytes: int

    def peak_bytes(self, micro_batch: int) -> int:
        """GPU memory that training at this micro-batch allocates, float32 weights under bfloat16 autocast."""
        weights_, gradients, moments = 4 * self.parameters, 4 * self.trainable, 8 * self.trainable
        activations = self.fixed_bytes + micro_batch * self.image_bytes
        update = 4 * self.trainable  # AdamW's temporary, when the activations are gone
        return weights_ + gradients + moments + max(activations, update)


def cached_step_cost(run: Run) -> StepCost | None:
    """The count of a run's kind if it was counted before, here or for `SHIPPED`; a damaged file counts as none."""
    name = _name(run)
    try:
        return StepCost(**json.loads(_path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, CacheDirError):
        return _shipped().get(name)


def count_step(run: Run) -> StepCost:
    """Count a run's kind, and keep the result in the user's cache.

    Raises:
        Exception: whatever building or running a backbone, strategy or head of any origin on fake tensors raises.
    """
    from bench.estimate.fake_step import run_fake_step

    found = run_fake_step(
        backbone=run.backbone,
        strategy=run.strategy,
        options=run.options,
        image_size=run.image_size,
        head=run.head,
        trains=bool(run.train),
    )
    with suppress(OSError, CacheDirError):  # a home that is full, read-only or not there: counted each time
        record.write_atomically(_path(_name(run)), json.dumps(asdict(found)) + "\n")
    return found


def write_shipped(grids: Iterable[Grid]) -> int:
    """Count the kinds of grids and write them to `SHIPPED`, so that nobody who plans these waits; returns how many."""
    from bench.planning import plan

    runs = {_name(run): run for grid in grids for run in plan.make(grid, "").runs if run.backbone != CLASSICAL}
    found = {name: asdict(cached_step_cost(run) or count_step(run)) for name, run in sorted(runs.items())}
    record.write_atomically(SHIPPED, json.dumps(found, indent=1) + "\n")
    return len(found)


@cache
def _shipped() -> dict[str, StepCost]:
    try:
        values = json.loads(SHIPPED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: StepCost(**one) for name, one in values.items()}


def _name(run: Run) -> str:
    """Names a run's kind: another card or another source of what is built is another kind."""
    backbone, strategy = backbones.get(run.backbone), strategies.get(run.strategy)
    kind = digest(
        {
            "version": VERSION,
            "card": asdict(backbone.card),
            "strategy": run.strategy,
            "options": dict(run.options),
            "image_size": run.image_size,
            "head": run.head,
            "trains": bool(run.train),
            "sources": [_source(backbone.build), _source(strategy.apply), _registry()],
        }
    )
    return f"{run.backbone}-{run.strategy}-{kind}"


def _path(name: str) -> Path:
    return cache_dir.estimates() / f"{name}.json"


@cache
def _registry() -> str:
    """Digest of what all models are built from; a backbone more, or a strategy, changes nothing for the others."""
    root, digests = Path(registry.__file__).parent, hashlib.sha256()
    for path in sorted((*root.glob("*.py"), *root.glob("modules/*.py"), *root.glob("heads/*.py"))):
        digests.update(path.read_bytes())
    return digests.hexdigest()


def _source(function: Callable[..., Any]) -> str | None:
    """Digest of the file a function stands in; None for one that stands in no file."""
    path = Path(inspect.unwrap(function).__code__.co_filename) if hasattr(function, "__code__") else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None


if __name__ == "__main__":
    from bench.planning.plan import grid_names, load_grid

    print(f"{SHIPPED}: {write_shipped(map(load_grid, grid_names()))} kinds")
