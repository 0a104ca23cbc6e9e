"""Method: the runs that a name on the command line stands for, e.g. a row, or a strategy on all its backbones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from bench import units
from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.frame import RUN_KEYS, SECTION_KEYS
from registry.errors import unknown

Kind = Literal["row", "strategy", "backbone"]
NO_SETTING = "–"
NOT_SETTINGS = {"backbone", "strategy", "fold", "seed", *SECTION_KEYS}
OWN = ("train.lr", "train.encoder_lr", "train.tune", "train.batchnorm", "strategy.")
"""Starts of the settings that a strategy has of its own, so that they say nothing about another strategy."""


@dataclass(frozen=True)
class Method:
    """Runs that are compared as one.

    Attributes:
        name: as the user wrote it.
        kind: a row (BACKBONE/STRATEGY), a strategy on several backbones, or a backbone under several strategies.
        runs: all its records in one section, whatever their status.
    """

    name: str
    kind: Kind
    runs: pd.DataFrame

    @property
    def ok(self) -> pd.DataFrame:
        """Its runs that are done."""
        return self.runs[self.runs["status"] == "ok"]

    @property
    def classical(self) -> bool:
        """The pipeline without a network, which is the same beside every backbone and strategy."""
        return bool((self.runs["backbone"] == CLASSICAL).all())


def setting_columns(records: pd.DataFrame) -> list[str]:
    """Return the columns that hold settings of a method: all but its name, fold, seed and section."""
    names = [str(name) for name in records]
    return [
        name
        for name in names
        if (name in RUN_KEYS or name.startswith(("strategy.", "train.", "predict."))) and name not in NOT_SETTINGS
    ]


def setting_text(value: object) -> str:
    """Return the value of a setting as it is typed."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return NO_SETTING
    return units.setting_text(value)


def varying(runs: pd.DataFrame) -> list[str]:
    """Return the settings in which some runs differ."""
    return [name for name in setting_columns(runs) if runs[name].map(setting_text).nunique() > 1]


def find(records: pd.DataFrame, text: str) -> Method:
    """Return the method that a text names: BACKBONE/STRATEGY, BACKBONE or STRATEGY, then perhaps `,KEY=VALUE`…

    Args:
        records: a frame of records, of one section or all.
        text: e.g. ``sam_nano/lora_qv``, ``lora_qv``, ``sam_nano/lora_qv,strategy.rank=4``.

    Raises:
        BenchError: no record has that name or setting; the nearest ones are named.
    """
    name, *conditions = [part.strip() for part in text.split(",")]
    backbones, strategies = records["backbone"].astype(str), records["strategy"].astype(str)
    rows = backbones + "/" + strategies
    kind: Kind
    if name == CLASSICAL or (rows == name).any():
        kind, chosen = "row", (rows == name) | ((backbones == CLASSICAL) & (name == CLASSICAL))
    elif (strategies == name).any():
        kind, chosen = "strategy", strategies == name
    else:
        kind, chosen = "backbone", backbones == name
    if not chosen.any():
        known = rows if "/" in name else pd.concat([strategies, backbones])
        raise BenchError(unknown("row, strategy or backbone", name, sorted(set(known))))
    runs = records[chosen]
    for condition in conditions:
        runs = _narrowed(runs, condition, text)
    return Method(text, kind, runs)


def _narrowed(runs: pd.DataFrame, condition: str, text: str) -> pd.DataFrame:
    key, equals, value = condition.partition("=")
    known = [*setting_columns(runs), "seed", *({"backbone", "strategy"} & set(runs))]
    if not equals or key not in known:
        raise BenchError(f"{text!r}: {unknown('setting', key, known)} A condition is written KEY=VALUE.")
    texts = runs[key].map(setting_text)
    if not (texts == value).any():
        raise BenchError(f"{text!r}: {unknown(f'value of {key}', value, sorted(set(texts)))}")
    return runs[texts == value]


def rows(records: pd.DataFrame) -> list[Method]:
    """Return every row of a section: a backbone, a strategy and settings, with all its folds and seeds.

    Its name carries the settings that tell it from the other rows of its backbone and strategy, as `find` takes them.
    """
    methods = []
    for (backbone, strategy), runs in records.groupby(["backbone", "strategy"], sort=True):
        name = CLASSICAL if backbone == CLASSICAL else f"{backbone}/{strategy}"
        differing = varying(runs)
        if not differing:
            methods.append(Method(name, "row", runs))
            continue
        texts = runs[differing].map(setting_text)
        for values, part in runs.groupby([texts[key] for key in differing], sort=True):
            conditions = [f"{key}={value}" for key, value in zip(differing, values, strict=True)]
            methods.append(Method(",".join([name, *conditions]), "row", part))
    return methods


def partner_columns(a: Method, b: Method) -> list[str]:
    """Return the column over which two methods are paired: none for two rows.

    Raises:
        BenchError: a strategy against a backbone.
    """
    kinds = {a.kind, b.kind}
    if kinds == {"strategy", "backbone"}:
        raise BenchError(
            f"{a.name!r} is a {a.kind} and {b.name!r} a {b.kind}: nothing pairs them. Compare two strategies, two "
            "backbones, or rows as BACKBONE/STRATEGY."
        )
    return ["backbone"] if "strategy" in kinds else ["strategy"] if "backbone" in kinds else []


def check_comparable(methods: Sequence[Method]) -> None:
    """Refuse a strategy against a backbone, and two names that share runs.

    Raises:
        BenchError: names the two.
    """
    for place, method in enumerate(methods):
        for earlier in methods[:place]:
            partner_columns(earlier, method)
            both = set(method.runs["id"]) & set(earlier.runs["id"])
            if both:
                which = "is given twice" if earlier.name == method.name else f"shares runs with {earlier.name!r}"
                raise BenchError(f"{method.name!r} {which}; a comparison is of different runs.")
