"""Compiled blocks, with the compiler replaced; and the real one before a release."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.training import block_forms, compiled_blocks, fit, model
from registry import heads
from registry.sam import Sam

HEAD = heads.get("distance")
Forward = Callable[..., Any]


@pytest.fixture
def sam() -> Sam:
    made = model.prepare(
        backbone="sam_nano",
        strategy="lora_qv",
        options={"rank": 2},
        image_size=64,
        checkpoint=None,
        tokens=HEAD.channels,
        seed=0,
    )
    model.set_training_mode(made)
    return made


@pytest.fixture
def batch() -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(images=torch.rand(2, 3, 64, 64), targets=torch.rand(2, len(HEAD.channels), 32, 32))


def loss_of(sam: Sam) -> Any:
    return partial(fit.training_loss, sam, HEAD)


def compile_by(monkeypatch: pytest.MonkeyPatch, compile_: Callable[[Forward], Forward]) -> None:
    monkeypatch.setattr(compiled_blocks, "_compile", compile_)


def test_compiled_blocks_compute_the_loss_and_are_found_in_the_cache_of_the_user(sam, batch, monkeypatch, tmp_path):
    calls: list[int] = []

    def compile_(function: Forward) -> Forward:
        def compiled(tokens: Tensor) -> Tensor:
            calls.append(len(tokens))
            return function(tokens)

        return compiled

    compile_by(monkeypatch, compile_)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    forms = block_forms.block_forms(sam, loss_of(sam), batch, compiles=True)
    assert forms.is_compiled
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "nuclei-bench" / "compiled")
    calls.clear()
    compiled, plain = (loss(batch.images, batch.targets)[0] for loss in (forms.loss, loss_of(sam)))
    assert torch.equal(compiled, plain)
    assert calls == [2] * 4  # blocks
    calls.clear()
    assert forms.checkpointed is not None
    with forms.checkpointed():
        forms.loss(batch.images, batch.targets)[0].backward()
    assert calls == [2] * 8


def broken(function: Forward) -> Forward:
    def compiled(tokens: Tensor) -> Tensor:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    return compiled


def otherwise(function: Forward) -> Forward:
    return lambda tokens: function(tokens) * 1.1


@pytest.mark.parametrize(
    ("compile_", "reason"),
    [(broken, "No working C\\+\\+ compiler found"), (otherwise, "loss and gradient differ by .* of their size")],
)
def test_compiler_that_breaks_or_computes_otherwise_leaves_the_plain_form_with_one_warning(
    sam, batch, monkeypatch, caplog, compile_, reason
):
    compile_by(monkeypatch, compile_)
    with caplog.at_level(logging.WARNING):
        forms = block_forms.block_forms(sam, loss_of(sam), batch, compiles=True)
        value = forms.loss(batch.images, batch.targets)[0]
    assert not forms.is_compiled
    assert torch.equal(value, loss_of(sam)(batch.images, batch.targets)[0])
    (message,) = caplog.messages
    assert re.search(f"is not compiled, the plain form is used: .*{reason}", message)


def test_compiler_that_breaks_at_another_batch_leaves_the_plain_form_from_then_on(sam, batch, monkeypatch, caplog):
    def compile_(function: Forward) -> Forward:
        def compiled(tokens: Tensor) -> Tensor:
            if len(tokens) == 2:
                raise RuntimeError("shape")
            return function(tokens)

        return compiled

    compile_by(monkeypatch, compile_)
    forms = block_forms.block_forms(sam, loss_of(sam), batch, compiles=True)
    assert forms.is_compiled
    expected = loss_of(sam)(batch.images, batch.targets)[0]
    assert all(torch.equal(forms.loss(batch.images, batch.targets)[0], expected) for _ in range(2))
    assert len(caplog.messages) == 1


def test_model_with_a_frozen_encoder_keeps_no_activations_that_could_be_saved(batch):
    sam = model.prepare(
        backbone="sam_nano",
        strategy="decoder_only",
        options={},
        image_size=64,
        checkpoint=None,
        tokens=HEAD.channels,
        seed=0,
    )
    forms = block_forms.block_forms(sam, loss_of(sam), batch, compiles=True)
    assert forms.checkpointed is None and not forms.is_compiled


@pytest.mark.release
def test_blocks_compiled_by_torch_equal_the_plain_form(sam, batch):
    assert block_forms.block_forms(sam, loss_of(sam), batch, compiles=True).is_compiled
