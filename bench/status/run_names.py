"""Names of runs on the command line: an id, its beginning, or BACKBONE/STRATEGY[,KEY=VALUE…]/FOLD."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.grid import named_settings
from bench.results import plans, record
from bench.results.index import Index
from bench.units import setting_text
from registry.errors import unknown

FORM = "BACKBONE/STRATEGY[,KEY=VALUE...]/FOLD"
MOST_NAMED = 12
_CONDITION = re.compile(r",(?=[\w.\- ]+=)")
"""A comma before KEY=; values may hold other commas."""


def find(results: Path, text: str) -> str:
    """Return the id of the run that a text names.

    Args:
        results: the results folder.
        text: an id, the beginning of one, or BACKBONE/STRATEGY/FOLD; conditions on settings stand after the strategy:
            ``mobile_sam/lora_qv,strategy.rank=4,seed=1/2``.

    Raises:
        BenchError: no such run, with the nearest ones; or several, which are listed with the settings that differ.
    """
    known = record.folders(results)
    if text in known:  # by far the most frequent, and no plan needs to be read
        return text
    runs = {run.id: run.as_dict() for plan in plans.read_all(results) for run in plan.runs}
    if "/" in text:
        return _by_name(results, text, runs)
    ids = sorted(run_id for run_id in known | runs.keys() if text and run_id.startswith(text))
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise BenchError(f"{text!r} is the beginning of several runs:{_listed(ids, runs)}")
    near = difflib.get_close_matches(text, known | runs.keys(), n=3, cutoff=0.5)
    raise BenchError(
        f"no run {text!r} in {results}; give an id, its beginning, or {FORM}."
        + (f" The nearest:{_listed(near, runs)}" if near else "")
    )


def settings(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a run as they are typed, by their names in `--set`; all but backbone, strategy and fold.

    Args:
        run: plain values, as in the block ``run`` of a record.
    """
    apart = ("backbone", "strategy", "fold", "options", "train", "neutral_options")
    values = {name: value for name, value in run.items() if name not in apart}
    return {name: setting_text(value) for name, value in {**values, **named_settings(run)}.items()}


def _by_name(results: Path, text: str, runs: dict[str, dict[str, Any]]) -> str:
    row, _, fold = text.rpartition("/")
    pair, *conditions = (part.strip() for part in _CONDITION.split(row))
    name = f"{pair}/{fold}"
    ids = [run_id for run_id, run in runs.items() if _name(run) == name]
    names = {_name(run) for run in runs.values()}
    if not ids:  # results of an older version, or of a plan that is gone
        index = Index(results)
        index.refresh()
        named = {entry.id: f"{entry.backbone}/{entry.strategy}/{entry.fold}" for entry in index.entries.values()}
        names |= set(named.values())
        records = (record.read_or_none(results, run_id) for run_id, own in named.items() if own == name)
        runs = {stored.id: dict(stored.run) for stored in records if stored is not None}
        ids = list(runs)
    if not ids:
        near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        raise BenchError(f"no run {text!r} in {results}; write {FORM}.{guess}")
    chosen = fulfilling(text, conditions, {run_id: settings(runs[run_id]) for run_id in ids})
    if len(chosen) > 1:
        raise BenchError(f"{text} names several runs; add what differs, or give the id of one:{_listed(chosen, runs)}")
    return chosen[0]


def fulfilling(text: str, conditions: Sequence[str], settings_by_id: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the ids of the runs that have the settings of all conditions.

    Args:
        text: the whole name, for errors.
        conditions: KEY=VALUE each.
        settings_by_id: see `settings`.

    Raises:
        BenchError: no run has such a setting, or this value of it beside the values before; with the nearest ones.
    """
    ids = list(settings_by_id)
    known = list(dict.fromkeys(key for values in settings_by_id.values() for key in values))
    for condition in conditions:
        key, equals, value = (part.strip() for part in condition.partition("="))
        if not equals or key not in known:
            longer = [name for name in known if name.endswith(f".{key}")]
            if longer:
                raise BenchError(f"{text!r}: unknown setting {key!r}. Did you mean {' or '.join(map(repr, longer))}?")
            raise BenchError(f"{text!r}: {unknown('setting', key, known)} A condition is KEY=VALUE.")
        values = sorted({settings_by_id[run_id].get(key, "–") for run_id in ids})
        ids = [run_id for run_id in ids if settings_by_id[run_id].get(key) == value]
        if not ids:
            raise BenchError(f"{text!r}: {unknown(f'value of {key}', value, values)}")
    return ids


def _listed(ids: Sequence[str], runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each id with the name by which the run is found, conditions included."""
    lines = []
    for run_id in ids[:MOST_NAMED]:
        name = _full_name(runs[run_id], runs.values()) if run_id in runs else ""
        lines.append(f"\n  {run_id}  {name}".rstrip())
    if len(ids) > MOST_NAMED:
        lines.append(f"\n  … and {len(ids) - MOST_NAMED} more")
    return "".join(lines)


def _full_name(run: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> str:
    """Return BACKBONE/STRATEGY/FOLD, with conditions where runs of this pair and fold differ in settings."""
    own = settings(run)
    alike = [settings(other) for other in runs if _name(other) == _name(run)]
    differing = [key for key in own if any(other.get(key) != own[key] for other in alike)]
    conditions = "".join(f",{key}={own[key]}" for key in sorted(differing, key=lambda key: key == "seed"))
    return f"{run['backbone']}/{run['strategy']}{conditions}/{run['fold']}"


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['backbone']}/{run['strategy']}/{run['fold']}"
