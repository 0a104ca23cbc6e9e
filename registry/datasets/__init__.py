"""Datasets by name. Add one by writing one file in this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from registry.contract import Dataset, Sample
from registry.errors import DataError
from registry.store import Store

_store: Store[Dataset] = Store("dataset", __name__, "bench.datasets")


def register(dataset: Dataset) -> Dataset:
    """Register a dataset under its own name."""
    _store.add(dataset.name, dataset)
    return dataset


def names() -> tuple[str, ...]:
    """All registered datasets."""
    return _store.names()


def get(name: str) -> Dataset:
    """A dataset; raises `UnknownNameError`."""
    return _store.get(name)


def fingerprint(samples: Iterable[Sample]) -> str:
    """What data these are, byte for byte, so that scores on different data are never mixed.

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
                raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
        whole.update("\t".join((f"{sample.organ}/{sample.stem}", sample.group, *digests)).encode() + b"\n")
    return whole.hexdigest()
