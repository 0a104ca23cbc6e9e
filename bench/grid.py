"""Grid, and the Runs that it stands for; its settings are in `bench.settings`. Plain data, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from bench.settings import FoldSettings as FoldSettings
from bench.settings import PredictSettings as PredictSettings
from bench.settings import Settings as Settings
from bench.settings import TrainSettings as TrainSettings
from bench.settings import neutral as neutral
from bench.settings import neutral_values as neutral_values
from bench.settings import operational as operational
from bench.settings import operational_values as operational_values


@dataclass(frozen=True)
class Grid:
    """An experiment: every backbone × strategy × fold under the same settings.

    Attributes:
        name: the file's name.
        backbones: registered backbones.
        strategies: registered strategies.
        settings: shared by all runs.
        folds: the folds to run; None runs all.
        classical: also score the classical pipeline (no learning) on the same folds.
        summary: first line of the grid file's docstring.
        plugins: folders or .py files that register further names, relative to the grid file: ``("./my_methods",)``.
            They never enter a run's id: two codes that answer differently need two names.
        sweep: values of settings, by the names that `--set` takes: ``{"strategy.rank": (1, 4, 8), "seed": (0, 1)}``.
            Every combination is planned, in place of the one value in `settings`. A run holds its own values only, so
            its id is the same as without a sweep.
        changes: settings that are changed one at a time: ``({"train.ema": 0.99}, {"head": "watershed"})`` plans the
            settings as they are, and beside them each change alone, so that `bench ablation` tells what it is worth.
            With a sweep, every combination of it has all changes.
    """

    name: str
    backbones: tuple[str, ...]
    strategies: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    folds: tuple[int, ...] | None = None
    classical: bool = True
    summary: str = ""
    plugins: tuple[str, ...] = ()
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """Numbers of the folds that are run."""
        return self.folds or tuple(range(1, self.settings.folds.n_splits + 1))


CLASSICAL = "classical"
"""Backbone and strategy name of the classical pipeline's runs."""
RULES_VERSION = "0.2"
"""Version of what the program does with the same settings: folds of a part of a release, sampling of labels and logits,
parameters that are searched. Raised where a result changes that no setting tells."""


@dataclass(frozen=True)
class Run:
    """One backbone with one strategy on one fold, under one choice of settings.

    Everything that can change the scores is here, and nothing operational (device, workers, paths).

    Attributes:
        dataset_digest: fingerprint of images, labels and groups, so that two folders never pass for one dataset.
        validation_fraction: as in `FoldSettings`; None where nothing is chosen on validation images.
        options: the strategy's options, all that it has.
        train: the training settings as plain values; empty for a strategy that trains nothing.
        neutral_options: neutral values of the options that have one, as the strategy declared them when the run was
            planned. Kept here, so that the id can be computed where the strategy's plug-in is not loaded.
        tta, fill_holes, search: as in `PredictSettings`.
        rules_version: see `RULES_VERSION`.
        The others are as in `Settings`.
    """

    backbone: str
    strategy: str
    head: str
    dataset: str
    dataset_digest: str
    fold: int
    n_splits: int
    fold_seed: int
    validation_fraction: float | None
    seed: int
    weights: str
    image_size: int
    scale: float | None
    options: Mapping[str, Any]
    train: Mapping[str, Any]
    neutral_options: Mapping[str, Any] = field(default_factory=dict)
    embeddings: str = neutral("computed")
    tta: bool = neutral(False)
    fill_holes: bool = neutral(False)
    rules_version: str = neutral("0.1")
    search: str = neutral("version_0.1")  # which searched fewer parameters; no new run of a model has it

    def __post_init__(self) -> None:
        """Complete training settings of a plan that was written before some of them existed."""
        known = neutral_values(TrainSettings) | operational_values(TrainSettings)
        missing = {key: value for key, value in known.items() if key not in self.train}
        if self.train and missing:
            object.__setattr__(self, "train", {**self.train, **missing})

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore a pickled run: a job that waited in a queue may have been submitted by an earlier version."""
        self.__dict__.update(state)
        self.__post_init__()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in the record's block ``run``."""
        values = {member.name: getattr(self, member.name) for member in fields(self)}  # asdict copies ten times slower
        values |= {"options": dict(self.options), "train": dict(self.train)}
        if not self.neutral_options:  # no key for what almost no strategy has
            del values["neutral_options"]
        return values

    @cached_property
    def id(self) -> str:
        """First 12 hex digits of the SHA-256 of the run's canonical JSON."""
        return digest(identity(self.as_dict()))


def identity(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that make the id of a run: all but the settings that have their neutral value.

    Args:
        run: plain values, as `Run.as_dict` gives them; those of an old record may lack newer settings.
    """
    values = _without(run, neutral_values(Run))
    options_neutral = values.pop("neutral_options", None) or {}
    if "options" in values:
        values["options"] = _without(values["options"], options_neutral)
    if "train" in values:
        operational = operational_values(TrainSettings)
        train = {key: value for key, value in values["train"].items() if key not in operational}
        values["train"] = _without(train, neutral_values(TrainSettings))
    return values


def named_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strategy's options, settings of training and of predictions by their names in ``--set``.

    Operational settings are left out: they tell no two rows of a table apart.

    Args:
        run: plain values, as `Run.as_dict` gives them; parts that a damaged record lacks are left out.
    """
    parts = {"strategy": run.get("options"), "train": run.get("train")}
    known = {part: values for part, values in parts.items() if isinstance(values, Mapping)}
    named = {f"{part}.{name}": value for part, values in known.items() for name, value in values.items()}
    operational = {f"train.{name}" for name in operational_values(TrainSettings)}
    if run.get("backbone") != CLASSICAL:
        known_neutral = neutral_values(Run)
        named |= {f"predict.{name}": run.get(name, known_neutral[name]) for name in ("tta", "fill_holes", "search")}
    return {name: value for name, value in named.items() if name not in operational}


def digest(values: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of plain values."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def row_id(run: Mapping[str, Any]) -> str:
    """Return the id of the row of the leaderboard that a run belongs to: the digest of a run without its fold."""
    return digest({key: value for key, value in identity(run).items() if key != "fold"})


def _without(values: Mapping[str, Any], neutral_by_name: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if key not in neutral_by_name or _plain(value) != _plain(neutral_by_name[key])
    }


def _plain(value: Any) -> Any:
    """Return a value as it comes back from a JSON file: tuples are lists there."""
    return json.loads(json.dumps(value))
