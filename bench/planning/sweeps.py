"""Sweeps: settings that take several values, from a grid file or from ``--set KEY=A,B,C``; changes one at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.errors import PlanError
from bench.grid import Grid, Settings, TrainSettings, operational_values
from bench.planning import overrides
from bench.units import plural
from registry.strategy_options import fits, spell

BRACKETS = {"[": "]", "(": ")"}
SINGLE = {
    "dataset": "a plan is about one set of images",
    "folds.n_splits": "a plan is about one number of folds",
    **{f"train.{name}": "it changes no result, and so no run's id" for name in operational_values(TrainSettings)},
}
"""Keys that a sweep may not have, with the reason."""


def apply(grid: Grid, assignments: Sequence[str]) -> tuple[Grid, list[str]]:
    """Return the grid with ``KEY=VALUE`` texts in its settings and ``KEY=A,B,C`` texts in its sweep, and the problems.

    Either replaces the grid's own sweep of that key. A problem is a sentence for each unknown key, ill-typed value and
    key that is set twice; the grid has all other values, so that these can be checked further.
    """
    text_by_key, problems = overrides.read(assignments)
    settings, sweep = grid.settings, dict(grid.sweep)
    for key, text in text_by_key.items():
        try:
            settings = overrides.apply(settings, [f"{key}={text}"], grid.strategies)
            sweep.pop(key, None)
        except PlanError as error:  # the text as a whole is no value of the setting
            parts = _parts(text)
            values, wrong = _parsed(key, text, parts, grid.strategies) if len(parts) > 1 else ([], error.problems)
            problems += wrong
            if values:
                sweep[key] = _without_repetition(values)
    return replace(grid, settings=settings, sweep=sweep), problems


def expand(grid: Grid) -> list[Grid]:
    """Return a grid with one choice of settings for each combination of the swept values; the last key varies fastest.

    The settings of a combination as they are come first, then each of the grid's changes of them.

    Args:
        grid: its sweep and changes have no `problems`.
    """
    columns = [[(key, value) for value in _values(grid, key, grid.sweep[key])] for key in grid.sweep]
    changes = [[(key, _values(grid, key, (value,))[0]) for key, value in change.items()] for change in grid.changes]
    return [
        replace(grid, settings=_changed(grid.settings, [*row, *change]), sweep={}, changes=())
        for row in itertools.product(*columns)
        for change in ([], *changes)
    ]


def problems(grid: Grid) -> list[str]:
    """Return a sentence for everything that is wrong with sweep and changes; ranges of values are checked elsewhere."""
    sentences = _problems_of_changes(grid)
    known = overrides.setting_names() if grid.sweep else {}
    for key, values in grid.sweep.items():
        if key not in known:
            sentences.append(overrides.unknown_setting(key))
        elif key in SINGLE:
            sentences.append(_single(key))
        elif not isinstance(values, tuple | list | range) or not values:
            sentences.append(f"the sweep of {key} is {values!r}; write a tuple of values, e.g. {_example(values)}.")
        else:
            sentences += [
                f"the sweep of {key} holds {value!r}; {text}" for value in values if (text := _misfit(value, key))
            ]
    return sentences


def _problems_of_changes(grid: Grid) -> list[str]:
    if not isinstance(grid.changes, tuple | list) or not all(isinstance(change, Mapping) for change in grid.changes):
        return [f'changes is {grid.changes!r}; write a tuple: changes=({{"train.ema": 0.99}},).']
    known = overrides.setting_names() if grid.changes else {}
    sentences: list[str] = []
    for key, value in [item for change in grid.changes for item in change.items()]:
        if key not in known:
            sentences.append(overrides.unknown_setting(key))
        elif key in SINGLE:
            sentences.append(_single(key))
        elif text := _misfit(value, key):
            sentences.append(f"a change of {key} is {value!r}; {text}")
    return sentences


def describe(grid: Grid) -> str:
    """Return the swept values in a line, ``strategy.rank 1, 4, 8 × seed 0, 1: 6 settings``; empty without a sweep.

    Changes follow: ``each as it is and with one change: train.ema=0.99; head=watershed``.
    """
    parts: list[str] = []
    if grid.sweep:
        swept = {
            key: [overrides.value_text(value) for value in _values(grid, key, grid.sweep[key])] for key in grid.sweep
        }
        count = math.prod(len(values) for values in swept.values())
        factors = [f"{key} {', '.join(values)}" for key, values in swept.items()]
        parts.append(f"{' × '.join(factors)}: {plural(count, 'setting')}")
    if grid.changes:
        texts = [", ".join(f"{key}={overrides.value_text(value)}" for key, value in c.items()) for c in grid.changes]
        parts.append(f"each as it is and with one change: {'; '.join(texts)}")
    return ", ".join(parts)


def _misfit(value: Any, key: str) -> str:
    """Return what a value must be; empty if it is that. The types of options are checked strategy by strategy."""
    if isinstance(value, float) and not math.isfinite(value):
        return "it must be a finite number."
    kind = overrides.setting_types().get(key)
    return f"it must be of type {spell(kind)}." if kind is not None and not fits(value, kind) else ""


def _single(key: str) -> str:
    return (
        f"{key} can't take several values: {SINGLE[key]}. Give one command per value; they can share a results folder."
    )


def _parts(text: str) -> list[str]:
    """Return the values of a list: ``1,4``, ``[1, 4]`` or ``(1, 4)``."""
    if len(text) > 1 and BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1]
    return [part.strip() for part in text.split(",")]


def _parsed(key: str, text: str, parts: Sequence[str], strategies: Sequence[str]) -> tuple[list[Any], Sequence[str]]:
    """Return the typed values of a list, and a sentence for everything that is wrong with it."""
    if key in SINGLE:
        return [], [_single(key)]
    if "" in parts:
        return [], [f"--set {key}={text} has an empty value; write {key}={','.join(filter(None, parts))}."]
    values: list[Any] = []
    sentences: list[str] = []
    for part in parts:
        try:
            values.append(_value(overrides.apply(Settings(), [f"{key}={part}"], strategies), key))
        except PlanError as error:
            sentences += error.problems
    return values, list(dict.fromkeys(sentences))  # an unknown key is named once


def _value(settings: Settings, key: str) -> Any:
    first, _, rest = key.partition(".")
    inner = getattr(settings, first)
    return inner if not rest else inner[rest] if first == "strategy" else getattr(inner, rest)


def _changed(settings: Settings, values: Sequence[tuple[str, Any]]) -> Settings:
    for key, value in values:
        first, _, rest = key.partition(".")
        if first == "strategy":
            settings = replace(settings, strategy={**settings.strategy, rest: value})
        else:
            change: dict[str, Any] = {first: replace(getattr(settings, first), **{rest: value}) if rest else value}
            settings = replace(settings, **change)
    return settings


def _values(grid: Grid, key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return values of a key, each once; whole numbers become floats where the setting is one.

    `--set scale=2` gives 2.0, and the id of a run that was done so must not differ from that of a grid file's 2.
    """
    if key.startswith("strategy."):
        kinds = list(overrides.option_types(key.partition(".")[2], grid.strategies).values())
    else:
        kinds = [overrides.setting_types()[key]]
    is_float = all(fits(0.5, kind) for kind in kinds)
    return _without_repetition([float(value) if is_float and type(value) is int else value for value in values])


def _without_repetition(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple({(type(value), repr(value)): value for value in values}.values())


def _example(values: Any) -> str:
    return f"({values!r},)" if isinstance(values, str | int | float) else "(1, 4, 8)"
