from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from bench.training import measure

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


class Affine(torch.nn.Module):
    """Model of matrix products, whose cost is known."""

    image_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8, 8))

    def encode(self, images):
        return images @ self.weight  # (1, 3, 8, 8) @ (8, 8): 2 · 3 · 8 · 8 · 8 operations

    decoder_input = encode

    def decode(self, embeddings):
        return (embeddings @ self.weight) @ self.weight

    def forward(self, images):
        return self.decode(self.encode(images))


def test_flops_count_multiply_and_add():
    cost = measure.inference(Affine(), autocast=nullcontext)
    assert cost["flops_encoder"] == 3072
    assert cost["flops"] == 3 * 3072
    for key in ("encoder_latency_ms", "decoder_latency_ms"):
        assert 0 < cost[key]["q1"] <= cost[key]["median"] <= cost[key]["q3"] <= cost[key]["p95"]
        assert cost[key]["own"] > 0
    assert cost["throughput_images_per_s"] > 0


def test_decoder_of_a_prompting_head_is_everything_beyond_the_encoder():
    model = Affine()
    cost = measure.inference(
        model,
        autocast=nullcontext,
        whole=lambda: [model.decode(model.encode(torch.ones(1, 3, 8, 8))) for _ in range(5)],
    )
    assert cost["flops"] == 5 * 3 * 3072 and cost["flops_encoder"] == 3072


def test_slow_calls_are_repeated_three_times():
    calls = []
    latency = measure.latency_ms(lambda: calls.append(1), device=CPU, warmup=2, repeats=20, limit_s=0.0)
    assert latency["repeats"] == 3


def test_quartiles_are_those_of_the_repeats(monkeypatch):
    seconds = iter([9.0, 0.004, 0.001, 0.003, 0.002, 0.005])  # the first warms up, and is not repeated
    monkeypatch.setattr(measure, "_seconds", lambda call, device: next(seconds))
    latency = measure.latency_ms(lambda: None, repeats=5, warmup=2)
    assert [latency[key] for key in ("q1", "median", "q3", "p95", "repeats")] == pytest.approx([2, 3, 4, 4.8, 5])


def test_fast_calls_go_on_untimed_until_the_load_of_the_machine_is_known(monkeypatch):
    short, calls = iter([True, True, False]), []
    monkeypatch.setattr(measure.Interval, "is_too_short", lambda self: next(short))
    latency = measure.latency_ms(lambda: calls.append(1), warmup=0, repeats=5)
    assert (latency["repeats"], len(calls)) == (5, 7)


PEAK = """
import torch
from bench.training import measure

cpu = torch.device("cpu")
measure.reset_peak(cpu)
before = measure.peak_bytes(cpu)
block = torch.ones(64 * 2**20, dtype=torch.uint8)
del block
after = measure.peak_bytes(cpu)
print(None if before is None or after is None else after - before)
"""


def test_peak_memory_includes_memory_that_was_freed_again():
    # In a process of its own: one that has freed much memory before takes the block from that.
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, cwd=ROOT)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not report a process's peak memory")
    assert int(done.stdout) > 32 * 2**20
    assert measure.memory_kind(CPU) == "rss"


def test_costs_without_timings_keep_everything_else_and_add_nothing():
    cost = {"parameters_total": 7, "train_seconds": 3.0, "encoder_latency_ms": {"median": 1.0}, "flops": None}
    cost |= {"latency_busy": True}
    assert measure.without_timings(cost) == {
        "parameters_total": 7,
        "train_seconds": None,
        "encoder_latency_ms": None,
        "flops": None,
        "latency_busy": None,
    }


def test_gpu_seconds_of_a_training_of_unknown_duration_are_unknown():
    cost = {"memory_kind": "cuda", "prediction_seconds": 2.0}
    assert measure.gpu_seconds(cost) == 2.0
    assert measure.gpu_seconds({**cost, "train_seconds": 3.5}) == 5.5
    assert measure.gpu_seconds({**cost, "train_seconds": None}) is None
