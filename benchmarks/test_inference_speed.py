"""Inference form against the plain form and against upstream's own code; frozen prefix; bfloat16 on this CPU."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import ratios
import torch

from bench.training import bfloat16_probe
from registry import backbones, frozen_prefix, strategies

UPSTREAM = "mobilesam-mirror==1.0.0"
TOKENS = (1, 2, 3)


def report(name: str, fast: Any, plain: Any, target: float | None, plain_is: str, rounds: int = 3) -> None:
    best = ratios.best_seconds(fast, plain, rounds=rounds)
    detail = f"{1000 * best[1]:.0f} ms of {plain_is}, {1000 * best[0]:.0f} ms; {torch.get_num_threads()} threads"
    ratios.report(name, best[1] / best[0], target, detail=detail)


def adapted(name: str, size: int, strategy: str, **options: Any) -> Any:
    sam = backbones.build(name, size)
    strategies.apply(strategy, sam, tokens=TOKENS, **options)
    return sam


@torch.inference_mode()
def test_mobile_sam_encoder_against_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not a dependency: its modules register timm's models anew when they are imported.
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), UPSTREAM]
    subprocess.run(command, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam import sam_model_registry  # type: ignore[import-not-found]
    theirs = sam_model_registry["vit_t"]().image_encoder.eval()
    ours = backbones.build("mobile_sam", 1024).optimise()
    images = torch.rand(1, 3, 1024, 1024)
    report(
        "MobileSAM encoder, 1024 px, inference form against upstream",
        lambda: ours.encode(images),
        lambda: theirs(images),
        1.4,
        "upstream's code",
    )


@pytest.mark.parametrize(("name", "size"), [("mobile_sam", 512), ("efficient_sam_ti", 512), ("sam_vit_b", 512)])
@torch.inference_mode()
def test_inference_form_against_the_plain_form(name: str, size: int) -> None:
    sam = backbones.build(name, size)
    optimised, images = sam.optimise(), torch.rand(1, 3, size, size)
    report(
        f"{name} encoder, {size} px, inference form against plain form",
        lambda: optimised.encode(images),
        lambda: sam.encode(images),
        None,
        "the plain form",
    )


@torch.inference_mode()
def test_merged_against_unmerged() -> None:
    sam = adapted("mobile_sam", 512, "lora_all_linear")
    merged, unmerged, images = sam.optimise(), sam.optimise(merge=False), torch.rand(1, 3, 512, 512)
    report(
        "mobile_sam/lora_all_linear encoder, 512 px, merged against unmerged",
        lambda: merged.encode(images),
        lambda: unmerged.encode(images),
        None,
        "adapters beside their layers",
    )


def test_training_the_last_blocks_against_all_blocks() -> None:
    images = torch.rand(1, 3, 512, 512)

    def step(sam: Any, encode: Any) -> None:
        sam.zero_grad()
        sam.decode(encode(images))[0].square().mean().backward()

    every = adapted("mobile_sam", 512, "lora_qv")
    last = adapted("mobile_sam", 512, "lora_qv", last_blocks=2)
    encode = frozen_prefix.encoder(last)
    plain = "LoRA on all blocks, a step without optimiser"
    name = "mobile_sam/lora_qv training step, 512 px, last 2 blocks with frozen prefix"
    report(f"{name} against all blocks", lambda: step(last, encode), lambda: step(every, every.encode), None, plain)
    report(f"{name} against without", lambda: step(last, encode), lambda: step(last, last.encode), None, "no prefix")


def test_bfloat16_on_this_cpu() -> None:
    detail = f"used for predictions from {bfloat16_probe.PAYS_FROM} × on, never for training on a CPU"
    ratios.report("bfloat16 against float32 on this CPU, as probed", bfloat16_probe.speed_up(), None, detail=detail)
