"""``--set KEY=VALUE``: texts → typed settings. Lists of values are the business of `sweeps`."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from bench.errors import PlanError
from bench.grid import Settings
from bench.planning.values import parse
from registry import strategies
from registry.errors import unknown
from registry.strategy_options import spell


def apply(settings: Settings, assignments: Sequence[str], grid_strategies: Sequence[str] = ()) -> Settings:
    """Return the settings with ``KEY=VALUE`` texts applied, one value each.

    Args:
        settings: of the grid.
        assignments: the texts, as `--set` takes them.
        grid_strategies: strategies whose options decide the types of ``strategy.OPTION``; all if it is empty.

    Raises:
        PlanError: every unknown key, ill-typed value, and key that is set twice.
    """
    text_by_key, problems = read(assignments)
    for key, text in text_by_key.items():
        try:
            settings = _assign(settings, key.split("."), text, key, grid_strategies)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise PlanError(problems)
    return settings


def read(assignments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the text of each key, and a sentence for each text without ``=`` and each key that is set twice."""
    problems: list[str] = []
    texts_by_key: dict[str, list[str]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if equals:
            texts_by_key.setdefault(key.strip(), []).append(text.strip())
        else:
            problems.append(f"--set {assignment!r} has no '='; write KEY=VALUE, e.g. train.epochs=20.")
    for key, texts in texts_by_key.items():
        if len(texts) > 1:
            different = list(dict.fromkeys(texts))
            several = f" To plan each of these values, write {key}={','.join(different)}." if different[1:] else ""
            problems.append(
                f"{key} is set {'twice' if len(texts) == 2 else f'{len(texts)} times'}: {' and '.join(texts)}. "
                f"Give it once.{several}"
            )
    return {key: texts[0] for key, texts in texts_by_key.items() if len(texts) == 1}, problems


def setting_types() -> dict[str, Any]:
    """Return the type of every key of `Settings`; options of strategies are not among them."""
    types_by_key: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(Settings).items():
        if is_dataclass(kind):
            types_by_key |= {f"{name}.{inner}": hint for inner, hint in typing.get_type_hints(kind).items()}
        elif name != "strategy":
            types_by_key[name] = kind
    return types_by_key


def option_types(option: str, grid_strategies: Sequence[str]) -> dict[str, Any]:
    """Return the types of an option by strategy: of the grid's strategies, or of all if none of these has it."""
    every = {name: strategies.option_types(name) for name in strategies.names()}
    kinds = {name: types_[option] for name, types_ in every.items() if option in types_}
    return {name: kind for name, kind in kinds.items() if name in grid_strategies} or kinds


def setting_names() -> dict[str, str]:
    """Return every key that `--set` takes, with its type, its default and its meaning."""
    names = _described(Settings())
    having: dict[str, dict[str, list[str]]] = {}
    for name in strategies.names():
        kinds = strategies.option_types(name)
        for option, default in strategies.options(name).items():
            described = f"{spell(kinds[option])}, default {value_text(default)}"
            having.setdefault(option, {}).setdefault(described, []).append(name)
    for option, texts in having.items():
        names[f"strategy.{option}"] = "; ".join(f"{text}: of {', '.join(owners)}" for text, owners in texts.items())
    return names


def unknown_setting(key: str) -> str:
    """Return the sentence for a key that `--set` does not take, with the nearest match: ``strategy.rank`` for ``rank``.

    Keys with the same last component come first; a key without a dot is compared with last components.
    """
    names = setting_names()
    sentence = unknown("setting", key, names)
    short = key.rpartition(".")[2]
    near = [name for name in names if name.rpartition(".")[2] == short]
    if not near and "." not in key:
        closest = difflib.get_close_matches(key, [name.rpartition(".")[2] for name in names], n=1, cutoff=0.5)
        near = [name for name in names if name.rpartition(".")[2] in closest]
    if not near:
        return sentence
    known = sentence.partition(" Known: ")[2]
    return f"unknown setting {key!r}. Did you mean {' or '.join(map(repr, near))}? Known: {known}"


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
            names[f"{prefix}{name}"] = f"{spell(kind)}, default {value_text(value)}: {meaning}"
    return names


def value_text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _assign(settings: Any, path: Sequence[str], text: str, full: str, grid_strategies: Sequence[str]) -> Any:
    kinds = typing.get_type_hints(type(settings))
    head, *rest = path
    if head == "strategy" and rest:
        option = ".".join(rest)
        if option not in strategy_options():
            raise ValueError(unknown_setting(full))
        value = _strategy_value(text, option, full, grid_strategies)
        return replace(settings, strategy={**settings.strategy, option: value})
    if head not in {f.name for f in fields(settings)} or is_dataclass(kinds[head]) != bool(rest) or head == "strategy":
        raise ValueError(unknown_setting(full))
    inner = getattr(settings, head)
    if rest:
        return replace(settings, **{head: _assign(inner, rest, text, full, grid_strategies)})
    if kinds[head] is str and "," in text:  # a name; a strategy's option may be a text with commas
        raise ValueError(f"{full}={text} gives several values; here it takes a single name.")
    return replace(settings, **{head: parse(text, kinds[head], full)})


def _strategy_value(text: str, option: str, key: str, grid_strategies: Sequence[str]) -> Any:
    """Parse a text by the types that the option has (see `option_types`)."""
    kinds = option_types(option, grid_strategies)
    values: dict[str, Any] = {}
    errors: list[str] = []
    for name, kind in kinds.items():
        try:
            values[name] = parse(text, kind, key)
        except ValueError as error:
            errors.append(str(error))
    if not values:
        raise ValueError(" ".join(dict.fromkeys(errors)))
    if len({(type(value), value) for value in values.values()}) > 1:
        meanings = ", ".join(f"{value!r} for {name} ({spell(kinds[name])})" for name, value in values.items())
        raise ValueError(f"{key}={text!r} is {meanings}; put these strategies into grids of their own.")
    return next(iter(values.values()))


def strategy_options() -> Mapping[str, Any]:
    """Return all options that any registered strategy has, with their defaults."""
    return {key: value for name in strategies.names() for key, value in strategies.options(name).items()}
