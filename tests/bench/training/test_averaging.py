"""Moving average of trained parameters: its values by hand, and in a training that is interrupted or divided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import InterruptedRunError
from bench.training import loop
from bench.training.averaging import Average, decay_at
from bench.training.optimizer import make_optimizer

SETTINGS = loop.LoopSettings(
    epochs=3,
    steps_per_epoch=4,
    batch_size=4,
    micro_batch=4,
    lr=0.05,
    warmup_steps=0,
    schedule="cosine",
    clip_norm=1.0,
    validate_every=1,
    patience=0,
    ema=0.6,
)


class Batch:
    def __init__(self, step: int) -> None:
        self.images = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        self.targets = self.images.sum(1, keepdim=True)


def batches(first_step: int) -> Iterator[Batch]:
    return (Batch(step) for step in range(first_step, SETTINGS.steps))


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def flat(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def fit(net: nn.Module, path: Path, settings: loop.LoopSettings = SETTINGS, **changes: Any) -> loop.State:
    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return ((net(images) - targets) ** 2).mean(), {}

    arguments = {
        "loss": loss,
        "batches": batches,
        "validate": lambda: {"pq": 0.0, "aji": 0.0, "dice": 0.0},
        "state_path": path,
        "enter_training": net.train,
    }
    optimizer = make_optimizer(net, lr=0.05, weight_decay=1e-4)
    return loop.fit(net, optimizer, settings, **(arguments | changes))


def test_decay_rises_from_a_tenth_to_its_value():
    assert [decay_at(step, 0.999) for step in (0, 1, 8, 90)] == [0.1, 2 / 11, 0.5, 0.91]
    assert decay_at(8990, 0.999) == decay_at(10**6, 0.999) == 0.999
    assert decay_at(8, 0.3) == 0.3


def test_average_of_values_by_hand_and_the_last_value_of_a_counter():
    tensors = {"w": nn.Parameter(torch.tensor([1.0, -2.0])), "n": torch.tensor(0)}
    average = Average(0.5, tensors)
    with torch.no_grad():
        tensors["w"].copy_(torch.tensor([3.0, 4.0]))
        tensors["n"].add_(1)
    average.update(0)  # 0.1 of the average, 0.9 of the value
    torch.testing.assert_close(average.values["w"], torch.tensor([2.8, 3.4]))
    average.update(20)  # 21 / 30 would exceed the decay
    torch.testing.assert_close(average.values["w"], torch.tensor([2.9, 3.7]))
    assert average.values["n"] == 1


def test_averages_take_the_place_of_the_tensors_and_leave_it_even_after_an_error():
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = Average(0.9, {"w": parameter})
    average.values["w"].fill_(5.0)
    with pytest.raises(ValueError, match="in the block"), average.applied():
        assert parameter.item() == 5.0
        raise ValueError("in the block")
    assert (parameter.item(), average.values["w"].item()) == (1.0, 5.0)


def test_without_a_decay_nothing_is_kept():
    average = Average(0.0, {"w": nn.Parameter(torch.ones(1))})
    average.update(0)
    assert average.values == {} and average.state().keys() == {"w"}


def test_the_average_is_validated_and_kept_while_training_goes_on_with_the_parameters(tmp_path):
    plain, net = new_model(), new_model()
    raw: list[Tensor] = []
    fit(plain, tmp_path / "plain.pt", replace(SETTINGS, ema=0.0), after_step=lambda: raw.append(flat(plain)))
    seen: list[Tensor] = []
    trained: list[Tensor] = []

    def validate() -> dict[str, float]:
        seen.append(flat(net))
        return {"pq": 0.5 if len(seen) == 2 else 0.1, "aji": 0.0, "dice": 0.0}

    state = fit(net, tmp_path / "state.pt", validate=validate, after_step=lambda: trained.append(flat(net)))
    assert all(torch.equal(a, b) for a, b in zip(trained, raw, strict=True))  # the average changes no step
    expected, averages = flat(new_model()), []
    for step, values in enumerate(raw):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * values
        averages.append(expected)
    for number, values in enumerate(seen):
        torch.testing.assert_close(values, averages[4 * number + 3])
    assert state.best_step == 8
    assert torch.equal(flat(net), seen[1]) and not torch.allclose(flat(net), raw[7], atol=1e-4)


@pytest.mark.parametrize("step", [2, 4, 11])
def test_interrupted_training_ends_with_the_same_average_bit_for_bit(tmp_path, step):
    whole, resumed = new_model(), new_model()
    fit(whole, tmp_path / "whole.pt")
    steps = iter(range(1, 100))
    with pytest.raises(InterruptedRunError):
        fit(new_model(), tmp_path / "state.pt", should_stop=lambda: next(steps) >= step)
    fit(resumed, tmp_path / "state.pt")
    assert torch.equal(flat(whole), flat(resumed))


def test_average_does_not_depend_on_the_micro_batch(tmp_path):
    whole, divided = new_model(), new_model()
    fit(whole, tmp_path / "whole.pt")
    fit(divided, tmp_path / "divided.pt", replace(SETTINGS, micro_batch=1))
    torch.testing.assert_close(flat(whole), flat(divided), rtol=1e-4, atol=1e-5)


def test_state_of_a_training_without_an_average_is_refused_by_one_with_it(tmp_path):
    fit(new_model(), tmp_path / "state.pt", replace(SETTINGS, ema=0.0))
    with pytest.raises(ValueError, match="belongs to other parameters"):
        fit(new_model(), tmp_path / "state.pt")
