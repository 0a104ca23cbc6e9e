"""`--only KEY=A,B`: parts of a grid, and what a grid does not have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import PlanError
from bench.planning import plan, selection
from bench.planning.problems import fold_list


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ((1, 2, 3, 4, 5), "folds 1 to 5"),
        ((1, 3), "folds 1 and 3"),
        ((1, 2), "folds 1 and 2"),
        ((1, 3, 5), "folds 1, 3 and 5"),
        ((4,), "fold 4"),
    ],
)
def test_folds_in_words(folds: tuple[int, ...], words: str) -> None:
    assert fold_list(folds) == words


def test_a_fold_outside_of_a_grid_with_gaps_lists_its_folds() -> None:
    grid = replace(plan.load_grid("default"), folds=(1, 3))
    with pytest.raises(PlanError, match=r"^--only fold=2: this grid has folds 1 and 3\.$"):
        selection.narrow(grid, ["fold=2"])
    assert selection.narrow(grid, ["fold=3"]).folds == (3,)


def test_a_part_of_a_grid_is_kept_and_unknown_parts_are_refused():
    default = plan.load_grid("default")
    narrowed = selection.narrow(default, ["backbone=mobile_sam,tiny_sam", "strategy=full", "fold=2,5"])
    assert (narrowed.backbones, narrowed.strategies, narrowed.folds) == (("mobile_sam", "tiny_sam"), ("full",), (2, 5))
    with pytest.raises(PlanError) as caught:
        selection.narrow(default, ["backbone=mobilesam", "fold=9", "organ=liver"])
    assert [p.split(";")[0] for p in caught.value.problems][1:] == [
        "--only fold=9: this grid has folds 1 to 5.",
        "--only 'organ=liver': write backbone=A,B or strategy=A,B or fold=1,2.",
    ]
    assert "grid 'default': unknown backbone 'mobilesam'. Did you mean 'mobile_sam'?" in caught.value.problems[0]


def test_values_of_one_key_given_apart_add_up():
    default = plan.load_grid("default")
    both = selection.narrow(default, ["backbone=mobile_sam", "backbone=tiny_sam", "fold=3,1", "fold=1"])
    assert (both.backbones, both.folds) == (("mobile_sam", "tiny_sam"), (1, 3))
