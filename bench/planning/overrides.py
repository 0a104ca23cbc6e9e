"""``--set KEY=VALUE``: texts → typed settings."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

from bench.errors import PlanError
from bench.grid import Settings
from registry import strategies
from registry.errors import unknown
from registry.strategy_options import spell

TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def apply(settings: Settings, assignments: Sequence[str], grid_strategies: Sequence[str] = ()) -> Settings:
    """Apply ``KEY=VALUE`` texts; raises `PlanError` that lists every unknown or ill-typed one.

    Args:
        settings: of the grid.
        assignments: the texts, as `--set` takes them.
        grid_strategies: strategies whose options decide the types of ``strategy.OPTION``; all if it is empty.
    """
    problems: list[str] = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            if not equals:
                raise ValueError(f"--set {assignment!r} has no '='; write KEY=VALUE, e.g. train.epochs=20.")
            settings = _assign(settings, key.strip().split("."), text.strip(), key.strip(), grid_strategies)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise PlanError(problems)
    return settings


def setting_names() -> dict[str, str]:
    """Every key that `--set` takes, with its type, its default and what it means."""
    names = _described(Settings())
    having: dict[str, dict[str, list[str]]] = {}
    for name in strategies.names():
        kinds = strategies.option_types(name)
        for option, default in strategies.options(name).items():
            described = f"{spell(kinds[option])}, default {_text(default)}"
            having.setdefault(option, {}).setdefault(described, []).append(name)
    for option, texts in having.items():
        names[f"strategy.{option}"] = "; ".join(f"{text}: of {', '.join(owners)}" for text, owners in texts.items())
    return names


def _described(settings: Any, prefix: str = "") -> dict[str, str]:
    names: dict[str, str] = {}
    listed = (inspect.getdoc(type(settings)) or "").partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): ((?:.|\n(?!    \w+: ))+)", listed, re.MULTILINE))
    for name, kind in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if is_dataclass(kind):
            names |= _described(value, f"{name}.")
        elif name != "strategy":
            meaning = " ".join(meanings.get(name, "").replace("``", "").split())
            names[f"{prefix}{name}"] = f"{spell(kind)}, default {_text(value)}: {meaning}"
    return names


def _text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _assign(settings: Any, path: Sequence[str], text: str, full: str, grid_strategies: Sequence[str]) -> Any:
    kinds = typing.get_type_hints(type(settings))
    head, *rest = path
    if head == "strategy" and rest:
        option = ".".join(rest)
        if option not in strategy_options():
            raise ValueError(unknown("setting", full, setting_names()))
        value = _strategy_value(text, option, full, grid_strategies)
        return replace(settings, strategy={**settings.strategy, option: value})
    if head not in {f.name for f in fields(settings)} or is_dataclass(kinds[head]) != bool(rest) or head == "strategy":
        raise ValueError(unknown("setting", full, setting_names()))
    inner = getattr(settings, head)
    if rest:
        return replace(settings, **{head: _assign(inner, rest, text, full, grid_strategies)})
    return replace(settings, **{head: _parse(text, kinds[head], full)})


def _strategy_value(text: str, option: str, key: str, grid_strategies: Sequence[str]) -> Any:
    """Parse a text by the types that the option has: in the grid's strategies, or in all if none of these has it."""
    every = {name: strategies.option_types(name) for name in strategies.names()}
    kinds = {name: types_[option] for name, types_ in every.items() if option in types_}
    kinds = {name: kind for name, kind in kinds.items() if name in grid_strategies} or kinds
    values: dict[str, Any] = {}
    errors: list[str] = []
    for name, kind in kinds.items():
        try:
            values[name] = _parse(text, kind, key)
        except ValueError as error:
            errors.append(str(error))
    if not values:
        raise ValueError(" ".join(dict.fromkeys(errors)))
    if len({(type(value), value) for value in values.values()}) > 1:
        meanings = ", ".join(f"{value!r} for {name} ({spell(kinds[name])})" for name, value in values.items())
        raise ValueError(f"{key}={text!r} is {meanings}; put these strategies into grids of their own.")
    return next(iter(values.values()))


def _parse(text: str, kind: Any, key: str) -> Any:
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


def strategy_options() -> Mapping[str, Any]:
    """All options that any registered strategy has, with their defaults."""
    return {key: value for name in strategies.names() for key, value in strategies.options(name).items()}
