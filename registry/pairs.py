"""Image and label map of a sample in NuInsSeg's layout, read together; and the check that reads all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from registry import layout, pixels
from registry.contract import CheckReport, LabelMap, Sample
from registry.errors import DataError
from registry.names import shown
from registry.release import Release, verify


@dataclass(frozen=True)
class _Pair:
    stem: str
    organ: str
    pixels: UInt8[np.ndarray, "h w 3"]
    label_map: LabelMap
    notes: tuple[str, ...]


def read(sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
    """Read the RGB image (uint8) and label map (int32) of a sample in the release's layout.

    Raises:
        DataError: an image that is no 8-bit colour PNG, labels that are no TIFF of integers, or two sizes.
    """
    pair = _read(sample)
    return pair.pixels, pair.label_map


def check(root: Path, *, release: Release) -> CheckReport:
    """Read everything below `root` and report what is there; problems are reported, never raised."""
    samples, problems = layout.scan(root, obtain=release.obtain)
    damaged: list[layout.Problem] = []
    notes: list[str] = []
    # An organ whose layout is broken stands in the report too, with no samples.
    names = sorted({sample.organ for sample in samples} | {p.organ for p in problems if p.organ is not None})
    organs = {name: Counter(samples=0, nuclei=0, problems=0) for name in names}

    def readable() -> Iterator[_Pair]:
        for sample in samples:
            try:
                pair = _read(sample)
            except DataError as error:
                damaged.append(layout.Problem(sample.organ, str(error)))
                continue
            notes.extend(pair.notes)
            organs[sample.organ].update(samples=1, nuclei=int(np.count_nonzero(np.unique(pair.label_map))))
            yield pair

    verification = verify(release, readable())
    changed = (verification.detail,) if verification.same_names and verification.differing else ()
    for problem in (*problems, *damaged):
        if problem.organ is not None:
            organs[problem.organ]["problems"] += 1
    return CheckReport(
        root=Path(shown(root)),
        organs={name: dict(counts) for name, counts in organs.items()},
        problems=(*(problem.text for problem in (*problems, *damaged)), *changed),
        notes=tuple(notes),
        release=verification.detail,
    )


def _read(sample: Sample) -> _Pair:
    image, image_notes = pixels.read_image(sample.image_path)
    label_map, label_notes = pixels.read_label(sample.label_path)
    if image.shape[:2] != label_map.shape:
        raise DataError(
            f"sizes differ: {shown(sample.image_path)} has {image.shape[0]} × {image.shape[1]} pixels "
            f"(height × width), {shown(sample.label_path)} has {label_map.shape[0]} × {label_map.shape[1]}; "
            "both must be of one size."
        )
    return _Pair(sample.stem, sample.organ, image, label_map, (*image_notes, *label_notes))
