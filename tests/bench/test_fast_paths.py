"""Fast paths are chosen by name; unknown and contradictory names are refused together."""

from __future__ import annotations

import pytest

from bench import fast_paths
from bench.errors import PlanError


def test_default_paths_are_those_without_a_name_of_their_own() -> None:
    assert fast_paths.choose() == fast_paths.DEFAULT
    assert "compile" not in fast_paths.DEFAULT


def test_names_are_added_and_taken() -> None:
    chosen = fast_paths.choose(["compile"], fast_paths.split(["overlap, inference_form"]))
    assert chosen == (fast_paths.DEFAULT | {"compile"}) - {"overlap", "inference_form"}
    assert fast_paths.choose(without=["all"]) == frozenset()
    assert fast_paths.choose(["overlap"], ["all"]) == {"overlap"}
    assert fast_paths.choose(["all"]) == frozenset(fast_paths.FAST_PATHS)
    assert fast_paths.choose(["all"], ["compile"]) == frozenset(fast_paths.FAST_PATHS) - {"compile"}


def test_unknown_and_contradictory_names_are_refused_at_once() -> None:
    with pytest.raises(PlanError) as error:
        fast_paths.choose(["compile"], ["overlp", "compile"])
    text = str(error.value)
    assert "unknown fast path 'overlp'" in text and "overlap" in text
    assert "'compile' is given to --with and to --without" in text
