"""Stratum: runs of two methods that differ in nothing but the method, e.g. on one backbone with one seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.errors import BenchError
from bench.report.methods import OWN, Method, partner_columns, setting_text, varying


@dataclass(frozen=True)
class Stratum:
    """Runs of both methods that differ in nothing but the method.

    Attributes:
        label: backbone or strategy, settings and seed, as far as there are several.
        a: runs of the first.
        b: runs of the second.
    """

    label: str
    a: pd.DataFrame
    b: pd.DataFrame


def strata(a: Method, b: Method) -> tuple[list[Stratum], list[str]]:
    """Return what two methods share, and notes on what only one of them has.

    Raises:
        BenchError: they share nothing, or several settings of one could be meant.
    """
    columns = partner_columns(a, b)
    classical = a.classical or b.classical  # the same beside every backbone and strategy
    sides = [_by_partner(method, [] if method.classical else columns) for method in (a, b)]
    if classical:
        others = set(sides[0]) | set(sides[1]) if not columns else set(sides[1] if a.classical else sides[0])
        sides = [
            dict.fromkeys(others, side[()]) if method.classical else side
            for method, side in zip((a, b), sides, strict=True)
        ]
    shared = [partner for partner in sides[0] if partner in sides[1]]
    notes = []
    for method, side, other in ((a, sides[0], sides[1]), (b, sides[1], sides[0])):
        alone = [" ".join(partner) for partner in side if partner not in other]
        if alone:
            notes.append(f"Only {method.name} has runs with {listed(alone)}.")
    if not shared:
        what = " or ".join(columns) or "setting"
        raise BenchError(" ".join([f"{a.name!r} and {b.name!r} share no {what}.", *notes]))
    parts: list[Stratum] = []
    for partner in shared:
        parts += _by_settings(a, b, sides[0][partner], sides[1][partner], " ".join(partner), notes)
    return parts, notes


def _by_partner(method: Method, columns: Sequence[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    if not columns:
        return {(): method.ok}
    return {(str(name),): runs for name, runs in method.ok.groupby(columns[0], sort=True)}


def _by_settings(
    a: Method, b: Method, a_runs: pd.DataFrame, b_runs: pd.DataFrame, label: str, notes: list[str]
) -> Iterator[Stratum]:
    """Split the runs of one partner by settings that vary on a side, then by seed."""
    keys = [name for name in dict.fromkeys([*varying(a_runs), *varying(b_runs)]) if not name.startswith(OWN)]
    groups = [_by_texts(runs, keys) for runs in (a_runs, b_runs)]
    shared = [values for values in groups[0] if values in groups[1]]
    if not shared:
        raise BenchError(
            f"{a.name!r} and {b.name!r} have no value of {listed(keys)} in common; choose with "
            f"{a.name},{keys[0]}={setting_text(a_runs[keys[0]].iloc[0])}."
        )
    for values in shared:
        sides = groups[0][values], groups[1][values]
        for method, runs in zip((a, b), sides, strict=True):
            left = varying(runs)
            if left:
                options = " or ".join(sorted(set(runs[left[0]].map(setting_text))))
                raise BenchError(
                    f"{method.name!r} has runs with several values of {listed(left)}; choose with "
                    f"{method.name},{left[0]}=VALUE, where VALUE is {options}."
                )
        named = [label, *(f"{key}={value}" for key, value in zip(keys, values, strict=True))]
        yield from _by_seed(a, b, sides, " ".join(part for part in named if part), notes)


def _by_texts(runs: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    texts = [tuple(setting_text(value) for value in values) for values in runs[list(keys)].itertuples(index=False)]
    return {values: runs[[text == values for text in texts]] for values in dict.fromkeys(texts)}


def _by_seed(
    a: Method, b: Method, sides: tuple[pd.DataFrame, pd.DataFrame], label: str, notes: list[str]
) -> Iterator[Stratum]:
    seeds = [sorted(set(runs["seed"].map(setting_text))) for runs in sides]
    common = [seed for seed in seeds[0] if seed in seeds[1]]
    trained = all(bool(runs["trains"].all()) for runs in sides)
    if seeds[0] != seeds[1] and (not common or not trained):
        # A method that learns nothing is the same with any seed; and a difference of seeds is not one of methods.
        if trained:
            notes.append(f"{a.name} has seed {listed(seeds[0])}, {b.name} {listed(seeds[1])}: averaged, not paired.")
        yield Stratum(label, *sides)
        return
    for method, own in zip((a, b), seeds, strict=True):
        alone = [seed for seed in own if seed not in common]
        if alone:
            notes.append(f"Only {method.name} has seed {listed(alone)}: left out.")
    for seed in common:
        chosen = [runs[runs["seed"].map(setting_text) == seed] for runs in sides]
        several = f"seed {seed}" if len(common) > 1 else ""
        yield Stratum(" ".join(part for part in (label, several) if part), *chosen)


def listed(names: Iterable[str]) -> str:
    """Return names as a phrase: a, b and c."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
