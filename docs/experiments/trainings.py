"""Trainings for the experiments of this folder: their options on the command line, and one training of a fold."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench.grid import Grid, Run, Settings, TrainSettings
from bench.planning import plan
from bench.results import record
from bench.settings import FoldSettings
from bench.training import data, embeddings, fit, validation
from bench.training.context import RunContext
from bench.training.deployed import predictor
from bench.training.split import Split, split
from bench.worker import inputs
from registry import datasets, heads

Predict = Callable[[Any], Any]
"""Pixels to a raw prediction of the model as it is."""
SCORES = validation.scores
Validate = Callable[..., dict[str, float]]
"""In place of `bench.training.validation.scores`: the same arguments, after `Trained`."""


@dataclass(frozen=True)
class Trained:
    """A run with its images, and its model.

    Attributes:
        run: as planned.
        parts: images of its fold; experiments leave those of the test alone.
        predict: see `Predict`.
    """

    run: Run
    parts: Split
    predict: Predict


def parser(text: str) -> argparse.ArgumentParser:
    """Return a parser with the options of a training."""
    arguments = argparse.ArgumentParser(description=text)
    arguments.add_argument("folder", type=Path, help="images in NuInsSeg's layout")
    arguments.add_argument("--backbone", default="sam_nano")
    arguments.add_argument("--strategy", default="full")
    arguments.add_argument("--head", default="distance")
    arguments.add_argument("--weights", type=Path, help="folder of the official checkpoints; random weights without it")
    arguments.add_argument("--cached", action="store_true", help="train on cached embeddings (strategy decoder_only)")
    arguments.add_argument("--image-size", type=int, default=256)
    arguments.add_argument("--scale", type=float)
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--batch-size", type=int, default=4)
    arguments.add_argument("--images", type=int, default=60)
    arguments.add_argument("--fold", type=int, default=1)
    arguments.add_argument("--lr", type=float)
    arguments.add_argument("--seeds", default="0,1,2")
    return arguments


@contextmanager
def trained(
    options: argparse.Namespace,
    seed: int,
    *,
    validation_fraction: float,
    validate: Validate | None = None,
    train: Mapping[str, Any] | None = None,
    progress: Callable[..., None] = lambda *_: None,
) -> Iterator[Trained]:
    """Train the model of one fold once, and give it with the best checkpoint in it.

    Args:
        options: of `parser`.
        seed: of the run.
        validation_fraction: share of the training folds' images that is not trained on.
        validate: scores of each epoch; None takes those of every training.
        train: further settings of training.
        progress: called with the phase and its numbers.
    """
    dataset = datasets.get("nuinsseg")
    samples = dataset.samples(options.folder)
    images = data.load(dataset, samples[:: max(1, len(samples) // options.images)])
    settings = Settings(
        head=options.head,
        weights="official" if options.weights else "random",
        image_size=options.image_size,
        scale=options.scale,
        seed=seed,
        embeddings="cached" if options.cached else "computed",
        folds=FoldSettings(validation_fraction=validation_fraction),
        train=TrainSettings(
            epochs=options.epochs,
            batch_size=options.batch_size,
            warmup_steps=20,
            patience=0,
            **({} if options.lr is None else {"lr": options.lr}),
            augment=not options.cached,  # few epochs would not be worth the embeddings of all variants
            **(train or {}),
        ),
    )
    grid = Grid("experiment", (options.backbone,), (options.strategy,), settings=settings, classical=False)
    runs: Mapping[int, Run] = {run.fold: run for run in plan.make(grid, datasets.fingerprint(samples)).runs}
    run = runs[options.fold]
    checkpoint = Path(inputs.checkpoint(run, options.weights)[0] or "") if options.weights else None
    with TemporaryDirectory() as folder:
        context = RunContext(results=Path(folder), checkpoint=checkpoint)
        record.folder(context.results, run.id).mkdir(parents=True)
        sam, parts = fit.build(run, context), split(run, images)
        cached = embeddings.of_run(run, sam, context)

        def model() -> Trained:
            pixels = cached.of_pixels if cached else None
            head = heads.get(run.head)
            return Trained(run, parts, predictor(sam, head, context.fast_paths, scale=run.scale, embeddings=pixels))

        calls: dict[str, Callable[..., Any]] = {"progress": progress, "should_stop": lambda: False}
        scores = SCORES if validate is None else (lambda *a, **k: validate(model(), *a, **k))
        with patch.object(validation, "scores", scores):
            fit.fit(run, sam, parts, context, cached=cached, **calls)
        yield model()
