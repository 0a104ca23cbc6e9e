"""Runs on magnified images, cut into tiles, with and without cached embeddings and test-time augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planned_run import RUN as PLANNED

from bench.estimate.resources import workload
from bench.grid import TrainSettings
from bench.predict.predictor import Predictor, geometry
from bench.results.record import folder, write
from bench.run import execute
from bench.training import data, search, tiling, variants
from bench.training.context import RunContext
from registry import datasets, loading

TRAIN = vars(TrainSettings(epochs=1, batch_size=8, warmup_steps=0, augmentation="cellvit"))
RUN = replace(PLANNED, strategy="decoder_only", dataset_digest="0" * 16, n_splits=2, validation_fraction=0.34)
RUN = replace(RUN, options={}, train=TRAIN)


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


@pytest.mark.parametrize(
    ("image_size", "scale", "tiles", "crops"),
    [(256, 2.0, 25, 16), (128, 2.0, 121, 64), (256, 4.0, 121, 64), (128, 4.0, 441, 256)],
)
def test_images_of_512_pixels_are_magnified(image_size: int, scale: float, tiles: int, crops: int) -> None:
    side = int(512 * scale)
    assert tiling.scaled_size(512, 512, image_size=image_size, scale=scale) == (side, side)
    corners = tiling.tile_corners(side, side, image_size=image_size)
    assert len(corners) == tiles == variants.tile_count(512, 512, image_size=image_size, scale=scale)
    assert tiling.tiles_per_image(512, 512, image_size=image_size, scale=scale) == crops
    covered = np.zeros((side, side), bool)
    for top, left in corners:
        covered[top : top + image_size, left : left + image_size] = True
    assert covered.all()
    run = replace(RUN, image_size=image_size, scale=scale)
    work = workload(run, 10, (512, 512))  # 5 images are tested, 2 validated, 3 trained
    assert (work.trained, work.predicted) == (3 * crops, (2 * 2 + 5) * tiles)
    assert workload(replace(run, tta=True), 10, (512, 512)).predicted == (2 + 8 * (2 + 5)) * tiles


def test_crop_at_a_magnification_shows_the_nuclei_that_its_labels_say() -> None:
    label_map = np.zeros((512, 512), np.int32)
    label_map[::16, ::16], label_map[100:420, 100:420] = 1, 2
    pixels = np.repeat(np.where(label_map == 2, 20, 230).astype(np.uint8)[..., None], 3, axis=2)
    image = data.Image("a", "o", "a", pixels, label_map)
    for scale, seed in [(2.0, 0), (4.0, 1), (4.0, 5)]:
        options = {"scale": scale, "augment": False, "stain_strength": 0.0, "scale_strength": 0.0}
        rng = np.random.default_rng(seed)
        inputs, labels = data.training_sample(image, rng=rng, image_size=128, target_side=64, **options)
        dark = inputs[0].reshape(64, 2, 64, 2).mean((1, 3)).numpy() < 0.5
        assert (dark == (labels == 2)).mean() > 0.98


@pytest.mark.parametrize(
    ("scale", "embeddings", "tta"),
    [
        (2.0, "cached", False),
        (1.0, "computed", True),
        pytest.param(2.0, "cached", True, marks=pytest.mark.release),
        pytest.param(4.0, "computed", False, marks=pytest.mark.release),
    ],
)
def test_run_on_magnified_tiles_predicts_again_what_it_predicted(
    images: dict[str, data.Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
    embeddings: str,
    tta: bool,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(search.coordinate_search.__kwdefaults__, "limit", 2)
    run = replace(RUN, scale=scale, embeddings=embeddings, tta=tta)
    record = execute(run, images, RunContext(tmp_path))
    write(tmp_path, record)
    cost = record.cost
    assert cost is not None
    crops = tiling.tiles_per_image(64, 64, image_size=64, scale=scale)
    tiles = variants.tile_count(64, 64, image_size=64, scale=scale)
    assert cost["train_steps"] == -(-2 * crops // 8) and cost["latency_turns"] == (8 if tta else 1)
    if embeddings == "cached":
        # The audit's, 2 images in training, 1 in validation; then, with TTA in all turns, that one and 3 in the test.
        assert (
            cost["embeddings_read"] + cost["embeddings_computed"]
            == 1 + 2 * crops + tiles + (1 + 3) * tiles * cost["latency_turns"]
        )
    recipe = loading.read(folder(tmp_path, run.id))
    assert (recipe.scale, recipe.tta) == (scale, tta)
    predicted = Predictor([recipe], geometry(recipe))
    kept = sorted(p for p in (folder(tmp_path, run.id) / "predictions").glob("*.png") if ".overlay" not in p.name)
    assert kept
    for path in kept[:1]:
        again, before = predicted(images[path.stem].pixels), np.array(Image.open(path))
        assert ((again > 0) == (before > 0)).mean() > 0.99  # cached embeddings are rounded
