"""NuInsSeg: 665 H&E images of 31 human and mouse organs with 30,698 nuclei, as released.

Mahbod et al., "NuInsSeg: A fully annotated dataset for nuclei instance segmentation in H&E-stained
histological images", Scientific Data 11:295 (2024). CC BY 4.0. Zenodo record 10518968.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from registry import archive, layout
from registry.contract import CheckReport, LabelMap, Sample
from registry.datasets import register
from registry.errors import DataError
from registry.modules.nuinsseg_content import CONTENT
from registry.modules.nuinsseg_folds import FOLD_SEED, N_SPLITS, official_folds
from registry.names import shown
from registry.pairs import check, read
from registry.release import Release

URL = "https://zenodo.org/records/10518968/files/NuInsSeg.zip"
SIZE_BYTES = 1_627_427_342
OBTAIN = "bench data fetch nuinsseg"
RELEASE = Release(
    obtain=OBTAIN,
    n_splits=N_SPLITS,
    fold_seed=FOLD_SEED,
    folds=official_folds,
    names_sha256="0dd6e8ffbe6d18ab2934f7ade13d0f52d9aba58e37b9ea51fa48905ad15b4444",
    content=CONTENT,
)


class NuInsSeg:
    """The dataset; see `registry.contract.Dataset`."""

    name = "nuinsseg"
    summary = "665 H&E images, 31 organs, 30,698 nuclei (Mahbod et al. 2024)"
    published_images: int | None = 665
    release = RELEASE

    def samples(self, root: Path) -> tuple[Sample, ...]:
        """Return all samples, sorted by stem; raises `DataError` that lists every problem of the layout at once."""
        return layout.samples(root, obtain=OBTAIN)

    def read(self, sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
        """Return the RGB image and the int32 label map; raises `DataError` for anything else on disk."""
        return read(sample)

    def check(self, root: Path) -> CheckReport:
        """Read everything and report, per organ, what is there, missing or broken; never raises `DataError`."""
        return check(root, release=RELEASE)

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
            raise DataError(f"{shown(root)} exists and holds something else; name an empty or new folder.")
        mirror = os.environ.get("BENCH_DATA_MIRROR")
        zipped = archive.fetch(
            f"{mirror.rstrip('/')}/NuInsSeg.zip" if mirror else URL,
            root.parent / "NuInsSeg.zip",
            size_bytes=None if mirror else SIZE_BYTES,
            sha256=os.environ.get("BENCH_DATA_SHA256"),
        )
        archive.unpack(zipped, root, _is_needed)


def _is_needed(path: PurePosixPath) -> bool:
    """Return whether a file is an image, a label map or a vague area; the other folders are derived from them."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return False
    folders = path.parts[:-1]
    return (
        folders[-1:] == (layout.IMAGES,)
        or folders[-1:] == (layout.LABELS,)
        or folders[-2:] == ("vague areas", "mask binary")
    )


register(NuInsSeg())
