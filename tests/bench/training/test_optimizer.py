"""Learning rate, and which parameters are decayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.training.optimizer import is_fused, learning_rate, load_state, make_optimizer, set_rates, share_of_decay


def test_learning_rate_warms_up_linearly_and_decays_to_zero():
    rates = [learning_rate(s, peak=1.0, total_steps=20, warmup_steps=3, schedule="cosine") for s in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert learning_rate(20, peak=1.0, total_steps=20, warmup_steps=3, schedule="cosine") == pytest.approx(0)
    half = learning_rate(10, peak=2.0, total_steps=20, warmup_steps=0, schedule="polynomial")
    assert half == pytest.approx(2 * 0.5**0.9)


def test_warm_up_takes_at_most_a_fifth_of_a_short_training():
    rates = [learning_rate(s, peak=1.0, total_steps=10, warmup_steps=250, schedule="cosine") for s in range(10)]
    assert max(rates) == rates[2] == 1.0


def test_biases_norms_and_embeddings_are_not_decayed():
    net = nn.ModuleDict(
        {"linear": nn.Linear(5, 8), "norm": nn.LayerNorm(4), "tokens": nn.Embedding(3, 4), "conv": nn.Conv2d(1, 1, 3)}
    )
    decayed, others = make_optimizer(net, lr=0.1, weight_decay=0.03).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (pytest.approx(0.3), 0.0)  # PyTorch multiplies by 0.1
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"linear.weight", "conv.weight"}
    assert {names[id(p)] for p in others["params"]} == set(names.values()) - {"linear.weight", "conv.weight"}


def test_frozen_parameters_are_left_out():
    net = nn.Linear(5, 8)
    net.bias.requires_grad_(False)
    (group,) = make_optimizer(net, lr=0.1, weight_decay=0.3).param_groups
    assert [p is net.weight for p in group["params"]] == [True]


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        self.mask_decoder = nn.Linear(3, 1)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_a_step_takes_the_same_share_of_every_weight_whatever_its_rate(rate):
    """Without a gradient, AdamW's moments are zero, and the decay is all that a step does."""
    net = Parts()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, lr=5e-4, encoder_lr=1e-2, weight_decay=5e-2)
    set_rates(optimizer, lambda peak: peak * rate)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        share = 5e-2 * rate if name in ("image_encoder.0.weight", "mask_decoder.weight") else 0.0
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - share), rtol=1e-6, atol=0)


def test_rates_reach_parameters_by_the_part_they_are_in():
    net = Parts()
    optimizer = make_optimizer(net, lr=5e-4, encoder_lr=1e-3, weight_decay=5e-5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert rates[id(parameter)] == (1e-3 if name.startswith("image_encoder.") else 5e-4)
    assert {group["lr"] for group in make_optimizer(net, lr=5e-4, weight_decay=0.0).param_groups} == {5e-4}


def test_decay_of_a_run_of_version_0_1_is_adamws_factor():
    assert share_of_decay({"lr": 5e-4, "weight_decay": 5e-5}) == 5e-5
    assert share_of_decay({"lr": 1e-3, "weight_decay": 0.1}) == pytest.approx(1e-4)
    assert share_of_decay({"lr": 1e-3, "weight_decay": 0.0}) == 0.0


def trained(*forms: bool, save_between: bool = True) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """Train a small net for 4 steps in each form, one after the other; return its parameters and the last optimiser."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 40), nn.LayerNorm(40), nn.Linear(40, 3))
    images, content = torch.randn(16, 5), None
    optimizer = make_optimizer(net, lr=0.05, weight_decay=0.005, fused=forms[0])
    for form in forms:
        if save_between:
            optimizer = make_optimizer(net, lr=0.05, weight_decay=0.005, fused=form)
        if content and save_between:
            load_state(optimizer, content)
        for _ in range(4):
            optimizer.zero_grad()
            net(images).square().mean().backward()
            optimizer.step()
        content = optimizer.state_dict()
    return [p.detach() for p in net.parameters()], optimizer


def assert_equal(first: list[Tensor], second: list[Tensor], *, tolerance: float = 0.0) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_fused_adamw_equals_the_plain_form_but_for_rounding():
    plain, fused = trained(False), trained(True)
    assert not is_fused(plain[1]) and is_fused(fused[1])
    assert_equal(plain[0], fused[0], tolerance=1e-5)


@pytest.mark.parametrize("form", [False, True])
def test_each_form_continues_its_own_state_bit_for_bit(form):
    assert_equal(trained(form, form)[0], trained(form, form, save_between=False)[0])


@pytest.mark.parametrize("form", [False, True])
def test_state_of_the_other_form_is_continued_in_the_form_that_is_asked_for(form):
    parameters, optimizer = trained(not form, form)
    assert is_fused(optimizer) is form
    assert_equal(parameters, trained(form, form)[0], tolerance=1e-5)


def test_adamw_is_plain_where_the_fused_form_does_not_exist(monkeypatch):
    class WithoutFused(torch.optim.AdamW):
        def __init__(self, params: Any, fused: bool = False, **others: Any) -> None:
            if fused:
                raise RuntimeError("`fused=True` requires all the params to be on supported devices")
            super().__init__(params, **others)

    monkeypatch.setattr(torch.optim, "AdamW", WithoutFused)
    assert not is_fused(make_optimizer(nn.Linear(2, 2), lr=0.1, weight_decay=0.1, fused=True))
