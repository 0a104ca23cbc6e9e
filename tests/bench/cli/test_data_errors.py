"""Errors of a plug-in dataset's own code in `bench data check` and `bench data fetch`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cli import files
from bench.errors import PluginError
from registry import datasets
from registry.store import Store


@pytest.fixture
def line() -> Iterator[int]:
    """Register a dataset whose methods fail; the line on which they do."""

    def fail(root: Path) -> None:
        raise KeyError("tiles")

    datasets.names()
    store = next(s for s in Store._stores if s._kind == "dataset")
    saved = dict(store._entries)
    broken = SimpleNamespace(name="broken", summary="", check=fail, prepare=fail, samples=fail)
    datasets.register(broken)  # type: ignore[arg-type]
    yield fail.__code__.co_firstlineno + 1
    store._entries = saved


def test_an_error_while_a_dataset_is_checked_is_a_sentence(line: int, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        files.data_check(tmp_path, dataset="broken")
    assert str(caught.value) == (
        f"the dataset 'broken' can't check its images in {tmp_path}: KeyError: 'tiles' ({__file__}, line {line})."
    )


def test_an_error_while_a_dataset_is_fetched_is_a_sentence(line: int, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        files.data_fetch("broken", data=tmp_path)
    assert str(caught.value) == (
        f"the dataset 'broken' can't be fetched to {tmp_path}: KeyError: 'tiles' ({__file__}, line {line})."
    )
