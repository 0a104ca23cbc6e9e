"""Optimisers of planned runs: which parameter gets which rate, and settings of the loop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.grid import Grid, Run, Settings, TrainSettings
from bench.planning import plan
from bench.training import fit, setup
from bench.training.context import RunContext

STRATEGIES = ("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")
CONTEXT = RunContext(results=Path("unused"))


def run_of(strategy: str, **train: Any) -> Run:
    settings = Settings(weights="random", image_size=64, train=TrainSettings(**train))
    return plan.make(Grid("g", ("sam_nano",), (strategy,), settings, folds=(1,), classical=False), "0" * 16).runs[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_decoder_has_one_rate_in_every_strategy_and_the_encoders_reaches_just_what_is_trained_there(strategy):
    run = run_of(strategy)
    sam = fit.build(run, CONTEXT)
    groups = setup.optimizer(run, sam, CONTEXT).param_groups
    rates = {id(p): (group["lr"], group["lr"] * group["weight_decay"]) for group in groups for p in group["params"]}
    trained = {name: p for name, p in sam.named_parameters() if p.requires_grad}
    assert rates.keys() == {id(p) for p in trained.values()}
    in_encoder = {name for name in trained if name.startswith("image_encoder.")}
    assert bool(in_encoder) == (strategy != "decoder_only")
    encoder_rates = {rates[id(trained[name])][0] for name in in_encoder}
    assert encoder_rates == ({run.train["encoder_lr"]} if in_encoder else set())
    assert {rates[id(p)][0] for name, p in trained.items() if name not in in_encoder} == {5e-4}
    assert {round(share, 12) for _, share in rates.values()} == {0.0, 5e-5}  # at the peak, in every group alike


def test_a_run_of_version_0_1_has_one_rate_and_adamws_decay():
    run = run_of("full")
    old = {**run.as_dict(), "train": {"lr": 2e-4, "weight_decay": 0.1}}
    read = Run(**old)
    assert (read.train["encoder_lr"], read.train["batchnorm"]) == (None, "frozen")
    sam = fit.build(run, CONTEXT)
    decayed, others = setup.optimizer(read, sam, CONTEXT).param_groups
    assert (decayed["lr"], decayed["weight_decay"]) == (2e-4, pytest.approx(0.1))
    assert (others["lr"], others["weight_decay"]) == (2e-4, 0.0)


@pytest.mark.parametrize(("whole", "micro_batch"), [(False, 2), (True, 8)])
def test_batches_that_must_stay_whole_are_not_halved_by_earlier_attempts(monkeypatch, whole, micro_batch):
    monkeypatch.setattr(setup.data, "steps_per_epoch", lambda *_, **__: 5)
    parts: Any = SimpleNamespace(train=())
    context = RunContext(results=Path("unused"), micro_batch_halvings=2)
    settings = setup.loop_settings(run_of("full"), parts, context, whole_batches=whole)
    assert (settings.micro_batch, settings.whole_batches, settings.encoder_lr) == (micro_batch, whole, 2e-4)
    assert settings.patience == 0
