"""Images and label maps that runs left in a results folder (see `bench.results.kept_files`), as arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from bench.errors import RecordError
from bench.report.image_scores import read_image_scores
from bench.results import kept_files
from bench.results.record import SCORES_FILENAME, folder

SHOWN_SCORES = ("pq", "aji", "dice")
MAX_PIXELS = 2**28
"""Larger pictures are refused: the files are of the user's folder, which anything may have been copied to."""


@dataclass(frozen=True)
class KeptImage:
    """A test image without any prediction.

    Attributes:
        stem: its name.
        pixels: RGB.
        true: its true label map.
    """

    stem: str
    pixels: UInt8[np.ndarray, "h w 3"]
    true: Int[np.ndarray, "h w"]


@dataclass(frozen=True)
class ScoredImage:
    """A test image of one run, as its scores know it.

    Attributes:
        stem: its name.
        organ: of its tissue.
        scores: pq, aji, dice in [0, 1].
        is_kept: the run left its predicted label map.
    """

    stem: str
    organ: str
    scores: dict[str, float]
    is_kept: bool


def scored_images(results: Path, run_id: str) -> dict[str, ScoredImage]:
    """Return all test images of a run by their stem, in the order of the fold.

    Raises:
        RecordError: its scores are missing or damaged.
    """
    run_folder = folder(results, run_id)
    table = read_image_scores(run_folder / SCORES_FILENAME, "its test images are unknown")
    if "stem" not in table:
        raise RecordError(f"{run_folder / SCORES_FILENAME} lacks stem; move the record beside it away and run again.")
    scores = table.reindex(columns=list(SHOWN_SCORES))
    images = {}
    for place, (stem, organ) in enumerate(zip(table["stem"].map(str), table["organ"].map(str), strict=True)):
        values = {name: float(scores[name].iloc[place]) for name in SHOWN_SCORES}
        kept = _file(kept_files.prediction_path(run_folder, stem)) is not None
        images[stem] = ScoredImage(stem, organ, values, kept)
    return images


def has_image(results: Path, dataset_digest: str, stem: str) -> bool:
    """Return whether pixels and true label map of an image were kept; versions before 0.2 did not."""
    pixels = kept_files.pixels_path(results, dataset_digest, stem)
    return pixels.is_file() and _file(kept_files.true_path(results, dataset_digest, stem)) is not None


def read_image(results: Path, dataset_digest: str, stem: str) -> KeptImage:
    """Return a test image with its true label map.

    Raises:
        RecordError: a file is missing or damaged, or the two differ in size.
    """
    pixels = _read(kept_files.pixels_path(results, dataset_digest, stem), is_rgb=True)
    true = _read_label_map(kept_files.true_path(results, dataset_digest, stem))
    if pixels.shape[:2] != true.shape:
        where = kept_files.images_folder(results, dataset_digest)
        raise RecordError(
            f"the image {stem} in {where} has {_size(pixels)} pixels and its label map {_size(true)}; remove both "
            "files, and do a run of its fold again."
        )
    return KeptImage(stem, pixels, true)


def read_prediction(results: Path, run_id: str, image: KeptImage) -> Int[np.ndarray, "h w"]:
    """Return the label map that a run predicted for an image.

    Raises:
        RecordError: the file is missing or damaged, or is not of the image's size.
    """
    path = kept_files.prediction_path(folder(results, run_id), image.stem)
    predicted = _read_label_map(path)
    if predicted.shape != image.true.shape:
        raise RecordError(
            f"the prediction {_file(path)} has {_size(predicted)} pixels and its image {_size(image.true)}; copy it "
            "again, or move the folder of its run away and run again."
        )
    return predicted


def _read_label_map(path: Path) -> Int[np.ndarray, "h w"]:
    existing = _file(path)
    if existing is None:
        raise RecordError(f"{kept_files.label_map_paths(path)[0]} is missing; copy it, or do its run again.")
    return _read(existing, is_rgb=False)


def _read(path: Path, *, is_rgb: bool) -> np.ndarray:
    from PIL import Image
    from PIL.Image import DecompressionBombError

    try:
        if path.suffix == ".tif":
            import tifffile

            array = tifffile.imread(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path, formats=("PNG",)) as opened:
                    if opened.width * opened.height > MAX_PIXELS:
                        raise ValueError(f"{opened.width} × {opened.height} pixels are too many")
                    array = np.array(opened.convert("RGB") if is_rgb else opened)
    except (OSError, ValueError, SyntaxError, DecompressionBombError) as error:  # SyntaxError: of a broken PNG
        raise RecordError(f"{path} can't be read as a picture ({error}); remove it, and do its run again.") from error
    if not is_rgb and (array.ndim != 2 or not np.issubdtype(array.dtype, np.integer)):
        raise RecordError(f"{path} is no label map ({array.dtype}, {array.ndim} dimensions); do its run again.")
    return array if is_rgb else array.astype(np.int32)


def _file(path: Path) -> Path | None:
    return next((existing for existing in kept_files.label_map_paths(path) if existing.is_file()), None)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} × {array.shape[1]}"
