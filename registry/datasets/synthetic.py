"""Synthetic H&E: procedural tissue in NuInsSeg's layout, for tests, demonstrations and dry runs.

Scores on it prove that the harness works; they say nothing of real tissue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from registry import layout, pairs, pixels
from registry.contract import CheckReport, LabelMap, Sample
from registry.datasets import register
from registry.errors import DataError
from registry.names import name_problem, shown
from registry.release import Release
from registry.whole_folder import filling, require_empty

OBTAIN = "bench data synth DIR"
RELEASE = Release(obtain=OBTAIN, made_here=True, real_tissue=False)
MOST_ORGANS = 31


class Synthetic:
    """The dataset; see `registry.contract.Dataset`. Its files are read as NuInsSeg's are."""

    name = "synthetic"
    summary = "procedural H&E in NuInsSeg's layout, made here (proves the harness, nothing else)"
    published_images: int | None = None
    release = RELEASE

    def samples(self, root: Path) -> tuple[Sample, ...]:
        """Return all samples, sorted by stem; raises `DataError` that lists every problem of the layout at once."""
        return layout.samples(root, obtain=OBTAIN)

    def read(self, sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
        """Return the RGB image and the int32 label map; raises `DataError` for anything else on disk."""
        return pairs.read(sample)

    def check(self, root: Path) -> CheckReport:
        """Read everything and report, per organ, what is there, missing or broken; never raises `DataError`."""
        return pairs.check(root, release=RELEASE)

    def prepare(self, root: Path) -> None:
        """Write the default set (24 images, 256 × 256 pixels, 4 organs) if `root` is missing or empty."""
        root = Path(root)
        if _is_filled(root):
            return
        try:
            write(root)
        except DataError:
            if not _is_filled(root):  # or else another process has just written the very same
                raise


def _is_filled(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


def write(
    root: Path,
    *,
    n_images: int = 24,
    image_size: int = 256,
    organs: int = 4,
    seed: int = 0,
    nuclei: tuple[int, int] = (15, 60),
) -> None:
    """Paint a dataset below `root`: whole or not at all. The same arguments give the same bytes.

    An image depends on the seed, its organ and its number there only: asking for more changes none.

    Args:
        root: a folder that does not exist yet, or is empty.
        n_images: number of images, dealt to the organs in turn.
        image_size: side in pixels.
        organs: number of organs, each with stains and shapes of its own.
        seed: seed of all random numbers.
        nuclei: fewest and most nuclei on 256 × 256 pixels; other sizes in proportion to their area.

    Raises:
        DataError: a folder that holds something, or a number out of range.
    """
    root = Path(root)
    _require_valid(n_images, image_size, organs, seed, nuclei)
    if reason := name_problem(str(root)):
        raise DataError(f"no synthetic dataset can be made in {shown(root)}: the folder {reason}")
    require_empty(root)
    try:
        with filling(root) as temporary:
            for index in range(n_images):
                organ, number = index % organs + 1, index // organs + 1
                _write_sample(temporary, organ, number, image_size, seed, nuclei)
    except OSError as error:
        raise DataError(f"the images could not be written to {shown(root)}: {error}.") from error


def _write_sample(folder: Path, organ: int, number: int, image_size: int, seed: int, nuclei: tuple[int, int]) -> None:
    from registry import painter  # SciPy would slow every command that only lists what is there

    look = painter.tissue(np.random.default_rng([seed, organ]))
    rng = np.random.default_rng([seed, organ, number])
    n_nuclei = round(int(rng.integers(nuclei[0], nuclei[1] + 1)) * (image_size / 256) ** 2)
    image, label_map = painter.paint(rng, look, size=image_size, n_nuclei=n_nuclei)
    base, stem = folder / f"synthetic organ {organ:02d}", f"synthetic_organ_{organ:02d}_{number:04d}"
    for name in (layout.IMAGES, layout.LABELS):
        (base / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(base / layout.IMAGES / f"{stem}.png")
    pixels.write_label(base / layout.LABELS / f"{stem}.tif", label_map)


def _require_valid(n_images: int, image_size: int, organs: int, seed: int, nuclei: tuple[int, int]) -> None:
    wrong = []
    if not 1 <= organs <= MOST_ORGANS:
        wrong.append(f"organs is {organs}, allowed are 1…{MOST_ORGANS}")
    if n_images < max(1, organs):
        wrong.append(f"n_images is {n_images}, needed are at least as many as organs ({organs})")
    if not 64 <= image_size <= 4096:
        wrong.append(f"image_size is {image_size} pixels, allowed are 64…4096")
    if seed < 0:
        wrong.append(f"seed is {seed}, allowed are 0, 1, 2, …")
    if not 0 <= nuclei[0] <= nuclei[1]:
        wrong.append(f"nuclei is {nuclei[0]}…{nuclei[1]}, needed is 0 ≤ fewest ≤ most")
    if wrong:
        raise DataError(f"no synthetic dataset can be made: {'; '.join(wrong)}.")


register(Synthetic())
