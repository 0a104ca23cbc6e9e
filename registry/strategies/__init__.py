"""Fine-tuning strategies by name. Add one by writing one file here: a function that changes a Sam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry import strategy_options
from registry.contract import Strategy
from registry.errors import StrategyError, unknown
from registry.store import Store

if TYPE_CHECKING:
    from registry.sam import Sam


@dataclass(frozen=True)
class Applied:
    """Strategy that was applied to a model.

    Attributes:
        name: of the strategy.
        tokens: mask tokens whose hypernetworks it may train.
        options: all its options, defaults included.
        added: number of parameters that it added to the backbone's.
    """

    name: str
    tokens: tuple[int, ...]
    options: Mapping[str, Any]
    added: int


_store: Store[Strategy] = Store("strategy", __name__, "bench.strategies")
_MARK = "applied_strategy"


def register(
    name: str,
    *,
    summary: str,
    source: str,
    encoder_lr: float | None = None,
    trains: bool = True,
    head: str | None = None,
    neutral: Mapping[str, Any] | None = None,
    freezes_encoder: bool = False,
    trains_encoder: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: register ``apply(sam, *, tokens, **options)``; the fields are those of `Strategy`.

    Raises:
        DuplicateNameError: a name that is taken.
        StrategyError: an option without default, or whose type is unknown; a neutral value that does not fit; an
            `encoder_lr` that is missing, out of range, or given where the encoder is frozen.
    """

    def add(apply: Callable[..., None]) -> Callable[..., None]:
        kinds = {option: kind for option, (kind, _) in strategy_options.read(name, apply).items()}
        for option in neutral or {}:
            if option not in kinds:
                raise StrategyError(unknown(f"option of strategy {name!r} in neutral:", option, kinds))
        if problems := strategy_options.misfits(name, neutral or {}, kinds):
            raise StrategyError("neutral: " + " ".join(problems))
        _check_rate(name, encoder_lr, trains_encoder_part=trains and not freezes_encoder)
        facts = (summary, source, encoder_lr, trains, head, dict(neutral or {}), freezes_encoder, trains_encoder)
        _store.add(name, Strategy(name, apply, *facts))
        return apply

    return add


def _check_rate(name: str, encoder_lr: float | None, *, trains_encoder_part: bool) -> None:
    if encoder_lr is None and trains_encoder_part:
        raise StrategyError(
            f"strategy {name!r} has no encoder_lr: give the peak learning rate of what it trains in the image encoder "
            "(5e-4, say), or freezes_encoder=True if that is nothing."
        )
    if encoder_lr is not None and not trains_encoder_part:
        raise StrategyError(
            f"strategy {name!r} trains nothing in the image encoder, so encoder_lr={encoder_lr} would not be used; "
            "leave it out. The rate of the decoder is train.lr, for every strategy."
        )
    if encoder_lr is not None and not 0 < encoder_lr <= 1:
        raise StrategyError(f"strategy {name!r}: encoder_lr is {encoder_lr}; it must be above 0 and at most 1.")


def names() -> tuple[str, ...]:
    """Return the names of all registered strategies."""
    return _store.names()


def get(name: str) -> Strategy:
    """Return a strategy; raises `UnknownNameError`."""
    return _store.get(name)


def options(name: str) -> dict[str, Any]:
    """Return the options of a strategy with their default values."""
    return {option: default for option, (_, default) in strategy_options.read(name, get(name).apply).items()}


def option_types(name: str) -> dict[str, Any]:
    """Return the options of a strategy with their types: the annotation, or the default's type where there is none."""
    return {option: kind for option, (kind, _) in strategy_options.read(name, get(name).apply).items()}


def option_problems(name: str, given: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each given value that is not of its option's type; ignores other strategies' options."""
    return strategy_options.misfits(name, given, option_types(name))


def apply(name: str, sam: Sam, *, tokens: tuple[int, ...] = (1, 2, 3), **given: Any) -> None:
    """Apply a strategy in place; afterwards exactly the trainable parameters have ``requires_grad``.

    Args:
        name: a registered strategy.
        sam: a model fresh from `backbones.build`.
        tokens: mask tokens that the head reads; hypernetworks of other tokens get no gradient and stay frozen.
        **given: options of the strategy, e.g. ``rank=4``.

    Raises:
        UnknownNameError: no such strategy.
        StrategyError: an option it does not have, a value of another type, a backbone it can't be applied to, or a
            model that carries a strategy already.
    """
    allowed = options(name)
    for key in given:
        if key not in allowed:
            raise StrategyError(unknown(f"option of strategy {name!r}", key, allowed))
    if problems := option_problems(name, given):
        raise StrategyError(" ".join(problems))
    earlier = applied(sam)
    if earlier is not None:
        raise StrategyError(
            f"strategy {name!r} can't be applied: the model carries {earlier.name!r} already; "
            "build a fresh one with backbones.build."
        )
    before = _size(sam)
    get(name).apply(sam, tokens=tokens, **given)
    # In __dict__, which nn.Module's attribute handling leaves alone and copies of the model take along.
    sam.__dict__[_MARK] = Applied(name, tuple(tokens), allowed | given, _size(sam) - before)


def applied(sam: Sam) -> Applied | None:
    """Return the strategy that was applied to a model; None for a fresh model."""
    mark: Applied | None = sam.__dict__.get(_MARK)
    return mark


def _size(sam: Sam) -> int:
    return sum(parameter.numel() for parameter in sam.parameters())
