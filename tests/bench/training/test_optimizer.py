"""Learning rate, and which parameters are decayed."""

from __future__ import annotations

import pytest
from torch import nn

from bench.training.optimizer import learning_rate, make_optimizer


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
