"""Models that are measured, and the painted images that they are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import PlanError
from bench.grid import Grid, Run
from bench.planning import plan, sweeps
from bench.training.data import Image
from bench.training.split import Split

if TYPE_CHECKING:
    from torch import device as Device

IMAGE_SIDE, NUCLEI = 512, 150
"""Side in pixels and number of nuclei of a painted image: as NuInsSeg's have them."""
N_TRAIN = 8
"""Painted images to train on, or as many as a batch has if those are more."""
STRATEGIES = ("decoder_only", "lora_qv", "full")
"""Measured where no strategy is named, and no backbone either."""
CPU_BACKBONES = ("mobile_sam",)
"""Measured on a CPU where no backbone is named: the large ones take minutes a step there, and tens of gigabytes."""
GRID = "default"
"""Grid whose settings are measured, but for those that are set."""


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        run: its settings, as a planned run has them.
        images: of a step.
        parts: the images.
    """

    run: Run
    images: int
    parts: Split


def subjects(
    backbone: str | None,
    strategy: str | None,
    *,
    assignments: Sequence[str],
    device: Device,
    images: int | None = None,
    plugins: Sequence[str] = (),
) -> list[Subject]:
    """Return what is measured: one model, all strategies of the grid on one backbone, or a default choice.

    The settings are those of the grid `GRID` with `assignments`; weights are random, since values cost no time.

    Args:
        backbone, strategy: registered names; None chooses.
        assignments: ``KEY=VALUE`` texts, as `--set` takes them.
        device: that is measured.
        images: of a step; None takes ``train.batch_size`` on a GPU, and 1 on a CPU, where more only take longer.
        plugins: of the grid.

    Raises:
        PlanError: unknown names or settings, or a strategy that the backbone or the head can't take.
    """
    grid = plan.load_grid(GRID)
    chosen = Grid(
        name="perf",
        backbones=(backbone,) if backbone else grid.backbones if device.type == "cuda" else CPU_BACKBONES,
        strategies=(strategy,) if strategy else grid.strategies if backbone else STRATEGIES,
        settings=replace(grid.settings, dataset="synthetic", weights="random"),
        folds=(1,),
        classical=False,
        plugins=tuple(plugins),
    )
    applied, problems = sweeps.apply(chosen, assignments)
    if problems:
        raise PlanError(problems)
    planned = plan.make(applied, "")
    if not planned.runs:
        raise PlanError([f"{run.backbone} × {run.strategy}: {reason}" for run, reason in planned.skipped])
    sizes = [images or (int(run.train.get("batch_size", 1)) if device.type == "cuda" else 1) for run in planned.runs]
    parts = {size: painted(size * max(1, N_TRAIN // size)) for size in set(sizes)}  # every batch of an epoch is whole
    return [Subject(run, size, parts[size]) for run, size in zip(planned.runs, sizes, strict=True)]


def painted(n_train: int = N_TRAIN) -> Split:
    """Paint images: `n_train` to train on, and one to predict."""
    from registry import painter

    look = painter.tissue(np.random.default_rng(0))
    images = []
    for number in range(n_train + 1):
        pixels, label_map = painter.paint(np.random.default_rng([0, number]), look, size=IMAGE_SIDE, n_nuclei=NUCLEI)
        images.append(Image(f"painted_{number:02d}", "painted", f"painted_{number:02d}", pixels, label_map))
    return Split(images[:-1], images[-1:], [])
