"""Files of a run beside its record, with names and label maps of unusual size."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Pillow
from planned_run import RUN

from bench.results import kept_files
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


def test_best_median_worst_and_first_predictions_are_kept_with_their_images(tmp_path):
    images = [image(stem) for stem in "abcdefg"]
    predictions = {one.stem: one.label_map for one in images}
    pq = dict(zip("abcdefg", (0.5, 0.6, 0.4, 0.9, 0.45, 0.1, 0.55), strict=True))
    outputs.save_kept(tmp_path, RUN, images, predictions, pq, n_first=2)
    run_folder = tmp_path / "runs" / RUN.id
    assert names(run_folder) == ["a.overlay.png", "a.png", "b.overlay.png", "b.png", "d.png", "f.png"]
    shared = kept_files.images_folder(tmp_path, RUN.dataset_digest)
    assert sorted(path.name for path in shared.glob("*.png")) == ["a.png", "b.png", "d.png", "f.png"]
    assert sorted(path.name for path in (shared / "labels").iterdir()) == ["a.png", "b.png", "d.png", "f.png"]
    assert (np.array(Pillow.open(shared / "d.png")) == images[3].pixels).all()
    assert (np.array(Pillow.open(shared / "labels/d.png")) == images[3].label_map).all()


def test_all_predictions_are_kept_with_three_overlays(tmp_path):
    images = [image(stem) for stem in "abcdefg"]
    predictions = {one.stem: one.label_map for one in images}
    outputs.save_kept(tmp_path, RUN, images, predictions, dict.fromkeys("abcdefg", 0.5), n_first=None)
    kept = names(tmp_path / "runs" / RUN.id)
    assert [name for name in kept if "overlay" in name] == ["a.overlay.png", "b.overlay.png", "c.overlay.png"]
    assert len(kept) == 10


def test_predictions_that_an_earlier_attempt_kept_of_other_images_are_removed(tmp_path):
    images = [image(stem) for stem in "abcdefg"]
    predictions = {one.stem: one.label_map for one in images}
    run_folder = tmp_path / "runs" / RUN.id
    outputs.save_kept(tmp_path, RUN, images, predictions, dict(zip("abcdefg", range(7), strict=True)), n_first=None)
    (run_folder / "predictions/notes.txt").write_text("of the user")
    pq = dict(zip("abcdefg", (0.5, 0.6, 0.4, 0.9, 0.45, 0.1, 0.55), strict=True))
    outputs.save_kept(tmp_path, RUN, images, predictions, pq, n_first=1)
    assert names(run_folder) == ["a.overlay.png", "a.png", "d.png", "f.png", "notes.txt"]
    shared = kept_files.images_folder(tmp_path, RUN.dataset_digest)
    assert len(list(shared.glob("*.png"))) == 7  # other runs may have kept these


def test_images_are_written_once_whatever_the_number_of_runs(tmp_path):
    outputs.save_images(tmp_path, "abc", [image("a")])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(written) == 2
    for path in written:
        path.write_bytes(b"of an earlier run")
    outputs.save_images(tmp_path, "abc", [image("a"), image("b")])
    assert {path.read_bytes() for path in written} == {b"of an earlier run"}
    assert len(list(tmp_path.rglob("*.png"))) == 4


def test_image_with_more_true_nuclei_than_16_bits_hold_is_not_written_twice(tmp_path):
    many = image("a", (200, 350))
    many = Image("a", "liver", "a", many.pixels, np.arange(70_000, dtype=np.int32).reshape(200, 350))
    outputs.save_images(tmp_path, "abc", [many])
    (path,) = (tmp_path / "images/abc/labels").iterdir()
    assert path.name == "a.tif" and tifffile.imread(path).max() == 69_999
    path.write_bytes(b"")
    outputs.save_images(tmp_path, "abc", [many])
    assert [one.name for one in path.parent.iterdir()] == ["a.tif"] and path.read_bytes() == b""


def test_jobs_that_write_the_same_images_at_once_leave_whole_files(tmp_path):
    """Processes, as jobs are: each checks and writes on its own."""
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        list(pool.map(outputs.save_images, [tmp_path] * 6, ["abc"] * 6, [[image(stem) for stem in "abc"]] * 6))
    assert not list(tmp_path.rglob(".*"))
    assert len(list(tmp_path.rglob("*.png"))) == 6
    for path in tmp_path.rglob("*.png"):
        assert np.array(Pillow.open(path)).shape[:2] == (8, 10)
