"""Files about test images that runs leave in a results folder: names, places, and the images that are kept.

Each run keeps predicted label maps in ``runs/<id>/predictions/``: those of its best, median and worst test image by PQ,
and those of the first images of its fold, which are the same for every run of that fold. The pixels and the true label
map of every such image stand once in ``images/<digest of the dataset>/``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from registry.names import LONGEST_STEM_BYTES, shown

PREDICTIONS_FOLDER, IMAGES_FOLDER, LABELS_FOLDER = "predictions", "images", "labels"
DEFAULT_KEPT = 3
Place = Literal["best", "median", "worst"]


def parse_kept(text: str) -> int | None:
    """Return the number of first test images that ``--keep-predictions`` asks for; None for all images.

    Raises:
        BenchError: the text is neither a number from 0 on nor ``all``.
    """
    if text.strip().lower() == "all":
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return int(text)
    raise BenchError(
        f"--keep-predictions {shown(text)}: give a number of test images from 0 on (3 is the default; the best, the "
        "median and the worst image are kept besides), or all."
    )


def places(pq: Mapping[str, float]) -> dict[Place, str]:
    """Return the stems of the best, the median and the worst image; three different ones from three images on.

    The images are ordered from the best PQ to the worst, those of equal PQ by their stem. The first is the best, the
    last the worst, and the middle one (of an even number, the better of the two) the median.

    Args:
        pq: of each image by its stem; empty gives no places.
    """
    order = sorted(pq, key=lambda stem: (-pq[stem], stem))
    if not order:
        return {}
    return {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}


def kept_stems(pq: Mapping[str, float], n_first: int | None) -> list[str]:
    """Return the stems of the images whose predictions a run keeps, in the order of `pq`.

    Args:
        pq: of every test image, in the order of the fold.
        n_first: number of first images; None for all.
    """
    stems: Sequence[str] = list(pq)
    if n_first is None:
        return list(stems)
    kept = {*stems[:n_first], *places(pq).values()}
    return [stem for stem in stems if stem in kept]


def predictions_folder(run_folder: Path) -> Path:
    """Return the folder of a run's predicted label maps."""
    return run_folder / PREDICTIONS_FOLDER


def images_folder(results: Path, dataset_digest: str) -> Path:
    """Return the folder of the images and true label maps of a dataset's content, which all runs share."""
    return results / IMAGES_FOLDER / dataset_digest


def label_map_paths(path: Path) -> tuple[Path, Path]:
    """Return the two files of which one is a label map: PNG of 16 bits, and TIFF of 32 bits for more nuclei."""
    return path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.tif")


def prediction_path(run_folder: Path, stem: str) -> Path:
    """Return the path, without suffix, of an image's predicted label map."""
    return predictions_folder(run_folder) / file_stem(stem)


def pixels_path(results: Path, dataset_digest: str, stem: str) -> Path:
    """Return the PNG file of an image's pixels."""
    return images_folder(results, dataset_digest) / f"{file_stem(stem)}.png"


def true_path(results: Path, dataset_digest: str, stem: str) -> Path:
    """Return the path, without suffix, of an image's true label map."""
    return images_folder(results, dataset_digest) / LABELS_FOLDER / file_stem(stem)


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
