"""Trainings of a backbone with BatchNorm: resumed, saved with their statistics and rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planned_run import RUN as PLANNED
from torch import Tensor

from bench.errors import InterruptedRunError
from bench.grid import TrainSettings
from bench.results.record import folder
from bench.training import data, fit
from bench.training.context import RunContext
from bench.training.split import split
from registry import datasets, frozen_prefix, trained
from registry.modules import batchnorm

TRAIN = dict(vars(TrainSettings(epochs=1, batch_size=1, warmup_steps=0, encoder_lr=2e-4)))
RUN = replace(PLANNED, backbone="mobile_sam", strategy="full", options={}, n_splits=2, validation_fraction=0.34)


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


def fitted(choice: str, images: Mapping[str, data.Image], at: Path, *, stops: bool = False) -> tuple[Any, Any]:
    """Train for two steps; return the model and the audit. `stops` stops once, after the first step."""
    run, context = replace(RUN, train={**TRAIN, "batchnorm": choice}), RunContext(at)
    folder(at, run.id).mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {"progress": lambda *_: None}
    if stops:
        with pytest.raises(InterruptedRunError, match="after step 1 of 2"):
            fit.fit(run, fit.build(run, context), split(run, images), context, should_stop=lambda: True, **arguments)
    sam = fit.build(run, context)
    audit, _ = fit.fit(run, sam, split(run, images), context, should_stop=lambda: False, **arguments)
    return sam.eval(), audit


def state(sam: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in sam.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.release
@pytest.mark.parametrize("choice", ["trained", "settled"])
def test_statistics_survive_an_interruption_and_saving(images, tmp_path, choice):
    sam, audit = fitted(choice, images, tmp_path / "whole")
    assert (audit["batchnorm"], audit["batchnorm_frozen"] == 0) == (choice, choice == "trained")
    fresh = fit.build(replace(RUN, train=TRAIN), RunContext(tmp_path))
    assert not same(batchnorm.statistics(sam), batchnorm.statistics(fresh))
    resumed, _ = fitted(choice, images, tmp_path / "stopped", stops=True)
    assert same(state(resumed), state(sam))
    trained.save(sam, "full", tmp_path / "trained")
    trained.load(fresh, tmp_path / "trained")
    assert same(state(fresh), state(sam))


def test_statistics_of_the_model_itself_are_saved_and_make_no_training_prefix(tmp_path):
    run = replace(RUN, strategy="decoder_only")
    sam, fresh = (fit.build(run, RunContext(tmp_path)) for _ in range(2))
    assert frozen_prefix.frozen_parts(sam)
    batchnorm.mark_own(sam, changing=True)
    assert not frozen_prefix.frozen_parts(sam)  # what steps change can't be folded
    for number, tensor in enumerate(batchnorm.statistics(sam).values()):
        tensor.add_(1 + number)
    trained.save(sam, "decoder_only", tmp_path / "trained")
    trained.load(fresh, tmp_path / "trained")
    assert same(state(fresh), state(sam))
    trained.save(fresh, "decoder_only", tmp_path / "again")  # the rebuilt model knows that its statistics are its own
    files = [(tmp_path / name / trained.OTHERS).read_bytes() for name in ("trained", "again")]
    assert files[0] == files[1]


@pytest.mark.release
def test_frozen_statistics_are_not_saved(images, tmp_path):
    sam, audit = fitted("frozen", images, tmp_path)
    assert "batchnorm" not in audit and audit["batchnorm_frozen"] > 0
    trained.save(sam, "full", tmp_path / "trained")
    from safetensors.torch import load_file

    assert not any("running" in name for name in load_file(tmp_path / "trained" / trained.OTHERS))
