"""Images of a grid's dataset: made, missing, and errors of a plug-in's own code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import PluginError
from bench.submission import images
from registry import cache_dir, datasets
from registry.errors import DataError
from registry.release import Release
from registry.store import Store


@pytest.fixture
def register() -> Iterator[Any]:
    """Register a dataset of given methods for one test."""
    datasets.names()
    store = next(s for s in Store._stores if s._kind == "dataset")
    saved = dict(store._entries)

    def call(**members: Any) -> None:
        members = {"name": "mine", "summary": "", "published_images": None, "prepare": lambda root: None} | members
        datasets.register(SimpleNamespace(**members))  # type: ignore[arg-type]

    yield call
    store._entries = saved


def test_a_key_error_of_a_plug_in_is_reported_with_its_line(register: Any, tmp_path: Path) -> None:
    def samples(root):
        return {"images": 1}["tiles"]

    register(samples=samples)
    found = images.find("mine", tmp_path, ahead=False)
    (problem,) = found.problems
    line = samples.__code__.co_firstlineno + 1
    assert problem == (
        f"the dataset 'mine' can't list its images in {tmp_path}: KeyError: 'tiles' ({__file__}, line {line})."
    )
    assert found.samples == () and found.digest == ""


def test_an_error_while_a_dataset_is_made_is_reported(register: Any, monkeypatch, tmp_path: Path) -> None:
    def prepare(root):
        raise RuntimeError("no brush")

    monkeypatch.setattr(cache_dir, "data", lambda name: tmp_path / name)
    register(prepare=prepare, release=Release(made_here=True), samples=lambda root: ())
    (problem,) = images.find("mine", None, ahead=True).problems
    assert problem.startswith(
        f"the dataset 'mine' can't list its images in {tmp_path / 'mine'}: RuntimeError: no brush"
    )


def test_only_what_is_made_here_is_made_unasked(register: Any, monkeypatch, tmp_path: Path) -> None:
    made: list[Path] = []
    monkeypatch.setattr(cache_dir, "data", lambda name: tmp_path / name)
    register(prepare=made.append, samples=lambda root: ())
    images.find("mine", None, ahead=False)
    assert made == []
    monkeypatch.setattr(datasets.get("mine"), "release", Release(made_here=True), raising=False)
    images.find("mine", tmp_path, ahead=False)  # a folder of the user's own stays as it is
    assert made == []
    images.find("mine", None, ahead=False)
    assert made == [tmp_path / "mine"]


def test_missing_images_are_absent_in_a_plan_made_ahead_and_a_problem_otherwise(
    register: Any, monkeypatch, tmp_path: Path
) -> None:
    def samples(root):
        raise DataError("nothing there")

    monkeypatch.setattr(cache_dir, "data", lambda name: tmp_path / name)
    register(samples=samples, published_images=665)
    ahead = images.find("mine", None, ahead=True)
    assert (ahead.absent, ahead.problems, ahead.n_images) == (("nothing there",), (), 665)
    now = images.find("mine", None, ahead=False)
    assert (now.absent, now.problems) == ((), ("nothing there",))
    given = images.find("mine", tmp_path / "typo", ahead=True)
    assert (given.absent, given.problems) == ((), ("nothing there",))


def test_an_error_of_a_plug_in_while_runs_are_executed_is_a_sentence_too(register: Any, tmp_path: Path) -> None:
    def samples(root):
        raise ValueError("two\nlines")

    register(samples=samples)
    with pytest.raises(PluginError) as caught:
        images.samples("mine", tmp_path)
    line = samples.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"the dataset 'mine' can't list its images in {tmp_path}: ValueError: two lines ({__file__}, line {line})."
    )


def test_an_unknown_dataset_is_no_problem_of_its_images(tmp_path: Path) -> None:
    assert images.find("nuinseg", tmp_path, ahead=False) == images.DatasetImages(tmp_path)
