"""Which runs a name stands for, at which magnification, and with what post-processing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError
from bench.predict import predictor
from bench.predict.choice import choose
from bench.predict.predictor import Predictor, geometry, merged
from registry.loading import Recipe

RECIPE = Recipe(
    backbone="sam_nano",
    strategy="lora_qv",
    head="distance",
    options={"rank": 4},
    tokens=(1, 2, 3),
    image_size=1024,
    scale=None,
    weights="random",
    seed=0,
    checkpoint_digest=None,
    post_processing={"seed": 0.3, "foreground": 0.5},
    image_side=512,
)


def changed(recipe: Recipe = RECIPE, **values: Any) -> Recipe:
    return Recipe(**{**vars(recipe), **values})


@pytest.fixture
def copies(finished: Any, tmp_path: Path) -> Any:
    """Copies of one finished run, with other values in their records, in a results folder of their own."""
    source = finished.results / "runs" / finished.of("lora_qv")

    def copy(name: str, **values: Any) -> Path:
        folder = tmp_path / "results" / "runs" / name
        shutil.copytree(source, folder)
        path = folder / "record.json"
        record = json.loads(path.read_text())
        record["id"] = name
        for key, value in values.items():
            place = record["scores"] if key == "validation" else record if key == "status" else record["run"]
            place[key] = value
        path.write_text(json.dumps(record))
        return tmp_path / "results"

    return copy


def test_the_best_validation_pq_chooses_then_the_lower_fold_and_seed(copies: Any) -> None:
    for name, fold, seed, pq in (("a", 1, 0, 0.2), ("b", 2, 1, 0.4), ("c", 2, 0, 0.4), ("d", 3, 0, None)):
        results = copies(name, fold=fold, seed=seed, validation={"pq": pq})
    assert choose("sam_nano/lora_qv", results).origins == ("c",)
    assert choose("sam_nano/lora_qv", results, fold=3).origins == ("d",)
    assert choose("sam_nano/lora_qv/3", results).origins == ("d",)
    assert choose("sam_nano/lora_qv,seed=1", results).origins == ("b",)
    assert choose("sam_nano/lora_qv", results, ensemble=True).origins == ("a", "b", "c", "d")


def test_runs_that_are_not_done_are_no_choice(copies: Any) -> None:
    results = copies("a", status="failed", validation={"pq": 1.0})
    copies("b", validation={"pq": 0.1})
    assert choose("sam_nano/lora_qv", results).origins == ("b",)


def test_several_settings_must_be_narrowed(copies: Any) -> None:
    results = copies("a", options={"rank": 1})
    copies("b", options={"rank": 8})
    with pytest.raises(BenchError) as raised:
        choose("sam_nano/lora_qv", results)
    assert str(raised.value) == (
        "sam_nano/lora_qv has runs of several settings; choose one: sam_nano/lora_qv,strategy.rank=1 or "
        "sam_nano/lora_qv,strategy.rank=8."
    )
    assert choose("sam_nano/lora_qv,strategy.rank=8", results).origins == ("b",)


def test_a_damaged_record_does_not_hide_the_others(copies: Any) -> None:
    results = copies("a")
    (copies("b") / "runs" / "b" / "record.json").write_text("{")
    assert choose("sam_nano/lora_qv", results).origins == ("a",)
    shutil.rmtree(results / "runs" / "a")
    with pytest.raises(BenchError, match=r"no finished run of a model .* 1 records can't be read: .*record\.json"):
        choose("sam_nano/lora_qv", results)


def test_the_magnification_is_that_of_the_run() -> None:
    assert geometry(RECIPE) == predictor.Geometry(scale=2.0, field=512, core=1024, halo=128, same_size=False)
    assert geometry(changed(scale=0.5)).field == 2048
    assert geometry(RECIPE, scale=4.0, core=300).core == 300


def test_a_head_that_prompts_sees_windows_of_one_field() -> None:
    sides = geometry(changed(head="everything", scale=1.0))
    assert sides == predictor.Geometry(scale=2.0, field=512, core=256, halo=128, same_size=True)


def test_an_unknown_magnification_must_be_given() -> None:
    with pytest.raises(
        BenchError, match=r"give --scale, input pixels per image pixel; for images of 512 .* --scale 2\."
    ):
        geometry(changed(image_side=None))
    assert geometry(changed(image_side=None), scale=2.0).field == 512


def test_an_ensemble_takes_the_lower_median_of_each_parameter() -> None:
    recipes = [changed(post_processing={"seed": seed}) for seed in (0.6, 0.2, 0.4, 0.5)]
    assert merged(recipes).post_processing["seed"] == 0.4
    assert merged(recipes).post_processing["foreground"] == 0.5  # the head's default
    assert merged([RECIPE]) is RECIPE


def test_an_ensemble_is_of_one_setting_and_has_logits() -> None:
    with pytest.raises(BenchError, match="these models differ in image_size; an ensemble averages runs of one setting"):
        merged([RECIPE, changed(image_size=512)])
    with pytest.raises(BenchError, match="the head 'everything' prompts the model itself and has no logits"):
        merged([changed(head="everything")] * 2)


def test_windows_of_a_prompting_head_are_padded_to_a_field(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.training import predictions

    (recipe,) = choose("sam_nano/zero_shot", finished.results).recipes
    seen: list[np.ndarray] = []
    predict = predictions.raw_prediction

    def raw_prediction(sam: Any, head: Any, pixels: np.ndarray, **options: Any) -> Any:
        seen.append(pixels)
        return predict(sam, head, pixels, **options)

    monkeypatch.setattr(predictions, "raw_prediction", raw_prediction)
    pixels = np.full((40, 64, 3), 90, np.uint8)
    assert Predictor([recipe], geometry(recipe))(pixels).shape == (40, 64)
    assert [window.shape for window in seen] == [(64, 64, 3)]
    assert (seen[0] == 90).all()


@pytest.mark.parametrize("name", ["classical", "classical/classical", "classical/classical/1", "f00"])
def test_the_classical_pipeline_has_no_model(copies: Any, name: str) -> None:
    results = copies("f00dcafe", backbone="classical", strategy="classical")
    copies("a")
    with pytest.raises(BenchError, match=f"{name} is the classical pipeline: it has no trained model"):
        choose(name, results)
