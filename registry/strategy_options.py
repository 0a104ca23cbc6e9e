"""Options of a strategy: the keyword-only parameters of its function, with their types and defaults."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from registry.errors import StrategyError

EXAMPLE = "write it as in `rank: int | None = None`"


def read(strategy: str, apply: Callable[..., None]) -> dict[str, tuple[Any, Any]]:
    """Return the type and the default of each option.

    Args:
        strategy: the name for messages.
        apply: the strategy's function; all its keyword-only parameters but `tokens` are options.

    Returns:
        (type, default) by name. The type is the annotation, with names resolved; that of the default where there is
        no annotation.

    Raises:
        StrategyError: an option without default, an annotation that can't be resolved, or a default of None whose
            annotation is missing or does not allow None.
    """
    options: dict[str, tuple[Any, Any]] = {}
    for parameter in inspect.signature(apply).parameters.values():
        name, default = parameter.name, parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY or name == "tokens":
            continue
        option = f"option {name!r} of strategy {strategy!r}"
        if default is parameter.empty:
            raise StrategyError(f"{option} has no default; {EXAMPLE}.")
        if parameter.annotation is not parameter.empty:
            kind = _resolved(parameter.annotation, apply, option)
        elif default is None:
            raise StrategyError(f"{option} has the default None and no annotation, so its type is unknown; {EXAMPLE}.")
        else:
            kind = type(default)
        if default is None and not fits(None, kind):
            raise StrategyError(f"{option} has the default None, which is not of type {spell(kind)}; {EXAMPLE}.")
        options[name] = (kind, default)
    return options


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of an annotated type. An int is a float, a bool is no number, a list may be a tuple."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, part) for part in arguments)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    plain = origin or kind
    if plain in (list, tuple):  # JSON knows lists only
        return isinstance(value, list | tuple)
    try:
        return isinstance(value, plain)
    except TypeError:  # Any, a type variable, a protocol: nothing that a value can be compared with
        return True


def spell(kind: Any) -> str:
    """Return a type in words: ``int or none``, ``'cosine' or 'constant'``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return spell(arguments[0])
    if origin is typing.Literal:
        return " or ".join("none" if choice is None else str(choice) for choice in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(spell(part) for part in arguments)
    if kind in (None, type(None)):
        return "none"
    return str(kind) if arguments else str(getattr(kind, "__name__", kind))


def misfits(strategy: str, given: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each value that is not of its option's type; options of other strategies are ignored."""
    return [
        f"option {name!r} of strategy {strategy!r} is {value!r}; it must be of type {spell(kinds[name])}."
        for name, value in given.items()
        if name in kinds and not fits(value, kinds[name])
    ]


def _resolved(annotation: Any, apply: Callable[..., None], option: str) -> Any:
    # One by one: other parameters may name types that are imported for type checkers only.
    holder = types.SimpleNamespace(__annotations__={"option": annotation})
    try:
        return typing.get_type_hints(holder, globalns=_globals(apply), include_extras=True)["option"]
    except Exception as error:  # whatever evaluating the text of an annotation raises
        raise StrategyError(
            f"the annotation {annotation!r} of {option} can't be resolved ({error}); import its names at the top of "
            "the module, not under TYPE_CHECKING."
        ) from error


def _globals(apply: Any) -> dict[str, Any]:
    function = inspect.unwrap(apply)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not hasattr(function, "__globals__"):  # an object that is called
        function = inspect.unwrap(type(function).__call__)
    return dict(getattr(function, "__globals__", {}))
