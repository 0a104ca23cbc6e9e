"""Fine-tuning strategies by name. Add one by writing one file in this folder: a function that changes a Sam in place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from registry.contract import Strategy
from registry.errors import StrategyError, unknown
from registry.store import Store

if TYPE_CHECKING:
    from registry.sam import Sam

_store: Store[Strategy] = Store("strategy", __name__, "bench.strategies")


def register(
    name: str, *, summary: str, source: str, lr: float, trains: bool = True, head: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: register ``apply(sam, *, tokens, **options)``; the fields are those of `Strategy`."""

    def add(apply: Callable[..., None]) -> Callable[..., None]:
        _store.add(name, Strategy(name, apply, summary, source, lr, trains, head))
        return apply

    return add


def names() -> tuple[str, ...]:
    """All registered strategies."""
    return _store.names()


def get(name: str) -> Strategy:
    """A strategy; raises `UnknownNameError`."""
    return _store.get(name)


def options(name: str) -> dict[str, Any]:
    """The options of a strategy with their default values."""
    parameters = inspect.signature(get(name).apply).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "tokens"}


def apply(name: str, sam: Sam, *, tokens: tuple[int, ...] = (1, 2, 3), **given: Any) -> None:
    """Apply a strategy in place; afterwards exactly the trainable parameters have ``requires_grad``.

    Args:
        name: a registered strategy.
        sam: a model fresh from `backbones.build`.
        tokens: the mask tokens a head reads; the other tokens' hypernetworks get no gradient and stay frozen.
        **given: options of the strategy, e.g. ``rank=4``.

    Raises:
        UnknownNameError: no such strategy.
        StrategyError: an option it does not have, or a backbone it can't be applied to.
    """
    allowed = options(name)
    for key in given:
        if key not in allowed:
            raise StrategyError(unknown(f"option of strategy {name!r}", key, allowed))
    get(name).apply(sam, tokens=tokens, **given)
