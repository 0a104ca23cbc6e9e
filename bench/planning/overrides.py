"""``--set KEY=VALUE``: texts → typed settings."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from bench.errors import PlanError
from bench.grid import Settings
from registry import strategies
from registry.errors import unknown


def apply(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Apply ``KEY=VALUE`` texts; raises `PlanError` that lists every unknown or ill-typed one."""
    problems: list[str] = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            if not equals:
                raise ValueError(f"--set {assignment!r} has no '='; write KEY=VALUE, e.g. train.epochs=20.")
            settings = _assign(settings, key.strip().split("."), text.strip(), key.strip())
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise PlanError(problems)
    return settings


def setting_names() -> dict[str, str]:
    """Every key that `--set` takes, with its type, its default and what it means."""
    names = _described(Settings())
    for key, value in strategy_options().items():
        having = [name for name in strategies.names() if key in strategies.options(name)]
        names[f"strategy.{key}"] = f"{type(value).__name__}, default {value}: of {', '.join(having)}"
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
            shown = "none" if value is None else str(value).lower() if isinstance(value, bool) else value
            meaning = " ".join(meanings.get(name, "").replace("``", "").split())
            names[f"{prefix}{name}"] = f"{_spell(kind)}, default {shown}: {meaning}"
    return names


def _assign(settings: Any, path: Sequence[str], text: str, full: str) -> Any:
    kinds = typing.get_type_hints(type(settings))
    head, *rest = path
    if head == "strategy" and rest:
        options, option = strategy_options(), ".".join(rest)
        if option not in options:
            raise ValueError(unknown("setting", full, setting_names()))
        default = options[option]
        value = _parse(text, str if default is None else type(default), full)
        return replace(settings, strategy={**settings.strategy, option: value})
    if head not in {f.name for f in fields(settings)} or is_dataclass(kinds[head]) != bool(rest) or head == "strategy":
        raise ValueError(unknown("setting", full, setting_names()))
    inner = getattr(settings, head)
    return replace(settings, **{head: _assign(inner, rest, text, full) if rest else _parse(text, kinds[head], full)})


def _parse(text: str, kind: Any, key: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(unknown(f"value for {key}:", text, typing.get_args(kind)))
        return text
    truth = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    try:
        value = truth[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ValueError(f"{key}={text!r} is not of type {_spell(kind)}.") from None
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        raise ValueError(f"{key}={text!r} is not a finite number.")
    return value


def _spell(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join("none" if k is type(None) else _spell(k) for k in typing.get_args(kind))
    return str(getattr(kind, "__name__", kind))


def strategy_options() -> Mapping[str, Any]:
    """All options that any registered strategy has, with their defaults."""
    return {key: value for name in strategies.names() for key, value in strategies.options(name).items()}
