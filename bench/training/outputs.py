"""Files of a run beside its record: scores per image as Parquet, and a few predicted label maps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.results.record import SCORES_FILENAME
from bench.training.data import Image
from registry.atomic import remove_unfinished, replacing
from registry.contract import LabelMap
from registry.names import LONGEST_STEM_BYTES, shown

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


def save_predictions(folder: Path, images: Sequence[Image], predictions: Mapping[str, LabelMap]) -> None:
    """Write predicted label maps and overlays of some images to the folder ``predictions``.

    ``<stem>.png`` is the label map in 16 bits; with more than 65,535 nuclei, which these can't hold, it is
    ``<stem>.tif`` in 32 bits. ``<stem>.overlay.png`` has the true outlines in green and the predicted ones in yellow.
    Stems are shortened where a file name must be, see `file_stem`.

    Args:
        folder: of the run.
        images: with their true label maps.
        predictions: label maps by stem.
    """
    from PIL import Image as Pillow
    from skimage.segmentation import find_boundaries, relabel_sequential

    target = folder / "predictions"
    target.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target)
    for image in images:
        name, predicted = file_stem(image.stem), relabel_sequential(predictions[image.stem])[0]
        _save_label_map(target / name, predicted)
        overlay = image.pixels.copy()
        overlay[find_boundaries(image.label_map, mode="inner")] = TRUE_COLOUR
        overlay[find_boundaries(predicted, mode="inner")] = PREDICTED_COLOUR
        with replacing(target / f"{name}.overlay.png") as temporary:
            Pillow.fromarray(overlay).save(temporary, format="png")


def _save_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map with consecutive ids below `path` plus suffix; remove one of the other format."""
    import tifffile
    from PIL import Image as Pillow

    png, tiff = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.tif")
    if label_map.max(initial=0) <= np.iinfo(np.uint16).max:
        with replacing(png) as temporary:
            Pillow.fromarray(label_map.astype(np.uint16)).save(temporary, format="png")
        tiff.unlink(missing_ok=True)
    else:
        with replacing(tiff) as temporary:
            tifffile.imwrite(temporary, label_map.astype(np.uint32), compression="zlib")
        png.unlink(missing_ok=True)


def file_stem(stem: str) -> str:
    """Return the start of an image's file names: its stem, as far as every file system takes it.

    A stem that is too long for the suffixes, or that is not UTF-8 (archives made on Windows), is cut and cleaned; a
    digest of the whole stem keeps it unique. `registry.names.stem_problem` refuses such stems before a run begins; a
    finished run must not fail because of them.
    """
    clean = re.sub("[\ud800-\udfff]", "_", stem)
    if clean == stem and len(stem.encode()) <= LONGEST_STEM_BYTES:
        return stem
    digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{clean.encode()[: LONGEST_STEM_BYTES - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"
