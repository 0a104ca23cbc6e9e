"""`--set KEY=VALUE`: lists of values, keys that are set twice, and the nearest key."""

from __future__ import annotations

import pytest

from bench.errors import PlanError
from bench.grid import Settings
from bench.planning import overrides

SWEEPS = "sweeps are not supported yet, so give one command per value; they can share a results folder"


def problems(*assignments: str) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        overrides.apply(Settings(), assignments)
    return caught.value.problems


@pytest.mark.parametrize(
    "assignment",
    [
        "strategy.rank=1,4,8",
        "strategy.rank=[1, 4, 8]",
        "train.lr=1e-3,none",
        "train.augment=true,false",
        "weights=random,official",
        "train.schedule=cosine, polynomial",
        "dataset=synthetic,nuinsseg",
        "head=distance,watershed",
    ],
)
def test_several_values_are_an_error_in_words(assignment: str) -> None:
    assert problems(assignment) == (f"{assignment} gives several values; {SWEEPS}.",)


def test_a_list_with_a_wrong_value_is_of_the_wrong_type() -> None:
    assert problems("strategy.rank=1,four") == ("strategy.rank='1,four' is not of type int.",)


def test_a_key_that_is_set_twice_is_an_error_with_both_values() -> None:
    assert problems("train.lr=0.1", "seed=1", "train.lr=0.2", "train.lr = 0.3") == (
        f"train.lr is set 3 times: 0.1 and 0.2 and 0.3. Give it once; {SWEEPS}.",
    )
    assert problems("seed=1", "seed=1") == (f"seed is set twice: 1 and 1. Give it once; {SWEEPS}.",)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("rank", "'strategy.rank'"),
        ("lr", "'train.lr'"),
        ("n_splits", "'folds.n_splits'"),
        ("epoch", "'train.epochs'"),
        ("rnk", "'strategy.rank'"),
        ("train.rank", "'strategy.rank'"),
        ("train.seed", "'seed' or 'folds.seed'"),
        ("train.epoch", "'train.epochs'"),
        ("strategy.rnk", "'strategy.rank'"),
    ],
)
def test_the_nearest_key_has_the_same_last_component(key: str, nearest: str) -> None:
    (problem,) = problems(f"{key}=8")
    assert problem.startswith(f"unknown setting {key!r}. Did you mean {nearest}? Known: dataset, head, weights, ")


def test_a_key_like_no_other_has_no_suggestion() -> None:
    (problem,) = problems("zzz=8")
    assert problem.startswith("unknown setting 'zzz'. Known: dataset, ")
