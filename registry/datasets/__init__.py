"""Datasets by name. Add one by writing one file in this folder."""

from __future__ import annotations

from registry.contract import Dataset
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
