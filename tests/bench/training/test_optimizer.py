"""Learning rate, and which parameters are decayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.training.optimizer import is_fused, learning_rate, load_state, make_optimizer


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
    decayed, others = make_optimizer(net, lr=0.1, weight_decay=0.3).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"linear.weight", "conv.weight"}
    assert {names[id(p)] for p in others["params"]} == set(names.values()) - {"linear.weight", "conv.weight"}


def test_frozen_parameters_are_left_out():
    net = nn.Linear(5, 8)
    net.bias.requires_grad_(False)
    (group,) = make_optimizer(net, lr=0.1, weight_decay=0.3).param_groups
    assert [p is net.weight for p in group["params"]] == [True]


def trained(*forms: bool, save_between: bool = True) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """Train a small net for 4 steps in each form, one after the other; return its parameters and the last optimiser."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 40), nn.LayerNorm(40), nn.Linear(40, 3))
    images, content = torch.randn(16, 5), None
    optimizer = make_optimizer(net, lr=0.05, weight_decay=0.1, fused=forms[0])
    for form in forms:
        if save_between:
            optimizer = make_optimizer(net, lr=0.05, weight_decay=0.1, fused=form)
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
