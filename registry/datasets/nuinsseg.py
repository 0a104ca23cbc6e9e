"""NuInsSeg: 665 H&E images of 31 human and mouse organs with 30,698 nuclei, as released.

Mahbod et al., "NuInsSeg: A fully annotated dataset for nuclei instance segmentation in H&E-stained
histological images", Scientific Data 11:295 (2024). CC BY 4.0. Zenodo record 10518968.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from registry import archive, layout, pixels
from registry.contract import CheckReport, LabelMap, Sample
from registry.datasets import register
from registry.errors import DataError

URL = "https://zenodo.org/records/10518968/files/NuInsSeg.zip"
SIZE_BYTES = 1_627_427_342
OBTAIN = "bench data fetch nuinsseg"

# sha256 of the release's 665 lines "organ/stem", sorted.
NAMES_SHA256 = "0dd6e8ffbe6d18ab2934f7ade13d0f52d9aba58e37b9ea51fa48905ad15b4444"


class NuInsSeg:
    """The dataset; see `registry.contract.Dataset`."""

    name = "nuinsseg"
    summary = "665 H&E images, 31 organs, 30,698 nuclei (Mahbod et al. 2024)"
    published_images: int | None = 665

    def samples(self, root: Path) -> tuple[Sample, ...]:
        """All samples, sorted by stem; raises `DataError` that lists every problem of the layout at once."""
        return layout.samples(root, obtain=OBTAIN)

    def read(self, sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
        """RGB image and int32 label map; raises `DataError` for anything else on disk."""
        return read(sample)

    def check(self, root: Path) -> CheckReport:
        """Read everything and tell, per organ, what is there, missing or broken; never raises for data."""
        return check(root, obtain=OBTAIN)

    def prepare(self, root: Path) -> None:
        """Download the release (1.6 GB) and unpack images, label maps and vague areas below `root`.

        Does nothing where `root` holds organ folders already. The archive stays beside `root`, so that a
        second attempt does not load it again. ``BENCH_DATA_MIRROR`` names another base URL that serves
        ``NuInsSeg.zip`` (its size is then the mirror's business), ``BENCH_DATA_SHA256`` a digest to insist
        on; without one, size and the archive's own checksums decide.

        Raises:
            DataError: no connection, no space, a damaged or unsafe archive, or other files in `root`.
        """
        root = Path(root)
        if root.is_dir() and any(root.iterdir()):
            found, problems = layout.scan(root, obtain=OBTAIN)
            if found or any(problem.organ for problem in problems):
                return
            raise DataError(f"{root} exists and holds something else; name an empty or new folder.")
        mirror = os.environ.get("BENCH_DATA_MIRROR")
        zipped = archive.fetch(
            f"{mirror.rstrip('/')}/NuInsSeg.zip" if mirror else URL,
            root.parent / "NuInsSeg.zip",
            size_bytes=None if mirror else SIZE_BYTES,
            sha256=os.environ.get("BENCH_DATA_SHA256"),
        )
        archive.unpack(zipped, root, _is_needed)


def read(sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
    """RGB image (uint8) and label map (int32) of a sample in the release's layout.

    Raises:
        DataError: an image that is no 8-bit colour PNG, labels that are no TIFF of integers, or two sizes.
    """
    image, label_map, _ = _read(sample)
    return image, label_map


def check(root: Path, *, obtain: str) -> CheckReport:
    """Read everything below `root` and tell what is there; problems are reported, never raised."""
    found, problems = layout.scan(root, obtain=obtain)
    damaged: list[layout.Problem] = []
    notes: list[str] = []
    # An organ whose layout is broken stands in the report too, with no samples.
    names = sorted({sample.organ for sample in found} | {p.organ for p in problems if p.organ is not None})
    organs = {name: Counter(samples=0, nuclei=0, problems=0) for name in names}
    for sample in found:
        try:
            _, label_map, remarks = _read(sample)
        except DataError as error:
            damaged.append(layout.Problem(sample.organ, str(error)))
            continue
        notes += remarks
        organs[sample.organ].update(samples=1, nuclei=int(np.count_nonzero(np.unique(label_map))))
    for problem in (*problems, *damaged):
        if problem.organ is not None:
            organs[problem.organ]["problems"] += 1
    return CheckReport(
        root=Path(root),
        organs={name: dict(counts) for name, counts in organs.items()},
        problems=tuple(problem.text for problem in (*problems, *damaged)),
        notes=tuple(notes),
    )


class Named(Protocol):
    """A sample or an image that knows its organ and its name."""

    @property
    def stem(self) -> str: ...

    @property
    def organ(self) -> str: ...


def is_official(samples: Iterable[Named]) -> bool:
    """Whether these are the 665 images of all 31 organs, so that published numbers are comparable."""
    names = "\n".join(sorted(f"{sample.organ}/{sample.stem}" for sample in samples))
    return hashlib.sha256(names.encode()).hexdigest() == NAMES_SHA256


def _read(sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap, tuple[str, ...]]:
    image, image_notes = pixels.read_image(sample.image_path)
    label_map, label_notes = pixels.read_label(sample.label_path)
    if image.shape[:2] != label_map.shape:
        raise DataError(
            f"sizes differ: {sample.image_path} has {image.shape[0]} × {image.shape[1]} pixels "
            f"(height × width), {sample.label_path} has {label_map.shape[0]} × {label_map.shape[1]}; "
            "both must be of one size."
        )
    return image, label_map, (*image_notes, *label_notes)


def _is_needed(path: PurePosixPath) -> bool:
    """Images, label maps and vague areas; the release's other folders are derived from them."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return False
    folders = path.parts[:-1]
    return (
        folders[-1:] == (layout.IMAGES,)
        or folders[-1:] == (layout.LABELS,)
        or folders[-2:] == ("vague areas", "mask binary")
    )


register(NuInsSeg())
