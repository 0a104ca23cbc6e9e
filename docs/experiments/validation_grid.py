"""Does validation at the resolution of the decoder's logits rank epochs as validation at the images' own does?

A training whose epochs are all scored twice, with `train.validate_on` "image" and "output". It prints for each training
the rank correlation of the two PQs over its epochs, the epochs that each would keep, and the regret: how much lower the
full-resolution PQ of the epoch kept by "output" is.

Command:   python docs/experiments/validation_grid.py FOLDER [--backbone sam_nano] [--strategy full] [--image-size 512]
           [--epochs 20] [--seeds 0,1,2] [--images 60] [--weights FOLDER] [--cached]
Data:      a folder in NuInsSeg's layout.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import kendalltau, spearmanr

from bench.grid import Grid, Settings, TrainSettings
from bench.planning import plan
from bench.results import record
from bench.training import data, embeddings, fit, validation
from bench.training.context import RunContext
from bench.training.split import split
from bench.worker import inputs
from registry import datasets

Epoch = dict[str, dict[str, float]]
"""Scores of an epoch by the grid that they were computed on, with ``seconds``."""
GRIDS: tuple[validation.ValidateOn, ...] = ("image", "output")


SCORES = validation.scores


def twice(epochs: list[Epoch], *arguments: Any, **options: Any) -> dict[str, float]:
    """Validate on both grids, keep both scores, and return those at the images' own resolution."""
    epoch: Epoch = {}
    for grid in GRIDS:
        start = time.process_time()
        epoch[grid] = SCORES(*arguments, **{**options, "validate_on": grid, "processes": 0})
        epoch[grid]["seconds"] = time.process_time() - start
    epochs.append(epoch)
    print(
        f"epoch {len(epochs)}: PQ {epoch['image']['pq']:.4f} / {epoch['output']['pq']:.4f}", file=sys.stderr, flush=True
    )
    return epoch["image"]


def train(options: argparse.Namespace, seed: int) -> list[Epoch]:
    """Train once; return the scores of every epoch."""
    dataset = datasets.get("nuinsseg")
    samples = dataset.samples(options.folder)
    images = data.load(dataset, samples[:: max(1, len(samples) // options.images)])
    weights = options.weights
    settings = Settings(
        weights="official" if weights else "random",
        image_size=options.image_size,
        seed=seed,
        embeddings="cached" if options.cached else "computed",
        train=TrainSettings(
            epochs=options.epochs,
            batch_size=4,
            warmup_steps=20,
            patience=0,
            lr=options.lr,
            augment=not options.cached,  # few epochs would not be worth the embeddings of all variants
        ),
    )
    grid = Grid("validation_grid", (options.backbone,), (options.strategy,), settings=settings, classical=False)
    run = plan.make(grid, datasets.fingerprint(samples)).runs[0]
    checkpoint = Path(inputs.checkpoint(run, weights)[0] or "") if weights else None
    epochs: list[Epoch] = []
    with tempfile.TemporaryDirectory() as folder, patch.object(validation, "scores", partial(twice, epochs)):
        context = RunContext(results=Path(folder), checkpoint=checkpoint)
        (record.folder(context.results, run.id)).mkdir(parents=True)
        sam = fit.build(run, context)
        cached = embeddings.of_run(run, sam, context)
        calls: dict[str, Callable[..., Any]] = {"progress": lambda *_: None, "should_stop": lambda: False}
        fit.fit(run, sam, split(run, images), context, cached=cached, **calls)
    return epochs


def best(epochs: Sequence[Epoch], grid: str) -> int:
    """Return the epoch that a training keeps, from 0: of equal scores the last."""
    keys = [tuple(epoch[grid][name] for name in ("pq", "aji", "dice")) for epoch in epochs]
    return max(range(len(keys)), key=lambda number: (keys[number], number))


def line(name: str, epochs: Sequence[Epoch]) -> str:
    """Return the row of one training."""
    image, output = (np.array([epoch[grid]["pq"] for epoch in epochs]) for grid in GRIDS)
    kept, chosen = best(epochs, "image"), best(epochs, "output")
    seconds = [sum(epoch[grid]["seconds"] for epoch in epochs) for grid in GRIDS]
    late = slice(len(epochs) // 2, None)  # early epochs differ so much that any score ranks them
    cells = (
        name,
        f"{spearmanr(image, output).statistic:.3f}",
        f"{kendalltau(image, output).statistic:.3f}",
        f"{kendalltau(image[late], output[late]).statistic:.3f}",
        f"{kept + 1} / {chosen + 1}",
        f"{image[kept]:.4f}",
        f"{image[kept] - image[chosen]:.4f}",
        f"{seconds[0] / seconds[1]:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Rank epochs on both validation grids.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="sam_nano")
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--weights", type=Path, help="folder of the official checkpoints; random weights without it")
    parser.add_argument("--cached", action="store_true", help="train on cached embeddings (strategy decoder_only)")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    print(
        "| seed | Spearman | Kendall | Kendall, second half | epoch kept (image / output) | PQ | regret | time ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for seed in options.seeds.split(","):
        print(line(seed, train(options, int(seed))), flush=True)


if __name__ == "__main__":
    main()
