"""`registry.load`: the model of a finished run, rebuilt from its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import registry
from bench.results import record
from registry import loading
from registry.errors import RegistryError, WeightsError


def outputs_of(sam: Any) -> torch.Tensor:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return sam.decode(sam.encode(images))[0]


def changed(source: Path, target: Path, **changes: Any) -> Path:
    """Copy a run's folder, with changes in its record: run, provenance, status…"""
    shutil.copytree(source, target)
    path = target / "record.json"
    values = json.loads(path.read_text())
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(values))
    return target


@pytest.fixture
def lora(finished: Any) -> Path:
    return finished.results / "runs" / finished.of("lora_qv")


@pytest.mark.parametrize("strategy", ["zero_shot", "lora_qv"])
def test_the_loaded_model_computes_what_the_trained_one_did(finished: Any, strategy: str) -> None:
    run = finished.of(strategy)
    sam = registry.load(finished.results / "runs" / run)
    assert not sam.training
    assert torch.equal(outputs_of(sam), finished.outputs[run])
    if strategy != "zero_shot":
        untrained = loading.build(
            loading.Recipe(**{**vars(loading.read(finished.results / "runs" / run)), "trained": None})
        )
        assert not torch.equal(outputs_of(untrained), finished.outputs[run])


def test_the_folder_of_the_trained_part_stands_for_its_run(finished: Any, lora: Path) -> None:
    assert torch.equal(outputs_of(registry.load(str(lora / "trained"))), finished.outputs[lora.name])


def test_the_recipe_of_a_run_holds_what_its_record_does(finished: Any, lora: Path) -> None:
    recipe, run = loading.read(lora), record.read(finished.results, lora.name)
    assert run is not None and run.scores is not None
    assert (recipe.backbone, recipe.strategy, recipe.head) == ("sam_nano", "lora_qv", "distance")
    assert recipe.post_processing == run.scores["post_processing"]
    assert (recipe.image_size, recipe.scale, recipe.tokens, recipe.trained) == (64, None, (1, 2, 3), lora / "trained")


def test_an_exported_folder_is_loaded_without_the_record(finished: Any, lora: Path, tmp_path: Path) -> None:
    shutil.copytree(lora / "trained", tmp_path / "exported")
    values = loading.as_model_json(loading.read(lora), trained=".")
    (tmp_path / "exported" / "model.json").write_text(json.dumps(values))
    assert torch.equal(outputs_of(registry.load(tmp_path / "exported")), finished.outputs[lora.name])


def test_a_failed_run_has_no_model(lora: Path, tmp_path: Path) -> None:
    folder = changed(lora, tmp_path / "failed", status="failed", reason="out of memory: 80 GiB")
    with pytest.raises(
        WeightsError, match=r"the run of sam_nano/lora_qv has no model: its status is 'failed' \(out of"
    ):
        registry.load(folder)


def test_the_pipeline_without_a_network_has_no_model(lora: Path, tmp_path: Path) -> None:
    names = {"backbone": "classical", "strategy": "classical", "head": "classical"}
    folder = changed(lora, tmp_path / "classical", run=names)
    with pytest.raises(WeightsError, match="classical/classical has no model that is known here; a pipeline without"):
        registry.load(folder)


def test_a_backbone_that_is_not_registered_is_named(lora: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"unknown backbone 'sam_nan'\. Did you mean 'sam_nano'"):
        registry.load(changed(lora, tmp_path / "unknown", run={"backbone": "sam_nan"}))


def test_a_missing_checkpoint_is_said_with_the_command_that_gets_it(lora: Path, tmp_path: Path) -> None:
    run = {"backbone": "mobile_sam", "weights": "official"}
    folder = changed(lora, tmp_path / "official", run=run)
    with pytest.raises(WeightsError, match="checkpoint of mobile_sam: missing: run `bench weights fetch mobile_sam`"):
        registry.load(folder, weights=tmp_path)


def test_another_checkpoint_than_that_of_the_run_is_refused(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry import weights

    monkeypatch.setattr(weights, "verified", lambda card, folder: (tmp_path / "mobile_sam.pt", "b" * 64))
    run, provenance = {"backbone": "mobile_sam", "weights": "official"}, {"checkpoint_digest": "a" * 64}
    with pytest.raises(WeightsError, match="is not the checkpoint that mobile_sam was trained on: its sha256 is bbbb"):
        registry.load(changed(lora, tmp_path / "other", run=run, provenance=provenance))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds neither record\.json nor model\.json; give the folder of a run"):
        registry.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "can't be read"),
        ("[]", "it holds no object"),
        ('{"schema_version": 9}', "has schema 9, this version reads up to 1"),
        ('{"schema_version": 1, "seed": "0"}', "lacks backbone, strategy, head, options, tokens, image_size,"),
    ],
)
def test_a_damaged_model_file_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(WeightsError, match=problem):
        registry.load(tmp_path)


def test_a_missing_trained_part_is_refused(lora: Path, tmp_path: Path) -> None:
    folder = changed(lora, tmp_path / "run")
    (folder / "trained" / "trained.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"trained\.safetensors can't be read"):
        registry.load(folder)


def test_importing_the_registry_loads_nothing_heavy() -> None:
    script = "import registry, sys; registry.load; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
