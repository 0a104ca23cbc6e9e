"""`--set KEY=VALUE`: keys that are set twice, and the nearest key."""

from __future__ import annotations

import pytest

from bench.errors import PlanError
from bench.grid import Settings
from bench.planning import overrides


def problems(*assignments: str) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        overrides.apply(Settings(), assignments)
    return caught.value.problems


def test_a_key_that_is_set_twice_is_an_error_with_both_values_and_the_list_to_write() -> None:
    assert problems("train.lr=0.1", "seed=1", "train.lr=0.2", "train.lr = 0.3") == (
        "train.lr is set 3 times: 0.1 and 0.2 and 0.3. Give it once. To plan each of these values, write "
        "train.lr=0.1,0.2,0.3.",
    )
    assert problems("seed=1", "seed=1") == ("seed is set twice: 1 and 1. Give it once.",)


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
