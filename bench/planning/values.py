"""Texts of the command line → values of a type."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from registry.errors import unknown
from registry.strategy_options import spell

TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def parse(text: str, kind: Any, key: str) -> Any:
    """Return the value of a text.

    Args:
        text: as it was given.
        kind: a type, a Literal, or a union of such.
        key: the setting, for the error.

    Raises:
        ValueError: a text of another type, or a type that no text can give.
    """
    try:
        value = _converted(text, kind)
    except ValueError:
        if choices := _choices(kind):
            raise ValueError(unknown(f"value for {key}:", text, choices)) from None
        raise ValueError(f"{key}={text!r} is not of type {spell(kind)}.") from None
    except TypeError:
        raise ValueError(f"{key} is of type {spell(kind)}, which --set can't read; set it in a grid file.") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}={text!r} is not a finite number.")
    return value


def _converted(text: str, kind: Any) -> Any:
    """Return the value of a text; raises ValueError where it has none, TypeError for a type that is not supported."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _converted(text, arguments[0])
    if origin in (types.UnionType, typing.Union):
        for part in sorted(arguments, key=lambda part: part is str):  # every text is a str, so that comes last
            with suppress(ValueError):
                return _converted(text, part)
        raise ValueError
    if origin is typing.Literal:
        return _looked_up(text, _choices(kind))
    if kind in (None, type(None)):
        return _looked_up(text.lower(), {"none": None})
    if kind is bool:
        return _looked_up(text.lower(), TRUTH)
    if kind in (int, float, str):
        return kind(text)
    raise TypeError


def _looked_up(text: str, values: Mapping[str, Any]) -> Any:
    if text not in values:
        raise ValueError
    return values[text]


def _choices(kind: Any) -> dict[str, Any]:
    """Return the values of a Literal by their texts, also of one that may be none; empty for other types."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return {"none" if a is None else str(a).lower() if isinstance(a, bool) else str(a): a for a in arguments}
    if typing.get_origin(kind) in (types.UnionType, typing.Union) and type(None) in arguments and len(arguments) == 2:
        choices = _choices(next(part for part in arguments if part is not type(None)))
        return choices | {"none": None} if choices else {}
    return {}
