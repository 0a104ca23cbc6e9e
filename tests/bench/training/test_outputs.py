"""Files of a run beside its record, with names and label maps of unusual size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Pillow

from bench.training import outputs
from bench.training.data import Image

NOT_UTF8 = os.fsdecode(b"caf\xe9_1")


def image(stem: str, shape: tuple[int, int] = (8, 10)) -> Image:
    label_map = np.zeros(shape, np.int32)
    label_map[:4, :4] = 1
    return Image(stem, "liver", stem, np.full((*shape, 3), 128, np.uint8), label_map)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "predictions").iterdir())


def test_label_map_is_saved_in_16_bits_with_consecutive_ids(tmp_path):
    predicted = np.zeros((8, 10), np.int32)
    predicted[0, 0], predicted[5, 5] = 70_000, 3
    outputs.save_predictions(tmp_path, [image("a_1")], {"a_1": predicted})
    assert names(tmp_path) == ["a_1.overlay.png", "a_1.png"]
    saved = np.array(Pillow.open(tmp_path / "predictions/a_1.png"))
    assert saved.dtype == np.uint16
    assert (saved[0, 0], saved[5, 5], saved.sum()) == (2, 1, 3)


def test_overlay_shows_true_outlines_in_green_and_predicted_ones_in_yellow(tmp_path):
    predicted = np.zeros((8, 10), np.int32)
    predicted[6:, 8:] = 1
    outputs.save_predictions(tmp_path, [image("a_1")], {"a_1": predicted})
    overlay = np.array(Pillow.open(tmp_path / "predictions/a_1.overlay.png"))
    assert tuple(overlay[3, 3]) == (0, 200, 0) and tuple(overlay[6, 8]) == (255, 235, 0)
    assert tuple(overlay[0, 0]) == tuple(overlay[1, 1]) == (128, 128, 128)  # inside a nucleus


def test_more_nuclei_than_16_bits_hold_are_saved_in_32_bits(tmp_path):
    predicted = np.arange(70_000, dtype=np.int32).reshape(200, 350) + 1
    predicted[0, 0] = 0
    outputs.save_predictions(tmp_path, [image("a_1", (200, 350))], {"a_1": predicted})
    assert names(tmp_path) == ["a_1.overlay.png", "a_1.tif"]
    saved = tifffile.imread(tmp_path / "predictions/a_1.tif")
    assert saved.dtype == np.uint32
    assert len(np.unique(saved)) == 70_000 and saved.max() == 69_999
    outputs.save_predictions(tmp_path, [image("a_1")], {"a_1": np.zeros((8, 10), np.int32)})
    assert names(tmp_path) == ["a_1.overlay.png", "a_1.png"]  # of another attempt: the larger map is gone


def test_65535_nuclei_still_fit_a_png(tmp_path):
    predicted = np.zeros(70_000, np.int32)
    predicted[:65_535] = np.arange(1, 65_536)
    outputs.save_predictions(tmp_path, [image("a_1", (200, 350))], {"a_1": predicted.reshape(200, 350)})
    assert np.array(Pillow.open(tmp_path / "predictions/a_1.png")).max() == 65_535


@pytest.mark.parametrize("stem", ["x" * 245, "ä" * 122 + "x", "x" * 251])
def test_stems_too_long_for_a_file_name_are_shortened_and_stay_unique(tmp_path, stem):
    images = [image(stem + "1"), image(stem + "2")]
    outputs.save_predictions(tmp_path, images, {i.stem: i.label_map for i in images})
    assert len(names(tmp_path)) == 4
    assert all(name.startswith(stem[:90]) for name in names(tmp_path))


def test_longest_stem_that_fits_is_kept(tmp_path):
    stem = "x" * (255 - len(".overlay.png"))
    outputs.save_predictions(tmp_path, [image(stem)], {stem: image(stem).label_map})
    assert names(tmp_path) == [f"{stem}.overlay.png", f"{stem}.png"]


def test_names_that_are_not_utf8_are_written_as_utf8_and_stay_unique(tmp_path):
    images = [image(NOT_UTF8), image(os.fsdecode(b"caf\xe8_1"))]
    outputs.save_predictions(tmp_path, images, {i.stem: i.label_map for i in images})
    assert len(names(tmp_path)) == 4
    assert all(name.startswith("caf__1-") and name.isascii() for name in names(tmp_path))


def test_scores_of_images_whose_names_are_not_utf8(tmp_path):
    outputs.save_scores(tmp_path, [{"stem": NOT_UTF8, "organ": os.fsdecode(b"c\xf4lon"), "fold": 1, "pq": 0.5}])
    (row,) = pd.read_parquet(tmp_path / "scores.parquet").to_dict("records")
    assert row == {"stem": r"caf\xe9_1", "organ": r"c\xf4lon", "fold": 1, "pq": 0.5}


def test_files_follow_the_umask_and_torn_ones_of_a_killed_attempt_are_removed(tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/.a_1.png.0123abcd.tmp").write_bytes(b"torn")
    earlier = os.umask(0o027)
    try:
        outputs.save_scores(tmp_path, [{"stem": "a_1", "pq": 0.5}])
        outputs.save_predictions(tmp_path, [image("a_1")], {"a_1": image("a_1").label_map})
    finally:
        os.umask(earlier)
    assert names(tmp_path) == ["a_1.overlay.png", "a_1.png"]
    for path in ("scores.parquet", "predictions/a_1.png", "predictions/a_1.overlay.png"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o640


def test_file_that_can_not_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    outputs.save_scores(tmp_path, [{"stem": "a_1", "pq": 0.5}])

    def full(self, path, **_):
        Path(path).write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        outputs.save_scores(tmp_path, [{"stem": "a_1", "pq": 0.25}])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
    assert pd.read_parquet(tmp_path / "scores.parquet")["pq"].tolist() == [0.5]
