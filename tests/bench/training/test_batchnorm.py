"""Running statistics that are frozen, settled from images, or trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.training.batchnorm import DECAY, SETTLING_IMAGES, RunningStatistics
from registry.modules import batchnorm


class Small(nn.Module):
    """A model with the interface that `RunningStatistics` needs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
        self.register_buffer("pixel_mean", torch.zeros(3))

    def encode(self, images: Tensor) -> Tensor:
        out: Tensor = self.image_encoder(images)
        return out


def statistics(choice: str) -> tuple[Small, Any]:
    sam: Any = Small()
    return sam, RunningStatistics(sam, choice)  # type: ignore[arg-type]


def images(seed: int, count: int = 4) -> Tensor:
    return torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) + seed


def values(sam: Small) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in batchnorm.statistics(sam).items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_frozen_statistics_are_left_alone_and_are_the_backbones_own():
    sam, running = statistics("frozen")
    before = values(sam)
    running.settle(images(seed) for seed in range(9))
    running.enter_training()
    sam.encode(images(1))
    running.after_step()
    assert equal(values(sam), before)
    assert (running.buffers, running.is_trained, batchnorm.has_own(sam)) == ({}, False, False)


def test_settled_statistics_are_the_average_over_the_first_batches_layer_by_layer():
    sam, running = statistics("settled")
    count = SETTLING_IMAGES // 4
    batches = [images(seed) for seed in range(count + 3)]
    running.settle(iter(batches))
    first = [sam.image_encoder[0](batch) for batch in batches[:count]]
    mean = torch.stack([x.mean((0, 2, 3)) for x in first]).mean(0)
    variance = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in first]).mean(0)
    torch.testing.assert_close(sam.image_encoder[1].running_mean, mean)
    torch.testing.assert_close(sam.image_encoder[1].running_var, variance)
    normalised = [nn.functional.batch_norm(x, None, None, training=True, eps=1e-5).relu() for x in first]
    second = torch.stack([x.mean((0, 2, 3)) for x in normalised]).mean(0)
    torch.testing.assert_close(sam.image_encoder[3].running_mean, second)
    settled = values(sam)
    running.enter_training()
    assert not any(norm.training for norm in running.norms)
    sam.encode(images(1))
    running.after_step()
    assert equal(values(sam), settled)
    assert batchnorm.has_own(sam) and not batchnorm.has_trained(sam) and running.buffers.keys() == settled.keys()


def test_the_loss_of_an_image_with_settled_statistics_does_not_depend_on_its_batch():
    sam, running = statistics("settled")
    running.settle([images(0)])
    running.enter_training()
    batch = images(2)
    torch.testing.assert_close(sam.encode(batch)[:1], sam.encode(batch[:1]))


def once(sam: Small, batch: Tensor) -> None:
    sam.encode(batch).sum().backward()


def again_in_the_backward_pass(sam: Small, batch: Tensor) -> None:
    checkpoint(sam.encode, batch, use_reentrant=False).sum().backward()


def twice(sam: Small, batch: Tensor) -> None:
    sam.encode(batch)  # did not fit the memory
    once(sam, batch)


def trained_by(step: Callable[[Small, Tensor], None]) -> dict[str, Tensor]:
    sam, running = statistics("trained")
    for seed in range(3):
        running.enter_training()  # as after a validation
        step(sam, images(seed))
        running.after_step()
    return values(sam)


def test_trained_statistics_are_the_moving_average_over_steps():
    sam, running = statistics("trained")
    mean, variance = torch.zeros(4), torch.ones(4)
    running.enter_training()
    for seed in range(3):
        x = sam.image_encoder[0](images(seed))
        once(sam, images(seed))
        running.after_step()
        mean = DECAY * mean + (1 - DECAY) * x.mean((0, 2, 3))
        variance = DECAY * variance + (1 - DECAY) * x.transpose(0, 1).flatten(1).var(1)
        torch.testing.assert_close(sam.image_encoder[1].running_mean, mean)
        torch.testing.assert_close(sam.image_encoder[1].running_var, variance)
    assert running.is_trained and batchnorm.has_trained(sam)
    assert {int(norm.num_batches_tracked) for norm in running.norms} == {0}


@pytest.mark.parametrize("step", [again_in_the_backward_pass, twice])
def test_a_forward_pass_that_is_computed_again_changes_no_statistics(step):
    assert equal(trained_by(step), trained_by(once))


def test_a_model_without_batchnorm_has_no_statistics_whatever_the_choice():
    sam: Any = nn.Module()
    sam.image_encoder = nn.Linear(2, 2)
    running = RunningStatistics(sam, "trained")
    assert not running.is_trained and not batchnorm.has_own(sam)
