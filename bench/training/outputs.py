"""Files of a run beside its record: scores per image as Parquet, and predicted label maps with their images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bench.grid import Run
from bench.results import kept_files, record
from bench.results.record import SCORES_FILENAME
from bench.training.data import Image
from registry.atomic import remove_unfinished, replacing
from registry.contract import LabelMap
from registry.names import shown

TRUE_COLOUR, PREDICTED_COLOUR = (0, 200, 0), (255, 235, 0)


def save_scores(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``scores.parquet`` atomically: a row per test image.

    Parquet holds UTF-8 only: other bytes of a name are written as ``\\xNN``.
    """
    import pandas as pd

    path = folder / SCORES_FILENAME
    readable = [{k: shown(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    with replacing(path) as temporary:
        pd.DataFrame(readable).to_parquet(temporary, index=False)
    return path


def save_kept(
    results: Path,
    run: Run,
    images: Sequence[Image],
    predictions: Mapping[str, LabelMap],
    pq: Mapping[str, float],
    *,
    n_first: int | None,
) -> None:
    """Write the predicted label maps that a run keeps, and once for all runs the images that they belong to.

    Overlays are written for the first images only, three at most: each takes fifty times as much as its label map.

    Args:
        results: the results folder.
        run: whose predictions they are.
        images: the test fold with its true label maps.
        predictions: label maps by stem.
        pq: of each image by its stem, in the order of `images`.
        n_first: number of first images that are kept besides the best, median and worst; None for all.
    """
    stems = set(kept_files.kept_stems(pq, n_first))
    n_overlays = kept_files.DEFAULT_KEPT if n_first is None else min(n_first, kept_files.DEFAULT_KEPT)
    overlaid = {image.stem for image in images[:n_overlays]}
    kept = [image for image in images if image.stem in stems]
    save_images(results, run.dataset_digest, kept)
    save_predictions(record.folder(results, run.id), kept, predictions, overlaid=overlaid)


def save_predictions(
    folder: Path,
    images: Sequence[Image],
    predictions: Mapping[str, LabelMap],
    *,
    overlaid: Collection[str] | None = None,
) -> None:
    """Write predicted label maps and overlays of some images to the folder ``predictions``.

    ``<stem>.png`` is the label map in 16 bits; with more than 65,535 nuclei, which these can't hold, it is
    ``<stem>.tif`` in 32 bits. ``<stem>.overlay.png`` has the true outlines in green and the predicted ones in yellow.
    Stems are shortened where a file name must be, see `bench.results.kept_files.file_stem`.

    Files of an earlier attempt that kept other images are removed, and before anything is written: they would be taken
    for predictions of this one.

    Args:
        folder: of the run.
        images: with their true label maps.
        predictions: label maps by stem.
        overlaid: stems of the images with an overlay; None for all.
    """
    from skimage.segmentation import find_boundaries, relabel_sequential

    target = kept_files.predictions_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target)
    _remove_others(target, images, overlaid)
    for image in images:
        name, predicted = kept_files.file_stem(image.stem), relabel_sequential(predictions[image.stem])[0]
        _save_label_map(target / name, predicted)
        if overlaid is None or image.stem in overlaid:
            overlay = image.pixels.copy()
            overlay[find_boundaries(image.label_map, mode="inner")] = TRUE_COLOUR
            overlay[find_boundaries(predicted, mode="inner")] = PREDICTED_COLOUR
            _save_pixels(target / f"{name}.overlay.png", overlay)


def _remove_others(target: Path, images: Sequence[Image], overlaid: Collection[str] | None) -> None:
    """Remove label maps and overlays of a run but those that are about to be replaced."""
    kept: set[Path] = set()
    for image in images:
        kept.update(kept_files.label_map_paths(target / kept_files.file_stem(image.stem)))
        if overlaid is None or image.stem in overlaid:
            kept.add(target / f"{kept_files.file_stem(image.stem)}.overlay.png")
    for path in target.iterdir():
        if path.suffix in (".png", ".tif") and path not in kept and path.is_file():
            path.unlink(missing_ok=True)


def save_images(results: Path, dataset_digest: str, images: Sequence[Image]) -> None:
    """Write pixels and true label maps that are not in the results folder yet.

    Any number of runs may do so at once: a file is moved into place whole, and all would write the same bytes.

    Args:
        results: the results folder.
        dataset_digest: of the dataset's content, which names their folder.
        images: to be kept.
    """
    from skimage.segmentation import relabel_sequential

    for image in images:
        labels = kept_files.true_path(results, dataset_digest, image.stem)
        if not any(path.exists() for path in kept_files.label_map_paths(labels)):
            _save_label_map(labels, relabel_sequential(image.label_map)[0])
        pixels = kept_files.pixels_path(results, dataset_digest, image.stem)
        if not pixels.exists():
            _save_pixels(pixels, image.pixels)


def _save_pixels(path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    from PIL import Image as Pillow

    with replacing(path) as temporary:
        Pillow.fromarray(pixels).save(temporary, format="png")


def _save_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map with consecutive ids below `path` plus suffix; remove one of the other format."""
    import tifffile
    from PIL import Image as Pillow

    png, tiff = kept_files.label_map_paths(path)
    if label_map.max(initial=0) <= np.iinfo(np.uint16).max:
        with replacing(png) as temporary:
            Pillow.fromarray(label_map.astype(np.uint16)).save(temporary, format="png")
        tiff.unlink(missing_ok=True)
    else:
        with replacing(tiff) as temporary:
            tifffile.imwrite(temporary, label_map.astype(np.uint32), compression="zlib")
        png.unlink(missing_ok=True)
