"""Problems of a grid: unknown names and settings out of range, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench.grid import Grid, Settings, TrainSettings
from bench.planning import overrides, sweeps, tuning
from bench.settings import LARGEST_WEIGHT_DECAY
from registry import backbones, datasets, heads, quantised, strategies
from registry.errors import UnknownNameError


def of_grid(grid: Grid) -> list[str]:
    """Return a sentence for everything that is wrong with a grid and each value of its sweep, in the order of parts."""
    in_sweep = sweeps.problems(grid)
    singles = [replace(grid, sweep={}, changes=())] if in_sweep else sweeps.expand(grid)
    return list(dict.fromkeys([*in_sweep, *(problem for single in singles for problem in _of_single_settings(single))]))


def _of_single_settings(grid: Grid) -> list[str]:
    outside = [
        f"{name} is {value}; it must be {allowed}."
        for name, value, is_fine, allowed in (*_ranges(grid.settings), *_option_ranges(grid.settings))
        if not is_fine
    ]
    return [
        *_names(grid),
        *_image_size(grid),
        *_options(grid),
        *_folds(grid),
        *_base_weights(grid.settings),
        *_augmentation(grid.settings),
        *outside,
    ]


def _base_weights(settings: Settings) -> list[str]:
    kind = settings.train.base_weights
    if kind != quantised.FULL and settings.embeddings == "cached":
        return [
            f"train.base_weights={kind} changes the encoder, and embeddings=cached is of the official one; "
            "choose embeddings=computed or train.base_weights=full."
        ]
    return [f"train.base_weights: {reason}"] if (reason := quantised.problem(kind)) else []


def _augmentation(settings: Settings) -> list[str]:
    train = settings.train
    if train.augmentation == "basic":
        return []
    name = f"train.augmentation={train.augmentation}"
    if not train.augment:
        return [f"{name} augments nothing with train.augment=false; set train.augment=true."]
    if settings.embeddings == "cached" and train.stain_variants < 2:
        return [
            f"{name} is in the stain variants of cached embeddings, and with train.stain_variants=1 there is "
            "the image itself only; set train.stain_variants=2 or more, or embeddings=computed."
        ]
    return []


def fold_list(folds: Sequence[int]) -> str:
    """Return fold numbers in words: ``folds 1 to 5``, ``folds 1 and 3``, ``fold 2``."""
    if len(folds) == 1:
        return f"fold {folds[0]}"
    if len(folds) > 2 and list(folds) == list(range(folds[0], folds[-1] + 1)):
        return f"folds {folds[0]} to {folds[-1]}"
    return f"folds {', '.join(map(str, folds[:-1]))} and {folds[-1]}"


def _names(grid: Grid) -> list[str]:
    lookups: list[tuple[Callable[[str], Any], Sequence[str]]] = [
        (backbones.card, grid.backbones),
        (strategies.get, grid.strategies),
        (heads.get, (grid.settings.head,)),
        (datasets.get, (grid.settings.dataset,)),
    ]
    sentences: list[str] = []
    for look_up, names in lookups:
        for name in names:
            try:
                look_up(name)
            except UnknownNameError as error:
                sentences.append(str(error))
    return sentences


def _image_size(grid: Grid) -> list[str]:
    known = [backbones.card(name) for name in grid.backbones if name in backbones.names()]
    problems = [card.size_problem(grid.settings.image_size) for card in known]
    return [problem for problem in dict.fromkeys(problems) if problem]


def _options(grid: Grid) -> list[str]:
    given, known = grid.settings.strategy, overrides.strategy_options()
    unknown = [overrides.unknown_setting(f"strategy.{option}") for option in given if option not in known]
    registered = [name for name in grid.strategies if name in strategies.names()]
    return unknown + [problem for name in registered for problem in strategies.option_problems(name, given)]


def _folds(grid: Grid) -> list[str]:
    count = grid.settings.folds.n_splits
    if outside := [fold for fold in grid.folds or () if not 1 <= fold <= count]:
        return [f"the grid names {fold_list(outside)}; with folds.n_splits={count} there are folds 1 to {count}."]
    return []


def _ranges(s: Settings) -> list[tuple[str, float | None, bool, str]]:
    """Return name, value, whether it is in range, and the range in words, of each setting that has one."""
    t = s.train
    return [
        ("scale", s.scale, s.scale is None or 0 < s.scale <= 8, "above 0 and at most 8, or none"),
        ("folds.n_splits", s.folds.n_splits, s.folds.n_splits >= 2, "2 or more"),
        ("folds.seed", s.folds.seed, 0 <= s.folds.seed < 2**32, "at least 0 and below 2**32"),
        ("seed", s.seed, s.seed >= 0, "0 or more"),
        ("train.epochs", t.epochs, t.epochs >= 1, "1 or more"),
        ("train.batch_size", t.batch_size, t.batch_size >= 1, "1 or more"),
        ("train.lr", t.lr, 0 < t.lr <= 1, "above 0 and at most 1"),
        (
            "train.encoder_lr",
            t.encoder_lr,
            t.encoder_lr is None or 0 < t.encoder_lr <= 1,
            "above 0 and at most 1, or none",
        ),
        ("train.weight_decay", t.weight_decay, 0 <= t.weight_decay <= LARGEST_WEIGHT_DECAY, _decay_range(t)),
        ("train.warmup_steps", t.warmup_steps, t.warmup_steps >= 0, "0 or more"),
        ("train.clip_norm", t.clip_norm, t.clip_norm > 0, "above 0"),
        (
            "folds.validation_fraction",
            s.folds.validation_fraction,
            0 < s.folds.validation_fraction < 1,
            "between 0 and 1",
        ),
        ("train.validate_every", t.validate_every, t.validate_every >= 1, "1 or more"),
        ("train.patience", t.patience, t.patience >= 0, "0 or more"),
        ("train.ema", t.ema, 0 <= t.ema < 1, "at least 0 and below 1"),
        ("train.stain_jitter", t.stain_jitter, 0 <= t.stain_jitter < 1, "at least 0 and below 1"),
        ("train.stain_variants", t.stain_variants, t.stain_variants >= 1, "1 or more"),
        ("train.scale_jitter", t.scale_jitter, 0 <= t.scale_jitter < 1, "at least 0 and below 1"),
        ("train.tune", t.tune, t.tune == 0 or 2 <= t.tune <= tuning.MOST, f"0, or from 2 to {tuning.MOST}"),
        ("train.tune_epochs", t.tune_epochs, 0 <= t.tune_epochs <= t.epochs, "from 0 to train.epochs"),
    ]


def _decay_range(train: TrainSettings) -> str:
    allowed = f"from 0 to {LARGEST_WEIGHT_DECAY}: the share of itself that a step at the peak takes from each weight"
    if 0 < train.weight_decay < math.inf:
        as_share = f"{train.weight_decay * train.lr:.2g}"
        allowed += f". AdamW's factor of {train.weight_decay} would be {as_share} at train.lr={train.lr}"
    return allowed


def _option_ranges(settings: Settings) -> list[tuple[str, float | None, bool, str]]:
    """Numbers of strategies (ranks, widths, scales) are above 0, unless a strategy's own default or neutral is not."""
    ranges: list[tuple[str, float | None, bool, str]] = []
    for option, value in settings.strategy.items():
        if not _is_number(value):
            continue
        own = [
            values[option]
            for name in strategies.names()
            for values in (strategies.options(name), strategies.get(name).neutral)
            if option in values
        ]
        lowest = min((number for number in own if _is_number(number)), default=1)
        in_words = "above 0" if lowest > 0 else f"{lowest} or more"
        ranges.append((f"strategy.{option}", value, value > 0 or value >= lowest, in_words))
    return ranges


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
