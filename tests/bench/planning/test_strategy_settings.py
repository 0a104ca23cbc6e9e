"""``--set strategy.OPTION=VALUE``: values by the types that strategies annotate."""

from __future__ import annotations

from typing import Literal

import pytest

from bench.errors import PlanError
from bench.grid import Grid, Settings
from bench.planning import overrides, plan
from registry import strategies


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Five strategies for one test; `size` is an int in one of them, a text in another, a fraction in a third."""
    strategies.names()
    store = strategies._store
    monkeypatch.setattr(store, "_entries", dict(store._entries))
    monkeypatch.setattr(store, "_sources", dict(store._sources))

    def soft(sam, *, tokens, rank: int | None = None, bias: bool = False, mode: Literal["a", "b"] | None = None): ...
    def sized(sam, *, tokens, size: int = 1, parts: tuple[str, ...] = ("q", "v"), level: Literal[1, 2] = 1): ...
    def named(sam, *, tokens, size: str = "small"): ...
    def scaled(sam, *, tokens, size: float = 0.5): ...
    def either(sam, *, tokens, amount: str | float | None = None): ...

    for function in (soft, sized, named, scaled, either):
        strategies.register(function.__name__, summary="", source="", encoder_lr=1e-3)(function)


def value_of(assignment, *grid_strategies):
    (value,) = overrides.apply(Settings(), [assignment], grid_strategies).strategy.values()
    return value


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("strategy.rank=none", None),
        ("strategy.rank=8", 8),
        ("strategy.bias=yes", True),
        ("strategy.mode=b", "b"),
        ("strategy.mode=none", None),
        ("strategy.level=2", 2),
        ("strategy.amount=8", 8.0),
        ("strategy.amount=much", "much"),
        ("strategy.amount=none", None),
    ],
)
def test_a_text_becomes_a_value_of_the_annotated_type(assignment, expected):
    value = value_of(assignment, "soft")
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("strategy.rank=x", "strategy.rank='x' is not of type int or none."),
        ("strategy.bias=maybe", "strategy.bias='maybe' is not of type bool."),
        ("strategy.mode=c", "unknown value for strategy.mode: 'c'. Known: a, b, none."),
        ("strategy.amount=nan", "strategy.amount='nan' is not a finite number."),
        ("strategy.parts=q", "strategy.parts is of type tuple[str, ...], which --set can't read; set it in a grid"),
    ],
)
def test_a_text_that_is_not_of_the_type_is_refused(assignment, message):
    with pytest.raises(PlanError) as raised:
        value_of(assignment, "soft")
    assert message in str(raised.value)


def test_types_and_defaults_are_listed():
    listed = overrides.setting_names()
    assert listed["strategy.rank"] == "int, default 4: of lora_all_linear, lora_qv; int or none, default none: of soft"
    assert listed["strategy.mode"] == "a or b or none, default none: of soft"
    assert listed["strategy.bias"] == "bool, default false: of soft"


@pytest.mark.parametrize(("strategy", "expected"), [("sized", 8), ("named", "8"), ("scaled", 8.0)])
def test_of_options_with_one_name_the_type_of_the_grids_strategy_counts(strategy, expected):
    value = value_of("strategy.size=8", strategy, "full")
    assert value == expected and type(value) is type(expected)


def test_a_text_with_two_meanings_in_one_grid_is_refused():
    with pytest.raises(PlanError) as raised:
        value_of("strategy.size=8", "sized", "named")
    assert "strategy.size='8' is 8 for sized (int), '8' for named (str); put these strategies into grids" in str(raised)
    assert value_of("strategy.size=big", "sized", "named") == "big"  # no int, so there is one meaning


def test_a_value_that_another_strategy_of_the_grid_cannot_take_is_a_problem_of_the_plan():
    grid = Grid("g", ("sam_nano",), ("soft", "lora_qv"), Settings(weights="random", strategy={"rank": None}))
    with pytest.raises(PlanError, match=r"option 'rank' of strategy 'lora_qv' is None; it must be of type int\."):
        plan.make(grid, "digest")


def test_none_reaches_the_run():
    settings = overrides.apply(Settings(weights="random"), ["strategy.rank=none"], ["soft"])
    run = plan.make(Grid("g", ("sam_nano",), ("soft",), settings), "digest").runs[-1]
    assert run.options == {"rank": None, "bias": False, "mode": None}
