"""Datasets by name. Add one by writing one file in this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from registry.contract import Dataset, Sample
from registry.errors import DataError, UnknownNameError
from registry.names import shown
from registry.release import Decoded, Release, Verification
from registry.release import verify as _verify
from registry.store import Store

_store: Store[Dataset] = Store("dataset", __name__, "bench.datasets")


def register(dataset: Dataset) -> Dataset:
    """Register a dataset under its own name."""
    _store.add(dataset.name, dataset)
    return dataset


def names() -> tuple[str, ...]:
    """Return the names of all registered datasets."""
    return _store.names()


def get(name: str) -> Dataset:
    """Return a dataset; raises `UnknownNameError`."""
    return _store.get(name)


def release(dataset: Dataset | str) -> Release:
    """Return the published facts of a dataset: its attribute `release`, or neutral ones where it has none.

    Args:
        dataset: a dataset, or its name; a name that is not registered here (records of another computer may hold one)
            has neutral facts, too.
    """
    if isinstance(dataset, str):
        try:
            dataset = get(dataset)
        except UnknownNameError:
            return Release()
    return getattr(dataset, "release", None) or Release()


def official_folds(stems: Collection[str], *, n_splits: int, fold_seed: int) -> dict[str, int] | None:
    """Return the official folds of images that are all of one registered dataset's release, or None.

    Args:
        stems: of the images: the whole release or a part of it.
        n_splits: number of folds; None is returned unless it is that of the release.
        fold_seed: shuffling seed, likewise.
    """
    for name in names():
        published = release(name)
        if published.folds is None or not published.has_folds(n_splits, fold_seed):
            continue
        known = published.folds()
        if all(stem in known for stem in stems):
            return {stem: known[stem] for stem in stems}
    return None


def verify(dataset: Dataset | str, images: Iterable[Decoded]) -> Verification:
    """Compare decoded images with the release of a dataset (see `registry.release.verify`)."""
    return _verify(release(dataset), images)


def fingerprint(samples: Iterable[Sample]) -> str:
    """Return a digest of names, groups and bytes, so that scores on different data are never mixed.

    Returns:
        SHA-256 (hex) over one line for each sample, in the order of the stems:
        ``organ/stem<TAB>group<TAB>sha256(image file)<TAB>sha256(label file)``.

    Raises:
        DataError: a file that can't be read.
    """
    whole = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.stem):
        digests = []
        for path in (sample.image_path, sample.label_path):
            try:
                with path.open("rb") as file:
                    digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            except OSError as error:
                raise DataError(f"{shown(path)} can't be read: {error.strerror or error}.") from error
        line = "\t".join((f"{sample.organ}/{sample.stem}", sample.group, *digests)) + "\n"
        whole.update(line.encode("utf-8", "surrogateescape"))  # a dataset of a third party may allow such names
    return whole.hexdigest()
