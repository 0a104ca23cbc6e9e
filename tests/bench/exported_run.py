"""Runs of sam_nano whose trained part is on disk and whose record is made up: an export trains nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fabricated
import torch
from planned_run import RUN

from bench.grid import Run
from bench.results import record
from registry import trained
from registry.prepared import prepare


@dataclass(frozen=True)
class Trained:
    """A results folder with one run.

    Attributes:
        results: the results folder.
        run: the run.
        outputs: logits of its model for `images()`.
    """

    results: Path
    run: Run
    outputs: torch.Tensor

    @property
    def folder(self) -> Path:
        return record.folder(self.results, self.run.id)

    def change(self, **blocks: Any) -> None:
        """Replace blocks of the record."""
        values = record.read(self.results, self.run.id)
        assert values is not None
        record.write(self.results, replace(values, **blocks))


def images(size: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3))


def outputs_of(sam: Any) -> torch.Tensor:
    with torch.no_grad():
        return sam.decode(sam.encode(images(sam.image_size)))[0]


def provenance(**changes: Any) -> dict[str, Any]:
    """Return the origin of a run on images in a folder of the user's."""
    return {
        "versions": {"nuclei-bench": "0.2.0", "torch": "2.9.0", "peft": "0.18.0"},
        "commit": "c0ffee",
        "dirty": False,
        "dataset": {"root": "/home/somebody/my_images", "n_images": 24, "n_organs": 4, "official": False},
        "folds_digest": "ab" * 32,
        "checkpoint": None,
        "checkpoint_digest": None,
        **changes,
    }


def make(results: Path, run: Run = RUN, *, checkpoint: Path | None = None, **blocks: Any) -> Trained:
    """Write a run as a training leaves it: record and trained part.

    Args:
        results: the results folder.
        run: the run.
        checkpoint: the official file; None for random weights.
        **blocks: of the record.
    """
    sam = prepare(
        backbone=run.backbone,
        strategy=run.strategy,
        options=run.options,
        image_size=run.image_size,
        checkpoint=checkpoint,
        tokens=(1, 2, 3),
        seed=run.seed,
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sam.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    trained.save(sam.eval(), run.strategy, record.folder(results, run.id) / "trained")
    parameters = {"foreground": 0.4, "seed": 0.35}
    values = fabricated.record(
        run.as_dict(), 0.81, 0.62, 0.533, cost={"parameters_trainable": 1_000, "parameters_total": 5_000}
    )
    scores = {**(values.scores or {}), "post_processing": parameters} if values.scores else None
    changed = {"id": run.id, "scores": scores, "provenance": provenance(), **blocks}
    record.write(results, replace(values, **changed))  # type: ignore[arg-type]
    return Trained(results, run, outputs_of(sam))
