"""Reading of kept images and label maps, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import galleries
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from bench.errors import RecordError
from bench.report import kept
from bench.results import kept_files
from bench.results.record import folder

DIGEST = "0123456789ab"
IMAGES = [galleries.image(stem) for stem in ("a", "b", "c", "d")]


@pytest.fixture
def run(tmp_path) -> tuple[Path, str]:
    """A results folder, and a run that kept its best, median and worst image."""
    predict = {"a": galleries.perfect, "b": galleries.with_errors, "c": galleries.nothing, "d": galleries.nothing}
    (run_id,) = galleries.add(tmp_path, "mobile_sam", "full", [IMAGES], predict, n_first=0)
    return tmp_path, run_id


def test_what_a_run_left_is_read_as_it_was(run):
    results, run_id = run
    image = kept.read_image(results, DIGEST, "b")
    assert (image.pixels == IMAGES[1].pixels).all()
    assert ((image.true > 0) == (IMAGES[1].label_map > 0)).all()
    assert len(np.unique(image.true)) == len(np.unique(IMAGES[1].label_map))
    predicted = kept.read_prediction(results, run_id, image)
    assert predicted.dtype == np.int32
    assert ((predicted > 0) == (galleries.with_errors(IMAGES[1]) > 0)).all()


def test_scores_say_which_predictions_were_kept(run):
    results, run_id = run
    images = kept.scored_images(results, run_id)
    assert list(images) == ["a", "b", "c", "d"]
    assert [one.is_kept for one in images.values()] == [True, True, False, True]
    assert images["a"].scores == {"pq": 1.0, "aji": 1.0, "dice": 1.0} and images["a"].organ == "liver"
    assert [kept.has_image(results, DIGEST, stem) for stem in "abcde"] == [True, True, False, True, False]


def test_more_nuclei_than_a_png_holds_are_read_from_tiff(run):
    results, run_id = run
    image = kept.read_image(results, DIGEST, "a")
    png, tiff = kept_files.label_map_paths(kept_files.prediction_path(folder(results, run_id), "a"))
    png.unlink()
    tifffile.imwrite(tiff, np.full(image.true.shape, 70_000, np.uint32))
    assert kept.read_prediction(results, run_id, image).max() == 70_000


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_damaged_picture_is_named_with_what_to_do(run, content):
    results, _ = run
    path = kept_files.pixels_path(results, DIGEST, "a")
    whole = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"a\.png can't be read as a picture \(.*\); remove it, and do its run again"):
        kept.read_image(results, DIGEST, "a")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="can't be read as a picture"):
        kept.read_image(results, DIGEST, "a")


def test_a_colour_picture_is_no_label_map(run):
    results, run_id = run
    path, _ = kept_files.label_map_paths(kept_files.prediction_path(folder(results, run_id), "a"))
    Pillow.fromarray(IMAGES[0].pixels).save(path)
    with pytest.raises(RecordError, match=r"is no label map \(uint8, 3 dimensions\)"):
        kept.read_prediction(results, run_id, kept.read_image(results, DIGEST, "a"))


def test_label_maps_of_another_size_are_refused(run):
    results, run_id = run
    image = kept.read_image(results, DIGEST, "a")
    path, _ = kept_files.label_map_paths(kept_files.prediction_path(folder(results, run_id), "a"))
    Pillow.fromarray(np.zeros((3, 5), np.uint16)).save(path)
    with pytest.raises(RecordError, match="has 3 × 5 pixels and its image 48 × 64"):
        kept.read_prediction(results, run_id, image)
    Pillow.fromarray(np.zeros((3, 5), np.uint16)).save(
        kept_files.label_map_paths(kept_files.true_path(results, DIGEST, "a"))[0]
    )
    with pytest.raises(RecordError, match="has 48 × 64 pixels and its label map 3 × 5"):
        kept.read_image(results, DIGEST, "a")


def test_a_missing_prediction_is_named(run):
    results, run_id = run
    image = kept.KeptImage("c", IMAGES[2].pixels, IMAGES[2].label_map)
    with pytest.raises(RecordError, match=r"c\.png is missing; copy it, or do its run again"):
        kept.read_prediction(results, run_id, image)
