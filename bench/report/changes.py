"""Change: a row that differs from a base row in exactly one setting, and what that is worth on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from bench.errors import BenchError
from bench.grid import CLASSICAL, TrainSettings, neutral_values
from bench.report.methods import Method, setting_columns, setting_text
from bench.report.paired import SCORES, Pairing, ScoreFiles, pair
from bench.report.strata import listed
from bench.report.tests_of_difference import Resampled, resample
from bench.results.measurement import HELD_SECONDS
from registry.errors import unknown

Verdict = Literal["better", "worse", "mixed", "not shown"]
SECONDARY = tuple(score for score in SCORES if score != "pq")
STEPS = ("train_steps", "refit_steps")


@dataclass(frozen=True)
class Difference:
    """Mean difference of a score, changed minus base, with the percentiles of its resamples. Fractions."""

    mean: float
    interval: Resampled

    @property
    def sign(self) -> int:
        """+1 or −1 where the 95 % interval leaves out zero; else 0."""
        return int(self.interval.low > 0) - int(self.interval.high < 0)


@dataclass(frozen=True)
class Change:
    """A row with one setting changed.

    Attributes:
        setting: name in ``--set``.
        before: its value in the base row, as it is typed.
        after: in this row.
        pairing: both rows on the same images; the first is this row.
        differences: by score.
        runs: of this row.
        n_seeds: seeds that both rows have.
    """

    setting: str
    before: str
    after: str
    pairing: Pairing
    differences: Mapping[str, Difference]
    runs: pd.DataFrame
    n_seeds: int

    @property
    def verdict(self) -> Verdict:
        """``better`` if PQ rises, and neither AJI nor Dice falls, by intervals that leave out zero.

        ``worse`` if PQ falls, ``mixed`` if PQ rises while another score falls; ``not shown`` where PQ's interval holds
        zero.
        """
        if self.differences["pq"].sign <= 0:
            return "worse" if self.differences["pq"].sign else "not shown"
        return "mixed" if any(self.differences[score].sign < 0 for score in SECONDARY) else "better"


@dataclass(frozen=True)
class Ablation:
    """A base row and the changes of it.

    Attributes:
        base: the row.
        settings: of the base row by name, as they are typed.
        changes: by the difference in PQ, the largest first.
        notes: sentences on rows that are no single change, or can't be compared.
    """

    base: Method
    settings: Mapping[str, str]
    changes: Sequence[Change]
    notes: Sequence[str] = field(default_factory=tuple)


def with_neutral_values(records: pd.DataFrame) -> pd.DataFrame:
    """Return records in which runs of earlier versions have the values that stand for what the program did then."""
    known = {f"train.{name}": value for name, value in neutral_values(TrainSettings).items()}
    filled = records.copy()
    for name in [name for name in known if name in records and known[name] is not None]:
        absent = filled[name].isna() & filled["trains"].astype(bool)
        filled[name] = filled[name].astype(object).mask(absent, known[name])
    return filled


def ablations(records: pd.DataFrame, conditions: Sequence[str], files: ScoreFiles) -> list[Ablation]:
    """Return an ablation for each backbone and strategy of one section that has a base row with changes.

    Args:
        records: of one section.
        conditions: ``KEY=VALUE`` texts that a base row meets; without them, the base row is that from which most
            other rows differ in one setting.
        files: scores per image.

    Raises:
        BenchError: a condition of no known setting, or several rows that could be the base.
        RecordError: scores of an image are missing or damaged.
    """
    records = with_neutral_values(records)
    wanted = dict(_condition(text, setting_columns(records)) for text in conditions)
    found = []
    for (backbone, strategy), runs in records[records["backbone"] != CLASSICAL].groupby(["backbone", "strategy"]):
        rows = _rows(runs, f"{backbone}/{strategy}")
        base = _base(rows, wanted, f"{backbone}/{strategy}")
        if base is not None and len(rows) > 1:
            found.append(_ablation(base, rows, files))
    return [ablation for ablation in found if ablation.changes or ablation.notes]


@dataclass(frozen=True)
class _Row:
    """Runs of one choice of settings, with these as texts."""

    method: Method
    settings: Mapping[str, str]

    def differing(self, other: _Row) -> list[str]:
        return [name for name, value in self.settings.items() if value != other.settings[name]]


def _rows(runs: pd.DataFrame, name: str) -> list[_Row]:
    names = setting_columns(runs)
    texts = runs[names].map(setting_text)
    return [
        _Row(Method(name, "row", runs.loc[part.index]), dict(part.iloc[0]))
        for _, part in texts.groupby(names, sort=True)
    ]


def _condition(text: str, known: Sequence[str]) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or key not in known:
        raise BenchError(f"--base {text!r}: {unknown('setting', key, known)} Write KEY=VALUE.")
    return key, value


def _base(rows: Sequence[_Row], wanted: Mapping[str, str], name: str) -> _Row | None:
    """Return the base row; None where no row meets the conditions, or no two rows differ in one setting alone."""
    fitting = [row for row in rows if all(_is_same(row.settings[key], value) for key, value in wanted.items())]
    n_changes = [sum(len(row.differing(other)) == 1 for other in rows) for row in fitting]
    if not any(n_changes):
        return None
    best = [row for row, n in zip(fitting, n_changes, strict=True) if n == max(n_changes)]
    if len(best) > 1:
        differing = list(dict.fromkeys(key for row in best for key in row.differing(best[0])))
        values = {key: listed(sorted({row.settings[key] for row in best})) for key in differing}
        texts = "; ".join(f"{key} is {text}" for key, text in values.items())
        raise BenchError(
            f"{len(best)} rows of {name} could be the base ({texts}); choose with --base {differing[0]}=VALUE."
        )
    return best[0]


def _is_same(shown: str, typed: str) -> bool:
    """Return True if both texts are the same value: 0.0 and 0, True and true."""
    try:
        return float(shown) == float(typed)
    except ValueError:
        return shown.lower() == typed.lower()


def _ablation(base: _Row, rows: Sequence[_Row], files: ScoreFiles) -> Ablation:
    changes, notes = [], []
    for row in rows:
        differing = row.differing(base)
        label = ", ".join(f"{key}={row.settings[key]}" for key in differing)
        if len(differing) > 1:
            notes.append(f"Left out, because several settings differ from the base: {label}.")
        if len(differing) != 1:
            continue
        try:
            changes.append(_change(differing[0], base, row, label, files))
        except BenchError as error:
            notes.append(f"Not compared: {label}. {error}")
    changes.sort(key=lambda change: change.differences["pq"].mean, reverse=True)
    return Ablation(base.method, base.settings, changes, tuple(notes))


def _change(setting: str, base: _Row, row: _Row, label: str, files: ScoreFiles) -> Change:
    pairing = pair(Method(label, "row", row.method.runs), Method("base", "row", base.method.runs), files)
    organs = pairing.images["organ"].tolist()
    values = {score: pairing.difference(score) for score in SCORES}
    differences = {score: Difference(float(value.mean()), resample(value, organs)) for score, value in values.items()}
    before, after = base.settings[setting], row.settings[setting]
    seeds = set(row.method.ok["seed"]) & set(base.method.ok["seed"])
    return Change(setting, before, after, pairing, differences, row.method.runs, max(1, len(seeds)))


def mean_steps(runs: pd.DataFrame) -> float | None:
    """Return the mean number of optimiser steps of the runs that are done, of both trainings; None if unknown."""
    ok = runs[runs["status"] == "ok"]
    known = ok[[name for name in STEPS if name in ok]].apply(pd.to_numeric)
    mean = known.sum(axis=1).mean()
    return float(mean) if mean > 0 else None


def mean_seconds(runs: pd.DataFrame) -> float | None:
    """Return the mean seconds of training and evaluation of the runs that are done; None where one is unknown."""
    ok = runs[runs["status"] == "ok"]
    known = ok[[name for name in HELD_SECONDS if name in ok]].apply(pd.to_numeric)
    if ok.empty or known.isna().all(axis=1).any():
        return None
    return float(known.sum(axis=1).mean())
