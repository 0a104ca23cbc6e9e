"""Types and defaults of a strategy's options, read from its function's annotations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from registry import strategies, strategy_options
from registry.errors import StrategyError

if TYPE_CHECKING:
    from fractions import Fraction

    from registry.sam import Sam

Schedule = Literal["cosine", "constant", 3]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Register a function as a strategy for one test, under the function's name."""
    strategies.names()
    store = strategies._store
    monkeypatch.setattr(store, "_entries", dict(store._entries))
    monkeypatch.setattr(store, "_sources", dict(store._sources))

    def add(apply: Callable[..., None]) -> None:
        strategies.register(apply.__name__, summary="", source="", encoder_lr=1e-3)(apply)

    return add


def test_types_are_the_annotations_with_names_resolved(register: Callable[..., None]) -> None:
    def many(
        sam: Sam,
        *,
        tokens: tuple[int, ...],
        rank: int | None = None,
        scale: Annotated[float, "of the branch"] = 0.5,
        schedule: Schedule = "cosine",
        bias=False,
    ) -> None: ...

    register(many)
    assert strategies.option_types("many") == {
        "rank": int | None,
        "scale": Annotated[float, "of the branch"],
        "schedule": Schedule,
        "bias": bool,
    }
    assert strategies.options("many") == {"rank": None, "scale": 0.5, "schedule": "cosine", "bias": False}


def test_types_of_the_strategies_that_come_with_the_program() -> None:
    assert strategies.option_types("lora_qv") == {"rank": int, "last_blocks": int}
    assert strategies.option_types("adapter") == {"reduction": int, "scale": float, "last_blocks": int}
    assert strategies.option_types("full") == {}


def test_a_wrapped_a_partial_and_a_callable_object_have_options_too() -> None:
    def plain(sam: Sam, *, tokens: tuple[int, ...], schedule: Schedule = 3, rank: int | None = None) -> None: ...

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    class Strategy:
        def __call__(self, sam: Sam, *, tokens: tuple[int, ...], rank: int | None = None) -> None: ...

    assert strategy_options.read("s", wrapped) == {"schedule": (Schedule, 3), "rank": (int | None, None)}
    assert strategy_options.read("s", functools.partial(wrapped, rank=4))["rank"] == (int | None, 4)
    assert strategy_options.read("s", Strategy()) == {"rank": (int | None, None)}


def test_options_without_a_known_type_are_refused_when_they_are_registered(register: Callable[..., None]) -> None:
    def bare(sam, *, tokens, rank=None): ...

    def wrong(sam, *, tokens, rank: int = None): ...  # noqa: RUF013

    def absent(sam, *, tokens, rank: int): ...

    def unresolved(sam, *, tokens, share: Fraction | None = None): ...

    with pytest.raises(StrategyError, match=r"option 'rank' of strategy 'bare' has the default None and no annotation"):
        register(bare)
    with pytest.raises(StrategyError, match=r"'wrong' has the default None, which is not of type int; write it as in"):
        register(wrong)
    with pytest.raises(StrategyError, match=r"option 'rank' of strategy 'absent' has no default; write it as in `rank"):
        register(absent)
    message = r"the annotation 'Fraction \| None' of option 'share' .* can't be resolved \(name 'Fraction' is not defi"
    with pytest.raises(StrategyError, match=message):
        register(unresolved)
    assert not {"bare", "wrong", "absent", "unresolved"} & set(strategies.names())


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (4, int, True),
        (4.0, int, False),
        (True, int, False),
        ("4", int, False),
        (4, float, True),
        (True, float, False),
        (None, int | None, True),
        (None, int, False),
        ("cosine", Schedule, True),
        (3, Schedule, True),
        ("3", Schedule, False),
        (True, Literal[1], False),
        ([1, 2], tuple[int, ...], True),
        ("ab", tuple[str, ...], False),
        (0.5, Annotated[float | None, "x"], True),
        (object(), Any, True),
    ],
)
def test_values_are_compared_with_types(value: Any, kind: Any, expected: bool) -> None:
    assert strategy_options.fits(value, kind) is expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int | None, "int or none"),
        (Schedule, "cosine or constant or 3"),
        (Annotated[float, "x"], "float"),
        (list[int], "list[int]"),
        (Literal["a", None], "a or none"),
    ],
)
def test_types_in_words(kind: Any, text: str) -> None:
    assert strategy_options.spell(kind) == text


def test_a_value_of_another_type_is_not_applied() -> None:
    from registry import backbones

    with pytest.raises(StrategyError, match=r"option 'rank' of strategy 'lora_qv' is '4'; it must be of type int\."):
        strategies.apply("lora_qv", backbones.build("sam_nano", 64), rank="4")
