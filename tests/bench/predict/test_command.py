"""`bench predict` as it is typed: models of finished runs on good and bad images."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from bench import cli
from bench.errors import BenchError
from bench.results import record
from registry import datasets


@pytest.fixture
def predict(finished: Any, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command on the finished runs; its exit code and what it printed."""

    def call(model: str, *images: Path, out: str = "out", **options: Any) -> tuple[int, str]:
        words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
        arguments = ["predict", model, *map(str, images), "--out", str(tmp_path / out), "--device=cpu", *words]
        result = CliRunner().invoke(cli.app, [*arguments, f"--results={finished.results}"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return call


@pytest.fixture
def images(finished: Any) -> dict[str, Path]:
    """Images of the dataset by stem."""
    return {sample.stem: sample.image_path for sample in datasets.get("synthetic").samples(finished.data)}


@pytest.fixture
def picture(tmp_path: Path, images: dict[str, Path]) -> Path:
    """One image, in a folder of its own."""
    path = tmp_path / "in" / "picture.png"
    path.parent.mkdir()
    path.write_bytes(next(iter(images.values())).read_bytes())
    return path


def labels(path: Path) -> np.ndarray:
    return tifffile.imread(path)


def same_instances(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()], axis=1), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


@pytest.mark.parametrize("strategy", ["lora_qv", "zero_shot"])
def test_a_run_s_own_images_are_predicted_as_the_run_did(
    strategy: str, finished: Any, predict: Any, images: dict[str, Path], tmp_path: Path
) -> None:
    run = finished.of(strategy)
    kept = [p for p in (finished.results / "runs" / run / "predictions").glob("*.png") if ".overlay" not in p.name]
    assert kept
    code, output = predict(run[:6], *(images[path.stem] for path in kept))
    assert code == 0, output
    for path in kept:
        assert same_instances(labels(tmp_path / "out" / f"{path.stem}.labels.tif"), np.array(Image.open(path)))
    summary = json.loads((tmp_path / "out" / f"{kept[0].stem}.json").read_text())
    scores = record.read(finished.results, run).scores
    assert (summary["models"], summary["scale"]) == ([run], 1.0)
    assert summary["post_processing"] == scores["post_processing"]


def test_of_a_row_the_best_on_validation_images_is_taken(finished: Any, predict: Any, picture: Path) -> None:
    runs = [record.read(finished.results, finished.of("lora_qv", fold)) for fold in (1, 2)]
    best = min(runs, key=lambda run: (-run.scores["validation"]["pq"], run.run["fold"]))
    code, output = predict("sam_nano/lora_qv", picture.parent)
    assert code == 0
    assert f"of 2 runs the one with the best PQ on its validation images: {best.id} (fold" in output
    code, output = predict("sam_nano/lora_qv", picture, out="second", fold=2)
    assert f"the only finished run of sam_nano/lora_qv on fold 2: {finished.of('lora_qv', 2)}" in output


def test_an_ensemble_averages_the_logits_of_the_folds(finished: Any, picture: Path) -> None:
    import torch

    from bench.predict.choice import choose
    from bench.predict.predictor import Predictor, geometry, merged
    from bench.training import predictions
    from bench.training.step import autocast
    from registry import heads, loading

    chosen = choose("sam_nano/lora_qv", finished.results, ensemble=True)
    assert len(chosen.recipes) == 2
    pixels = np.array(Image.open(picture).convert("RGB"))
    logits = [
        predictions.raw_prediction(
            loading.build(recipe),
            heads.get("distance"),
            pixels,
            scale=1.0,
            autocast=lambda: autocast(torch.device("cpu")),
        )
        for recipe in chosen.recipes
    ]
    recipe = merged(chosen.recipes)
    expected = heads.get("distance").instances((logits[0] + logits[1]) / 2, **recipe.post_processing)
    assert np.array_equal(Predictor(chosen.recipes, geometry(recipe))(pixels), expected)
    assert all(
        value in [each.post_processing[name] for each in chosen.recipes]
        for name, value in recipe.post_processing.items()
    )


def test_an_image_of_many_blocks_is_stitched_to_the_map_of_the_whole(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is replaced by one that sees no further than a pixel's own piece, so only seams could differ."""
    from scipy import ndimage

    from bench.predict.predictor import Predictor

    y, x = np.mgrid[:200, :190]
    discs = (y % 24 - 12) ** 2 + (x % 24 - 12) ** 2 < 64  # smaller than the halo of 16 pixels
    monkeypatch.setattr(Predictor, "__call__", lambda self, window: ndimage.label(window[..., 0] == 0)[0])
    (tmp_path / "in").mkdir()
    image = np.repeat(np.where(discs, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    tifffile.imwrite(tmp_path / "in" / "large.tif", image, photometric="rgb", tile=(64, 64), compression="zlib")
    for name, tile in (("whole", 400), ("blocks", 64)):
        assert predict("sam_nano/lora_qv", tmp_path / "in", out=name, tile=tile)[0] == 0
        assert labels(tmp_path / name / "large.labels.tif").max() == 72  # in nine rows and eight columns
    for suffix in (".labels.tif", ".geojson", ".csv", ".overlay.png"):
        whole, cut = ((tmp_path / name / f"large{suffix}").read_bytes() for name in ("whole", "blocks"))
        assert whole == cut


def test_windows_of_a_prompting_head_are_one_field_however_the_overlay_is_shrunk(
    predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.predict import files
    from bench.predict.predictor import Predictor

    shapes: set[tuple[int, ...]] = set()

    def empty(_: Predictor, pixels: np.ndarray) -> np.ndarray:
        shapes.add(pixels.shape)
        return np.zeros(pixels.shape[:2], np.int32)

    monkeypatch.setattr(files, "OVERLAY_SIDE", 60)
    monkeypatch.setattr(Predictor, "__call__", empty)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", np.full((140, 150, 3), 9, np.uint8), photometric="rgb")
    assert predict("sam_nano/zero_shot", tmp_path / "in")[0] == 0
    assert shapes == {(64, 64, 3)}
    assert (np.array(Image.open(tmp_path / "out" / "a.overlay.png")) == 9).all()


def test_one_bad_image_does_not_lose_the_others(predict: Any, picture: Path, tmp_path: Path) -> None:
    (picture.parent / "a_broken.png").write_bytes(picture.read_bytes()[:-40])
    (picture.parent / "z_page.tif").write_text("<html>404")
    tifffile.imwrite(picture.parent / "floats.tif", np.zeros((64, 64), np.float32))
    code, output = predict("sam_nano/lora_qv", picture.parent)
    assert code == 1
    assert "Wrote 1 of 4 images" in output
    lines = [line for line in output.splitlines() if line.startswith("not done: ")]
    assert [line.split(str(picture.parent))[1].split(" ")[0] for line in lines] == [
        "/a_broken.png",
        "/floats.tif",
        "/z_page.tif",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "picture.csv",
        "picture.geojson",
        "picture.json",
        "picture.labels.tif",
        "picture.overlay.png",
    ]


def test_images_of_other_modes_are_predicted_with_a_note(
    predict: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = Image.open(picture).convert("RGB")
    rgb.convert("RGBA").save(picture.parent / "rgba.png")
    rgb.convert("CMYK").save(picture.parent / "cmyk.tif")
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("bench.predict.command"), "warning", lambda form, text: said.append(text))
    assert predict("sam_nano/lora_qv", picture.parent)[0] == 0
    assert np.array_equal(labels(tmp_path / "out" / "rgba.labels.tif"), labels(tmp_path / "out" / "picture.labels.tif"))
    assert [text.removeprefix(f"{picture.parent}/") for text in said] == [
        "cmyk.tif has CMYK colours; they are converted to RGB without a profile.",
        "rgba.png has an alpha channel; it is dropped, the colours are read as stored.",
    ]


def test_every_problem_of_the_inputs_is_said_before_anything_is_computed(
    predict: Any, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other" / "picture.TIF"
    other.parent.mkdir()
    other.write_bytes(b"")
    with pytest.raises(BenchError) as raised:
        predict("nothing/at_all", picture, other, tmp_path / "empty", tmp_path / "none.png", out="in")
    text = str(raised.value)
    assert text.startswith("4 things are wrong:")
    assert "empty holds no image; its files must end in .png, .jpg" in text
    assert "none.png does not exist; give images, or folders of images." in text
    assert f"{picture}, {other} would be written to the same files; rename them" in text
    assert "/in is the folder of the images; name another one" in text


def test_files_of_an_earlier_prediction_are_kept_without_overwrite(predict: Any, picture: Path, tmp_path: Path) -> None:
    assert predict("sam_nano/lora_qv", picture)[0] == 0
    before = (tmp_path / "out" / "picture.csv").read_bytes()
    with pytest.raises(BenchError, match=r"picture\.labels\.tif and 4 more files exist already; .* with --overwrite"):
        predict("sam_nano/lora_qv", picture)
    assert predict("sam_nano/lora_qv", picture, overwrite=True)[0] == 0
    assert (tmp_path / "out" / "picture.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("model", "options", "problem"),
    [
        ("sam_nano/lora_q", {}, "unknown row 'sam_nano/lora_q'. Did you mean 'sam_nano/lora_qv'"),
        ("zzzz", {}, "no finished run 'zzzz'; give the id of a run, its beginning, its folder, or BACKBONE/STRATEGY"),
        ("", {}, "'' is the beginning of several runs"),
        ("sam_nano/lora_qv", {"fold": 4}, "fold 4 is not done; done are 1, 2."),
        ("sam_nano/lora_qv,strategy.rank=8", {}, "unknown value of strategy.rank '8'"),
        ("sam_nano/lora_qv,rank=4", {}, "'sam_nano/lora_qv,rank=4': unknown setting 'rank'."),
        ("sam_nano/zero_shot", {"ensemble": True}, "has one finished run; an ensemble needs two or more"),
        ("sam_nano/lora_qv", {"tile": 20}, "--tile 20 is too small; allowed are 32 pixels or more"),
        ("sam_nano/lora_qv", {"scale": 1000}, "--scale 1000 is out of reason"),
    ],
)
def test_a_model_that_is_not_there_is_said(
    model: str, options: dict[str, Any], problem: str, predict: Any, picture: Path
) -> None:
    with pytest.raises(BenchError) as raised:
        predict(model, picture, **options)
    assert problem in str(raised.value)


def test_a_single_run_has_no_folds(finished: Any, predict: Any, picture: Path) -> None:
    with pytest.raises(BenchError, match="is a single run: --fold and --ensemble are for a row"):
        predict(finished.of("lora_qv"), picture, ensemble=True)


def test_a_folder_of_a_model_predicts(finished: Any, predict: Any, picture: Path) -> None:
    folder = finished.results / "runs" / finished.of("lora_qv")
    code, output = predict(str(folder), picture)
    assert (code, f"the model in {folder}: sam_nano/lora_qv, random weights" in output) == (0, True)


def test_each_image_says_what_it_was_predicted_with_and_no_path(finished: Any, predict: Any, picture: Path) -> None:
    run = finished.of("lora_qv")
    other = picture.with_name("other.png")
    other.write_bytes(picture.read_bytes())
    for number, (model, image) in enumerate([(f"{finished.results}/runs/{run}/trained", picture), (run, other)]):
        assert predict(model, image)[0] == 0
        assert len(list((picture.parent.parent / "out").glob("*.json"))) == number + 1
    first, second = ((picture.parent.parent / "out" / f"{name}.json").read_text() for name in ("picture", "other"))
    values = json.loads(first)
    assert (values["image"], values["models"], values["checkpoint_sha256"]) == ("picture.png", [run], None)
    assert values["nuclei_bench_version"] == importlib.metadata.version("nuclei-bench")
    assert str(picture.parent.parent) not in first and str(finished.results) not in first
    assert second == first.replace("picture.png", "other.png")


def test_a_folder_that_can_not_be_made_is_said(predict: Any, picture: Path) -> None:
    with pytest.raises(BenchError, match=r"--out .*picture\.png/out can't be made \(Not a directory\); name a folder"):
        predict("sam_nano/lora_qv", picture, out="in/picture.png/out")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "picture.png: the memory is not enough; give a smaller --tile."),
        ("cuda", "picture.png: the GPU's memory is not enough; give --device cpu, or a smaller --tile."),
        ("diverged", "picture.png: the model predicts logits that are not finite"),
    ],
)
def test_what_a_model_may_run_into_is_a_sentence(
    error: Any, text: str, predict: Any, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from bench.errors import DivergedError
    from bench.predict.predictor import Predictor

    diverged = DivergedError("the model predicts logits that are not finite")
    raised = {"cuda": torch.OutOfMemoryError("80 GiB"), "diverged": diverged}.get(error, error)

    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(Predictor, "__call__", fail)
    code, output = predict("sam_nano/lora_qv", picture)
    assert code == 1
    assert f"not done: {picture.parent}/{text}" in output


def test_an_empty_results_folder_is_said(predict: Any, picture: Path, tmp_path: Path) -> None:
    from bench.predict.choice import choose

    with pytest.raises(BenchError, match=r"no finished run of a model in .*; run a grid first, or give --results DIR"):
        choose("sam_nano/lora_qv", tmp_path / "nothing")


def test_a_folder_s_own_predictions_are_no_images(predict: Any, picture: Path, tmp_path: Path) -> None:
    assert predict("sam_nano/lora_qv", picture)[0] == 0
    folder = tmp_path / "mixed"
    (tmp_path / "out").rename(folder)
    picture.rename(folder / "picture.png")
    Image.open(folder / "picture.png").save(folder / "other.overlay.png")  # nothing was predicted for it
    code, text = predict("sam_nano/lora_qv", folder, out="again")
    assert code == 0 and "Wrote 2 of 2 images" in text
    assert "folder of the training" not in text


def test_images_of_the_training_are_called_so(finished: Any, predict: Any, images: dict[str, Path]) -> None:
    path = next(iter(images.values()))
    text = predict("sam_nano/lora_qv", path)[1]
    assert "In the folder of the training: 1 of 1 image; all but those of a run's test fold were trained" in text
