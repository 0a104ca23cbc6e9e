"""Values with which nothing is exported: outputs too far from the run's, parameters that are no numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exported_run import Trained

from bench.errors import BenchError
from bench.export import folder
from registry import loading
from registry.errors import WeightsError

MAKE = Callable[..., Trained]


def shift_later_outputs(monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    """Let all models but the run's own give outputs that differ by `amount` of the largest."""
    outputs_of, calls = folder._outputs, []

    def shifted(sam: torch.nn.Module) -> torch.Tensor:
        calls.append(sam)
        outputs = outputs_of(sam)
        return outputs if len(calls) == 1 else outputs + amount * outputs.abs().max()

    monkeypatch.setattr(folder, "_outputs", shifted)


def test_an_adapter_that_is_off_by_a_hundred_thousandth_is_refused(
    lora_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift_later_outputs(monkeypatch, 1e-5)
    with pytest.raises(BenchError, match=r"loaded by registry\.load, the model's outputs differ from the run's by 1"):
        folder.export(lora_run.run.id, tmp_path / "model", results=lora_run.results)
    assert list(tmp_path.iterdir()) == []


def test_merged_weights_may_be_rounded(lora_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "TOLERANCE", 1.0)
    shift_later_outputs(monkeypatch, 1e-5)
    written = folder.export(lora_run.run.id, tmp_path / "model", results=lora_run.results, merged=True)
    assert 1e-6 < written.differences[folder.MERGED] < 1e-4
    monkeypatch.undo()
    monkeypatch.setattr(folder, "TOLERANCE", 1.0)
    shift_later_outputs(monkeypatch, 1e-3)
    with pytest.raises(BenchError, match="loaded by the merged checkpoint"):
        folder.export(lora_run.run.id, tmp_path / "other", results=lora_run.results, merged=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.4", True])
def test_parameters_that_are_no_finite_numbers_are_refused_by_name(
    value: object, own_run: MAKE, tmp_path: Path
) -> None:
    """They would stand in the card's code as ``nan``, which is no Python, or end it with a traceback."""
    made = own_run()
    path = made.folder / "record.json"
    values = json.loads(path.read_text())
    values["scores"]["post_processing"]["seed"] = value
    path.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"record\.json: post_processing must hold finite numbers; seed is none"):
        loading.read(made.folder)
