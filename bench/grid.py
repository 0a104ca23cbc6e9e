"""Grid, its settings, and the Run that a grid is a product of. Torch-free; everything here is plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal


@dataclass(frozen=True)
class FoldSettings:
    """How the images are split.

    Attributes:
        n_splits: number of folds.
        seed: shuffling seed; 5 folds with seed 19 are the dataset authors' own.
        validation_fraction: share of the training folds' images held out (by groups) for every choice.
    """

    n_splits: int = 5
    seed: int = 19
    validation_fraction: float = 0.2


@dataclass(frozen=True)
class TrainSettings:
    """How a run trains.

    Attributes:
        epochs: passes over the training images at most.
        batch_size: images in an optimiser step, whatever the micro-batch that fits the device.
        lr: peak learning rate of AdamW; None takes the strategy's own.
        weight_decay: of AdamW, on weight matrices only.
        warmup_steps: optimiser steps of linear warm-up (at most a fifth of all steps).
        schedule: decay after the warm-up; ``polynomial`` has power 0.9, as in SAMed.
        clip_norm: the gradient's norm is clipped to this.
        validate_every: epochs between two validations.
        patience: validations without improvement after which training stops; 0 never stops early.
        augment: dihedral, stain (HED) and scale augmentation.
        stain_jitter: largest relative change of a stain's strength.
        scale_jitter: largest relative change of the magnification.
    """

    epochs: int = 60
    batch_size: int = 8
    lr: float | None = None
    weight_decay: float = 0.1
    warmup_steps: int = 250
    schedule: Literal["cosine", "polynomial"] = "cosine"
    clip_norm: float = 1.0
    validate_every: int = 1
    patience: int = 12
    augment: bool = True
    stain_jitter: float = 0.1
    scale_jitter: float = 0.2


@dataclass(frozen=True)
class Settings:
    """What `--set KEY=VALUE` reaches, by these names.

    Attributes:
        dataset: a registered dataset.
        head: a registered head, for every strategy that does not bring its own.
        weights: ``official`` checkpoints or ``random`` ones.
        image_size: side of the model's square input in pixels, a multiple of 64.
        scale: input pixels per image pixel; larger images are cut into overlapping tiles, smaller ones padded.
            None fits each whole image into one input.
        seed: of initialisation, data order and augmentation.
        folds: how the images are split.
        train: how a run trains.
        strategy: options of the strategies, e.g. ``{"rank": 8}``; each takes those that it has.
    """

    dataset: str = "nuinsseg"
    head: str = "distance"
    weights: Literal["official", "random"] = "official"
    image_size: int = 1024
    scale: float | None = None
    seed: int = 0
    folds: FoldSettings = field(default_factory=FoldSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    strategy: Mapping[str, Any] = field(default_factory=dict)


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
    """

    name: str
    backbones: tuple[str, ...]
    strategies: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    folds: tuple[int, ...] | None = None
    classical: bool = True
    summary: str = ""


CLASSICAL = "classical"
"""Backbone and strategy name of the classical pipeline's runs."""


@dataclass(frozen=True)
class Run:
    """One question: how well does this strategy on this backbone segment this fold, trained like this?

    Everything that can change the answer is here, and nothing operational (device, workers, paths).

    Attributes:
        dataset_digest: fingerprint of images, labels and groups, so that two folders never pass for one dataset.
        validation_fraction: see `FoldSettings`; None where nothing is chosen.
        options: the strategy's options, those it has.
        train: the training settings as plain values; empty for a strategy that trains nothing.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the record's block ``run``."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # asdict copies ten times slower
        return values | {"options": dict(self.options), "train": dict(self.train)}

    @cached_property
    def id(self) -> str:
        """First 12 hex digits of the SHA-256 of the run's canonical JSON."""
        return digest(self.as_dict())


def digest(values: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of plain values."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def cell_id(run: Mapping[str, Any]) -> str:
    """Id of what the folds of one row have in common: the digest of a run without its fold."""
    return digest({key: value for key, value in run.items() if key != "fold"})
