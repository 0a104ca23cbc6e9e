"""Numbers of `bench perf` and the rule of what bounds them, by hand; bytes and FLOPs of single operations."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bench.errors import BenchError
from bench.perf import table, traffic
from bench.perf.peaks import Peaks, measure_peaks
from bench.perf.performance import Performance
from bench.perf.turns import in_turns, without_each

ONE = Performance(
    backbone="sam_nano",
    strategy="lora_qv",
    settings={"image_size": 64, "embeddings": "computed"},
    device="GPU",
    kind="cuda",
    fast_paths=("fused_optimizer",),
    step={"data": 0.1, "forward": 0.3, "backward": 0.5, "optimizer": 0.05, "wait": 0.05},
    images=8,
    predict_s=0.2,
    encode_s=0.1,
    post_processing_s=0.05,
    flops=400,
    bytes_moved=300,
    peak_flops_per_s=1000,
    copy_bytes_per_s=1000,
    dtype="bfloat16",
    peak_bytes=3 * 10**9,
    trainable=10,
    ratios={"all": 1.5, "fused_optimizer": 1.25},
    prediction_ratios={"all": 1.2},
    busy_because=(),
    measured="2026-01-01T00:00:00+00:00",
)


def with_parts(**parts: float) -> Performance:
    return replace(ONE, step={"data": 0.0, "forward": 0.5, "backward": 0.5, "optimizer": 0.0, "wait": 0.0, **parts})


def test_shares_of_the_peaks_by_hand():
    assert ONE.seconds == pytest.approx(1)
    assert ONE.images_per_s == pytest.approx(8)
    assert (ONE.utilisation, ONE.bandwidth_share) == (pytest.approx(0.4), pytest.approx(0.3))
    untrained = replace(ONE, step=None, images=1)
    assert (untrained.seconds, untrained.images_per_s) == (0.2, 5)


@pytest.mark.parametrize(
    ("one", "bound"),
    [
        (ONE, "compute"),
        (replace(ONE, bytes_moved=500), "memory bandwidth"),
        (replace(ONE, flops=100, bytes_moved=200), "small operations"),
        (with_parts(data=0.5), "data loading"),
        (with_parts(wait=0.5), "host waits"),
        (with_parts(optimizer=0.5), "optimiser"),
        (with_parts(data=0.3), "compute"),  # 0.3 of 1.3 s is below a quarter
        (replace(ONE, step=None), "compute"),
    ],
)
def test_what_bounds_the_speed(one, bound):
    assert one.bound == bound
    assert one.sentence.startswith(f"bound by {bound}: ")


def test_sentence_gives_the_numbers_that_it_follows_from():
    assert ONE.sentence == (
        "bound by compute: data 10 %, forward 30 %, backward 50 %, optimizer 5 %, wait 5 %; the FLOPs at the measured "
        "peak take 40 % of the time, the bytes moved at the measured bandwidth 30 %."
    )


def test_files_hold_the_table_or_all_numbers(tmp_path):
    for ending in table.ENDINGS:
        table.write(tmp_path / f"perf{ending}", [ONE, replace(ONE, step=None, peak_bytes=None, busy_because=("busy",))])
    (first, second) = json.loads((tmp_path / "perf.json").read_text())
    assert first["step"] == ONE.step and first["bound"] == "compute" and second["step"] is None
    lines = (tmp_path / "perf.csv").read_text().splitlines()
    assert lines[1] == "sam_nano,lora_qv,1000,10 %,30 %,50 %,5 %,5 %,8,200,40 %,30 %,3.0 GB,1.50,compute"
    assert lines[2].startswith("sam_nano,lora_qv,–,–,–,–,–,–,40‡,200‡,200 %,150 %,?,1.50,compute")
    assert (tmp_path / "perf.md").read_text().splitlines()[2].startswith("| sam_nano | lora_qv | 1000 | 10 % |")
    with pytest.raises(BenchError, match=r"allowed endings are \.json, \.csv, \.md"):
        table.check_ending(tmp_path / "perf.txt")


def test_each_faster_form_is_named_with_its_ratio():
    (line,) = table.ratio_lines([ONE])
    assert line == (
        "sam_nano × lora_qv: a step without all 1.50 ×, fused_optimizer 1.25 ×; a prediction without all 1.20 ×"
    )


def test_traffic_of_an_operation_is_its_inputs_and_outputs():
    left, right = torch.zeros(4, 8), torch.zeros(8, 2)
    with traffic.counted() as moved:
        product = left @ right
        product.t().unsqueeze(0)  # views move nothing
    assert moved.n_bytes == 4 * (4 * 8 + 8 * 2 + 4 * 2)


def test_traffic_of_a_backward_pass_counts():
    weight = torch.ones(4, 4, requires_grad=True)
    with traffic.counted() as forward:
        loss = (weight @ torch.ones(4, 4)).sum()
    with traffic.counted() as backward:
        loss.backward()
    assert forward.n_bytes >= 3 * 64
    assert backward.n_bytes >= 3 * 64  # the product of the gradient and the input


def test_peaks_are_those_of_a_product_and_a_copy(monkeypatch):
    monkeypatch.setattr("bench.perf.peaks.SIDES", {"cpu": 100})
    monkeypatch.setattr("bench.perf.peaks.COPIED_BYTES", {"cpu": 1000})
    monkeypatch.setattr("bench.perf.peaks._best_seconds", lambda call, device: 0.5)
    assert measure_peaks(torch.device("cpu"), torch.float32) == Peaks(2 * 100**3 / 0.5, 4000.0, "float32")


def test_each_form_is_compared_without_one_of_its_paths_and_without_all():
    used = frozenset({"a", "b", "c"})
    assert without_each(used, ("a", "z")) == {"a": frozenset({"b", "c"}), "all": frozenset()}
    assert without_each(frozenset(), ("a",)) == {}


def test_forms_are_called_in_turns_and_the_best_of_each_counts():
    calls = []

    def timed(name, *values):
        remaining = iter(values)

        def call():
            calls.append(name)
            return next(remaining)

        return call

    best = in_turns({"x": timed("x", 3.0, 1.0), "y": timed("y", 2.0, 4.0)}, float, rounds=2, limit_s=0)
    assert best == {"x": 1.0, "y": 2.0}
    assert calls == ["x", "y", "x", "y"]
