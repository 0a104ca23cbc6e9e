"""Training step: its parts, fused AdamW, samples prepared beside it, compiled blocks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import ratios
import torch

from bench.training import data, fit, model
from bench.training.compiled_blocks import CompiledBlocks
from bench.training.optimizer import make_optimizer
from bench.training.step_times import step_times
from registry import datasets, heads
from registry.datasets import synthetic
from registry.sam import Sam

HEAD = heads.get("distance")
SIZE = 256
STEPS = 4


def prepare(backbone: str, strategy: str, size: int = SIZE) -> Sam:
    options = {"rank": 4} if strategy == "lora_qv" else {}
    sam = model.prepare(
        backbone=backbone,
        strategy=strategy,
        options=options,
        image_size=size,
        checkpoint=None,
        tokens=HEAD.channels,
        seed=0,
    )
    model.set_training_mode(sam)
    return sam


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[data.Image]:
    root = tmp_path_factory.mktemp("images")
    synthetic.write(root, n_images=8, image_size=512, organs=2, seed=1)
    dataset = datasets.get("synthetic")
    return list(data.load(dataset, dataset.samples(root)).values())


def batches(images: list[data.Image], sam: Sam, *, workers: int) -> Iterator[data.Batch]:
    return data.batches(
        images,
        HEAD.targets,
        first_step=0,
        epochs=50,
        batch_size=4,
        image_size=sam.image_size,
        target_side=sam.card.target_side(sam.image_size),
        scale=None,
        seed=0,
        augment=True,
        stain_jitter=0.1,
        scale_jitter=0.2,
        workers=workers,
    )


def test_parts_of_a_step_and_samples_prepared_beside_it(images):
    sam = prepare("sam_nano", "lora_qv")
    optimizer = make_optimizer(sam, lr=1e-4, weight_decay=0.1, fused=True)
    loss = partial(fit.training_loss, sam, HEAD)
    totals: dict[int, list[Any]] = {0: [], 1: []}
    for _ in range(2):
        for workers, times in totals.items():
            source = batches(images, sam, workers=workers)
            times += step_times(
                sam, batches=source, loss=loss, optimizer=optimizer, steps=STEPS, device=torch.device("cpu"), warm_up=2
            )
            del source  # ends its processes
    alone, beside = (min(times, key=lambda t: t.total) for times in totals.values())
    parts = ", ".join(
        f"{name} {1000 * getattr(alone, name):.0f}" for name in ("data", "forward", "backward", "optimizer", "wait")
    )
    ratios.report(
        "Step: samples prepared by a process",
        alone.total / beside.total,
        1.0,
        detail=f"{1000 * alone.total:.0f} ms / {1000 * beside.total:.0f} ms; without: {parts} ms; SAM nano, "
        f"{SIZE} px, batch 4",
    )
    ratios.report(
        "Step: share of waiting for data, with a process",
        100 * beside.data / beside.total,
        5.0,
        "%",
        "lower",
        f"without a process {100 * alone.data / alone.total:.0f} %",
    )


def test_fused_adamw():
    """Of MobileSAM's 10 million parameters, all of which are trained."""
    sam = prepare("mobile_sam", "full")
    trained = [p for p in sam.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 1e-3)
    plain, fused = (make_optimizer(sam, lr=1e-6, weight_decay=0.1, fused=form) for form in (False, True))
    seconds = ratios.best_seconds(plain.step, fused.step, rounds=7)
    ratios.report(
        "Update: fused AdamW",
        seconds[0] / seconds[1],
        1.5,
        detail=f"{1000 * seconds[0]:.1f} ms / {1000 * seconds[1]:.1f} ms, {sum(p.numel() for p in trained) / 1e6:.1f} "
        f"million parameters in {len(trained)} tensors",
    )


def test_compiled_blocks(tmp_path, monkeypatch):
    if not shutil.which("g++") and not shutil.which("clang++"):
        pytest.skip("no C++ compiler, which torch.compile needs on the CPU")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    sam = prepare("sam_nano", "full", 64)  # two kinds of blocks; with a frozen patch embedding there are three
    torch.manual_seed(0)
    batch = SimpleNamespace(images=torch.rand(1, 3, 64, 64), targets=torch.rand(1, len(HEAD.channels), 32, 32))
    plain = partial(fit.training_loss, sam, HEAD)
    compiled = CompiledBlocks(sam, plain)
    (compile_s,) = ratios.best_seconds(lambda: compiled.equals_plain(batch), rounds=1, warm_up=False)
    assert compiled.forwards, "the compiler broke; see the warning"

    def step(loss: Any) -> None:
        loss(batch.images, batch.targets)[0].backward()

    seconds = ratios.best_seconds(lambda: step(plain), lambda: step(compiled.loss), rounds=7)
    gain = seconds[0] - seconds[1]
    ratios.report(
        "Step: compiled blocks (off by default)",
        seconds[0] / seconds[1],
        None,
        detail=f"{1000 * seconds[0]:.0f} ms / {1000 * seconds[1]:.0f} ms; {compile_s:.0f} s to compile, "
        + (f"repaid after {compile_s / gain:,.0f} steps" if gain > 0 else "never repaid"),
    )
