"""An epoch of training the decoder on cached embeddings against the plain form: the first one, and later ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import ratios
import torch

from bench.grid import Grid, Run, Settings, TrainSettings
from bench.planning import plan
from bench.training import data, embeddings, fit, model
from bench.training.context import RunContext
from bench.training.embedded_batches import embedded_batches
from bench.training.optimizer import make_optimizer
from bench.training.step import LabelledBatch
from registry import datasets, heads
from registry.datasets import synthetic

EPOCHS, VARIANTS = 60, 16
"""Of the training whose duration is calculated from the epochs that were measured."""
BATCH = 3


@pytest.fixture
def images(tmp_path: Path) -> list[data.Image]:
    synthetic.write(tmp_path / "data", n_images=BATCH, image_size=512, organs=1, seed=0)
    dataset = datasets.get("synthetic")
    return list(data.load(dataset, dataset.samples(tmp_path / "data")).values())


def a_run() -> Run:
    settings = Settings(dataset="synthetic", weights="random", embeddings="cached", train=TrainSettings(epochs=1))
    grid = Grid("speed", backbones=("mobile_sam",), strategies=("decoder_only",), settings=settings, classical=False)
    return plan.make(grid, "0" * 16).runs[0]


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_epoch_of_decoder_only_at_1024_px(images: list[data.Image], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run, head = a_run(), heads.get("distance")
    context = RunContext(tmp_path)
    sam = fit.build(run, context)
    optimizer = make_optimizer(sam, lr=1e-4, weight_decay=0.1)
    cached = embeddings.of_run(run, sam, context)
    assert cached is not None
    common = {"first_step": 0, "epochs": 1, "batch_size": BATCH, "target_side": 512, "seed": 0, "augment": True}

    def train(batches: Iterable[LabelledBatch], encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        model.set_training_mode(sam)
        for batch in batches:
            optimizer.zero_grad()
            fit.training_loss(sam, head, batch.images, batch.targets, encode=encode)[0].backward()
            optimizer.step()

    def plain() -> None:
        settings = {"image_size": 1024, "scale": None, "stain_jitter": 0.1, "scale_jitter": 0.2}
        train(data.batches(images, head.targets, **common, **settings), sam.encode)

    def on_embeddings() -> None:
        train(embedded_batches(images, head.targets, cached, stain_variants=2, **common), lambda values: values)

    best = dict.fromkeys(("plain", "first", "later"), float("inf"))
    for _ in range(2):
        shutil.rmtree(tmp_path / "nuclei-bench", ignore_errors=True)
        for name, call in (("plain", plain), ("first", on_embeddings), ("later", on_embeddings)):
            best[name] = min(best[name], seconds(call))
    assert (cached.n_computed, cached.n_read) == (2 * BATCH, 2 * BATCH)

    title, threads = "epoch of decoder_only on cached embeddings, MobileSAM, 1024 px", torch.get_num_threads()
    per_image = {name: f"{1000 * value / BATCH:.0f} ms" for name, value in best.items()}
    detail = f"{per_image['later']} an image against {per_image['plain']} of the plain form, {threads} threads"
    ratios.report(f"{title}: later ones", best["plain"] / best["later"], 8.0, detail=detail)
    detail = f"{per_image['first']} an image against {per_image['plain']} of the plain form; cache empty"
    ratios.report(f"{title}: the first", best["first"] / best["plain"], 1.1, better="lower", detail=detail)
    filled = VARIANTS * (1 - (1 - 1 / VARIANTS) ** EPOCHS)  # expected epochs' worth of embeddings that are computed
    whole = filled * best["first"] + (EPOCHS - filled) * best["later"]
    detail = f"calculated from the two: {VARIANTS} variants of each image, none of them cached by another run before"
    ratios.report(f"{EPOCHS} epochs of it from an empty cache", EPOCHS * best["plain"] / whole, None, detail=detail)
