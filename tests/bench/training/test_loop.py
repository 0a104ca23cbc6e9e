"""The loop on a model small enough to reason about."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.errors import DivergedError, InterruptedRunError
from bench.training import checkpoint, loop

STEPS_PER_EPOCH, EPOCHS, BATCH = 3, 4, 4


@dataclass
class Batch:
    images: Tensor
    targets: Tensor


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def batches(first_step: int) -> Iterator[Batch]:
    for step in range(first_step, STEPS_PER_EPOCH * EPOCHS):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(BATCH, 5, generator=generator)
        yield Batch(images, images.sum(1, keepdim=True))


def mse(logits: Tensor, targets: Tensor) -> Tensor:
    return ((logits - targets) ** 2).mean()


def fit(net: nn.Module, path, **changes) -> loop.State:
    optimizer = changes.pop("optimizer", None) or loop.make_optimizer(net, lr=0.01, weight_decay=0.1)
    arguments = {
        "logits": net,
        "loss": mse,
        "batches": batches,
        "validate": lambda: {"pq": 0.0, "aji": 0.0, "dice": 0.0},
        "steps_per_epoch": STEPS_PER_EPOCH,
        "epochs": EPOCHS,
        "lr": 0.01,
        "warmup_steps": 2,
        "schedule": "cosine",
        "clip_norm": 1.0,
        "validate_every": 1,
        "patience": 0,
        "batch_size": BATCH,
        "state_path": path,
        "enter_training": net.train,
    }
    return loop.fit(net, optimizer, **(arguments | changes))


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def test_learning_rate_warms_up_linearly_and_decays_to_zero():
    rate = [loop.learning_rate(s, peak=1.0, total_steps=20, warmup_steps=3, schedule="cosine") for s in range(20)]
    assert rate[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rate[3:] == sorted(rate[3:], reverse=True)
    assert loop.learning_rate(20, peak=1.0, total_steps=20, warmup_steps=3, schedule="cosine") == pytest.approx(0)
    half = loop.learning_rate(10, peak=2.0, total_steps=20, warmup_steps=0, schedule="polynomial")
    assert half == pytest.approx(2 * 0.5**0.9)


def test_warm_up_takes_at_most_a_fifth_of_a_short_training():
    rates = [loop.learning_rate(s, peak=1.0, total_steps=10, warmup_steps=250, schedule="cosine") for s in range(10)]
    assert max(rates) == rates[2] == 1.0


def test_weight_decay_spares_biases_norms_and_embeddings():
    net = nn.ModuleDict(
        {"net": model(), "norm": nn.LayerNorm(4), "tokens": nn.Embedding(3, 4), "conv": nn.Conv2d(1, 1, 3)}
    )
    decayed, spared = loop.make_optimizer(net, lr=0.1, weight_decay=0.3).param_groups
    assert decayed["weight_decay"] == 0.3 and spared["weight_decay"] == 0.0
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"net.0.weight", "net.3.weight", "conv.weight"}
    assert {names[id(p)] for p in spared["params"]} == set(names.values()) - {
        "net.0.weight",
        "net.3.weight",
        "conv.weight",
    }


def test_training_lowers_the_loss(tmp_path):
    net, losses = model(), []
    fit(net, tmp_path / "state.pt", lr=0.1, progress=lambda told: losses.append(told["loss"]))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("stop_after", [1, 4, 6, 11])
def test_a_stopped_training_resumes_bit_equal(tmp_path, stop_after):
    undisturbed = model()
    fit(undisturbed, tmp_path / "whole.pt")
    steps = iter(range(1, 100))
    with pytest.raises(InterruptedRunError, match=f"after step {stop_after} of 12; the state is saved"):
        fit(model(), tmp_path / "state.pt", should_stop=lambda: next(steps) >= stop_after)
    resumed = model()
    state = fit(resumed, tmp_path / "state.pt")
    assert state.step == 12
    assert all(torch.equal(a, b) for a, b in zip(weights(undisturbed), weights(resumed), strict=True))


def test_a_killed_training_resumes_bit_equal_from_its_last_state(tmp_path):
    undisturbed = model()
    fit(undisturbed, tmp_path / "whole.pt")

    def killed(told):
        if told["step"] == 8:
            raise SystemError("power cut")

    with pytest.raises(SystemError):
        fit(model(), tmp_path / "state.pt", progress=killed)
    steps: list[int] = []
    resumed = model()
    fit(resumed, tmp_path / "state.pt", progress=lambda told: steps.append(told["step"]))
    assert steps[0] == 7  # the epoch's end at step 6 was saved
    assert all(torch.equal(a, b) for a, b in zip(weights(undisturbed), weights(resumed), strict=True))


def test_a_finished_state_trains_no_further_step(tmp_path):
    first = model()
    fit(first, tmp_path / "state.pt")
    steps: list[int] = []
    again = model()
    fit(again, tmp_path / "state.pt", progress=lambda told: steps.append(told["step"]))
    assert steps == []
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


def test_memory_of_gradients_is_given_back_and_the_peak_survives_a_resumption(tmp_path):
    net, peaks = model(), iter([300, 200, 100, 50, 40])
    steps = iter(range(1, 100))
    with pytest.raises(InterruptedRunError):
        fit(net, tmp_path / "state.pt", should_stop=lambda: next(steps) >= 3, peak_bytes=lambda: next(peaks))
    state = fit(net, tmp_path / "state.pt", peak_bytes=lambda: next(peaks))
    assert state.peak_bytes == 300
    assert all(p.grad is None for p in net.parameters())


def test_micro_batches_add_up_to_the_batch(tmp_path):
    def out_of_memory_above_two(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("pretended")
        return small(images)

    whole, small = model(), model()
    whole[2].p = small[2].p = 0.0  # dropout would differ with the micro-batch
    fit(whole, tmp_path / "whole.pt")
    state = fit(small, tmp_path / "small.pt", logits=out_of_memory_above_two)
    assert state.micro_batch == 2
    for a, b in zip(weights(whole), weights(small), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_out_of_memory_at_a_micro_batch_of_one_is_raised(tmp_path):
    def never_fits(images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("pretended")

    with pytest.raises(torch.OutOfMemoryError):
        fit(model(), tmp_path / "state.pt", logits=never_fits)


def test_a_loss_that_is_not_finite_ends_training(tmp_path):
    net = model()
    before = weights(net)
    with pytest.raises(DivergedError, match=r"the loss became nan at step 1; try a smaller train\.lr"):
        fit(net, tmp_path / "state.pt", loss=lambda logits, targets: mse(logits, targets) * math.nan)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True))


def test_the_best_checkpoint_is_left_in_the_model_and_patience_ends_training(tmp_path):
    net, seen = model(), []
    scores = iter([0.1, 0.5, 0.3, 0.2])

    def validate():
        seen.append(weights(net))
        return {"pq": next(scores), "aji": 0.0, "dice": 0.0}

    state = fit(net, tmp_path / "state.pt", validate=validate, patience=2)
    assert (state.best_step, state.step, state.stopped) == (6, 12, True)
    assert [h["pq"] for h in state.history] == [0.1, 0.5, 0.3, 0.2]
    assert all(torch.equal(a, b) for a, b in zip(seen[1], weights(net), strict=True))


def test_where_all_scores_are_equal_the_last_checkpoint_is_kept(tmp_path):
    assert fit(model(), tmp_path / "state.pt").best_step == 12


def test_a_state_of_other_parameters_is_refused(tmp_path):
    fit(model(), tmp_path / "state.pt")
    with pytest.raises(ValueError, match="belongs to other parameters; remove it"):
        fit(nn.Sequential(nn.Linear(5, 1)), tmp_path / "state.pt")


def test_a_damaged_state_is_kept_aside_and_training_starts_anew(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"torn")
    assert fit(model(), tmp_path / "state.pt").step == 12
    assert (tmp_path / "state.pt.damaged").read_bytes() == b"torn"


def test_a_state_that_does_not_fit_the_disk_is_told_as_such(tmp_path, monkeypatch):
    def full(content, file):
        raise RuntimeError("unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device"):
        fit(model(), tmp_path / "state.pt")
    assert list(tmp_path.iterdir()) == []
