"""Number formats of training and predictions, and the probe that decides on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.training import bfloat16_probe, precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bfloat16_probe.speed_up.cache_clear()
    return tmp_path / "nuclei-bench" / "probes"


@pytest.mark.parametrize(("speed_up", "expected"), [(0.15, "float32"), (1.19, "float32"), (3.0, "bfloat16")])
def test_predictions_on_a_cpu_use_bfloat16_where_it_was_measured_to_pay(
    speed_up: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bfloat16_probe, "_measured", lambda: speed_up)
    assert precision.name(precision.of_predictions(CPU), CPU) == expected
    assert precision.name(precision.of_predictions(CPU, allowed=False), CPU) == "float32"
    assert precision.name(lambda: precision.autocast(CPU), CPU) == "float32"  # training, whatever the probe says


def test_the_probe_measures_once_and_keeps_the_answer(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = bfloat16_probe.speed_up()
    assert value > 0
    (file,) = own_cache.iterdir()
    assert json.loads(file.read_text())["speed_up"] == value
    bfloat16_probe.speed_up.cache_clear()
    monkeypatch.setattr(bfloat16_probe, "_measured", lambda: pytest.fail("measured again"))
    assert bfloat16_probe.speed_up() == value


def test_a_damaged_answer_is_measured_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16_probe, "_measured", lambda: 2.0)
    bfloat16_probe.speed_up()
    (file,) = own_cache.iterdir()
    file.write_text("{")
    bfloat16_probe.speed_up.cache_clear()
    assert bfloat16_probe.speed_up() == 2.0
    assert json.loads(file.read_text())["torch"] == torch.__version__
