"""Published release of a dataset: its folds, how to get it, and whether the images at hand are it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8


@dataclass(frozen=True)
class Release:
    """Published facts of a dataset; the defaults are those of a dataset without a release, or of unknown facts.

    Attributes:
        obtain: the command that downloads or makes the data; None where the user must see to it.
        made_here: `prepare` makes the data in seconds and without a download, so that a plan may call it unasked.
        real_tissue: False for made-up images, beside whose scores no published ones are drawn.
        n_splits: number of the official folds; None where there are none.
        fold_seed: their shuffling seed.
        folds: returns the official fold, numbered from 1, of every stem of the release; None where there are none.
        names_sha256: hex digest of the sorted lines "organ/stem" (without a last line break); None where the release
            has no fixed list of images.
        content: by stem, the digests (`content_digest`) of the decoded image and label map, as far as they are known.
    """

    obtain: str | None = None
    made_here: bool = False
    real_tissue: bool = True
    n_splits: int | None = None
    fold_seed: int | None = None
    folds: Callable[[], Mapping[str, int]] | None = None
    names_sha256: str | None = None
    content: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def has_folds(self, n_splits: int, fold_seed: int) -> bool:
        """Return whether these are the official folds; False where there are none."""
        return (n_splits, fold_seed) == (self.n_splits, self.fold_seed)


@dataclass(frozen=True)
class Verification:
    """Comparison of images with a release.

    Attributes:
        official: the names are the release's, and no file differs whose content is known.
        n_files: images and label maps compared by name.
        n_verified: those of them whose content is known and the same.
        differing: those whose content is known and another: ``"human_spleen_01 (labels)"``.
        detail: one sentence for people; empty for a dataset without a release.
        same_names: the names are the release's, whatever the content.
    """

    official: bool
    n_files: int = 0
    n_verified: int = 0
    differing: tuple[str, ...] = ()
    detail: str = ""
    same_names: bool = field(default=False, compare=False)


class Named(Protocol):
    """Anything with the name of an image: a `Sample`, a decoded image."""

    @property
    def stem(self) -> str: ...
    @property
    def organ(self) -> str: ...


class Decoded(Named, Protocol):
    """A decoded image with its label map."""

    @property
    def pixels(self) -> UInt8[np.ndarray, "h w 3"]: ...
    @property
    def label_map(self) -> Int[np.ndarray, "h w"]: ...


def content_digest(array: np.ndarray) -> str:
    """Return the SHA-256 (first 32 hex digits) of decoded values.

    It covers "height width", a line break, then the values as uint8 RGB or little-endian int32 labels: of values and
    not of files, because copies of a release (Zenodo, Kaggle) may hold the same values in other bytes.
    """
    stored = array if array.dtype == np.uint8 else array.astype("<i4")
    height, width = array.shape[:2]
    return hashlib.sha256(f"{height} {width}\n".encode() + np.ascontiguousarray(stored).tobytes()).hexdigest()[:32]


def names_digest(images: Iterable[Named]) -> str:
    """Return the digest that `Release.names_sha256` holds."""
    names = "\n".join(sorted(f"{image.organ}/{image.stem}" for image in images))
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def verify(release: Release, images: Iterable[Decoded]) -> Verification:
    """Compare images with a release: all names, and the content of those whose digests are known.

    Args:
        images: taken one by one, so that a generator need not hold them all.
    """
    names: list[_Name] = []
    differing: list[str] = []
    n_verified = 0
    for image in images:
        names.append(_Name(image.stem, image.organ))
        known = release.content.get(image.stem, (None, None))
        for what, expected, array in zip(("image", "labels"), known, (image.pixels, image.label_map), strict=True):
            if expected is None:
                continue
            if content_digest(array) == expected:
                n_verified += 1
            else:
                differing.append(f"{image.stem} ({what})")
    if release.names_sha256 is None:
        return Verification(False)
    n_files = 2 * len(names)
    same_names = names_digest(names) == release.names_sha256
    official = same_names and not differing
    detail = _detail(same_names, n_files, n_verified, differing)
    return Verification(official, n_files, n_verified, tuple(differing), detail, same_names)


@dataclass(frozen=True)
class _Name:
    stem: str
    organ: str


def _detail(same_names: bool, n_files: int, n_verified: int, differing: list[str]) -> str:
    if not same_names:
        if n_files and n_verified == n_files:
            return f"not the whole release: {n_files // 2} of its images, content as released"
        return "not the release: other images, or not all of them"
    if differing:
        shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        return f"not the release: names as released, but other content: {shown}"
    if not n_verified:
        return "names as released, content not verified"
    if n_verified == n_files:
        return "names and content as released"
    return f"names as released; content of {n_verified} of {n_files:,} files verified, of the others not"
