"""Grid → Runs with ids. Impossible pairs are skipped with a reason; every problem is reported at once."""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import PlanError
from bench.grid import CLASSICAL, Grid, Run
from bench.planning import overrides
from registry import backbones, datasets, heads, strategies
from registry.errors import UnknownNameError, unknown

ONLY_KEYS = ("backbone", "strategy", "fold")


@dataclass(frozen=True)
class Plan:
    """What a grid comes to.

    Attributes:
        grid: with all overrides applied.
        runs: to be done, in the grid's order; the classical pipeline's first.
        skipped: impossible runs with the reason.
    """

    grid: Grid
    runs: tuple[Run, ...]
    skipped: tuple[tuple[Run, str], ...]


def grid_names() -> tuple[str, ...]:
    """The grids that come with the program."""
    return tuple(sorted(p.stem for p in (Path(__file__).parents[1] / "grids").glob("*.py") if p.stem != "__init__"))


def load_grid(name: str) -> Grid:
    """A grid by name, or from a Python file that defines ``GRID``.

    Raises:
        PlanError: no such grid or file, or a file without a `Grid` called ``GRID``.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise PlanError([f"there is no grid file {name!r}; give a path, or one of: {', '.join(grid_names())}."])
        try:
            namespace = runpy.run_path(str(path))
        except Exception as error:
            kind = type(error).__name__
            raise PlanError(
                [f"the grid file {name} can't be run: {kind}: {error}. Mend it, or start from bench/grids."]
            ) from error
    elif name in grid_names():
        namespace = vars(importlib.import_module(f"bench.grids.{name}"))
    else:
        raise PlanError([unknown("grid", name, grid_names()) + " Or give the path of a .py file."])
    grid = namespace.get("GRID")
    if not isinstance(grid, Grid):
        raise PlanError([f"{name} defines no GRID; write GRID = Grid(name=…, backbones=…, strategies=…)."])
    summary = (namespace.get("__doc__") or "").strip().split("\n")[0]
    return replace(grid, summary=grid.summary or summary)


def narrow(grid: Grid, only: Sequence[str]) -> Grid:
    """Keep what ``KEY=A,B`` texts name (`backbone`, `strategy`, `fold`); raises `PlanError` with every problem."""
    problems: list[str] = []
    for text in _joined(only):
        key, _, listed = text.partition("=")
        values = tuple(value.strip() for value in listed.split(",") if value.strip())
        if key not in ONLY_KEYS or not values:
            problems.append(f"--only {text!r}: write backbone=A,B or strategy=A,B or fold=1,2.")
        elif key == "fold":
            allowed = grid.folds or tuple(range(1, grid.settings.folds.n_splits + 1))
            wrong = [v for v in values if not v.isdecimal() or int(v) not in allowed]
            if wrong:
                problems.append(f"--only fold={','.join(wrong)}: this grid has folds {allowed[0]} to {allowed[-1]}.")
            else:
                grid = replace(grid, folds=tuple(sorted({int(v) for v in values})))
        else:
            field = "backbones" if key == "backbone" else "strategies"
            mine = getattr(grid, field)
            problems += [
                f"grid {grid.name!r}: " + unknown(key, v, (*mine, CLASSICAL)) + _hint(key, v)
                for v in values
                if v not in (*mine, CLASSICAL)
            ]
            kept: dict[str, Any] = {field: tuple(v for v in mine if v in values)}
            grid = replace(grid, **kept)
    if problems:
        raise PlanError(problems)
    return grid


def _hint(key: str, name: str) -> str:
    registered = backbones.names() if key == "backbone" else strategies.names()
    return (
        f" {name} is registered, but not in this grid: copy the grid's file and add it." if name in registered else ""
    )


def _joined(only: Sequence[str]) -> list[str]:
    """``KEY=A`` and ``KEY=B`` given apart are ``KEY=A,B``."""
    listed: dict[str, str] = {}
    for text in only:
        key, _, values = text.partition("=")
        listed[key] = f"{listed[key]},{values}" if key in listed else values
    return [f"{key}={values}" for key, values in listed.items()]


def make(grid: Grid, dataset_digest: str) -> Plan:
    """Expand a grid into runs.

    Args:
        grid: with all overrides applied.
        dataset_digest: fingerprint of the dataset that the runs are about.

    Raises:
        PlanError: unknown names or settings out of range, all at once.
    """
    problems = _problems(grid)
    if problems:
        raise PlanError(problems)
    s = grid.settings
    folds = grid.folds or tuple(range(1, s.folds.n_splits + 1))
    shared: dict[str, Any] = {
        "dataset": s.dataset,
        "dataset_digest": dataset_digest,
        "n_splits": s.folds.n_splits,
        "fold_seed": s.folds.seed,
    }
    runs: list[Run] = []
    skipped: list[tuple[Run, str]] = []
    if grid.classical:
        runs += [
            Run(
                backbone=CLASSICAL,
                strategy=CLASSICAL,
                head=CLASSICAL,
                fold=fold,
                seed=0,
                weights="none",
                image_size=0,
                scale=None,
                options={},
                train={},
                validation_fraction=None,
                **shared,
            )
            for fold in folds
        ]
    for backbone in grid.backbones:
        for name in grid.strategies:
            strategy = strategies.get(name)
            head = strategy.head or s.head
            train = asdict(s.train) | {"lr": s.train.lr or strategy.lr} if strategy.trains else {}
            allowed = strategies.options(name)
            for fold in folds:
                run = Run(
                    backbone=backbone,
                    strategy=name,
                    head=head,
                    fold=fold,
                    seed=s.seed,
                    weights=s.weights,
                    image_size=s.image_size,
                    scale=s.scale if heads.get(head).dense else None,
                    options=allowed | {k: v for k, v in s.strategy.items() if k in allowed},
                    train=train,
                    validation_fraction=s.folds.validation_fraction,
                    **shared,
                )
                why = impossible(run)
                if why:
                    skipped.append((run, why))
                else:
                    runs.append(run)
    return Plan(grid, tuple(runs), tuple(skipped))


def impossible(run: Run) -> str | None:
    """Why a run can't be done at all, or None."""
    card = backbones.card(run.backbone)
    if run.weights == "official" and card.checkpoint is None:
        return f"{run.backbone} has no official checkpoint; it runs with --set weights=random only"
    if run.train and not heads.get(run.head).dense:
        return f"head {run.head!r} prompts the model and can't be trained; strategy {run.strategy!r} needs a dense head"
    return None


def _problems(grid: Grid) -> list[str]:
    problems: list[str] = []
    s, t = grid.settings, grid.settings.train
    lookups: list[tuple[Any, tuple[str, ...]]] = [
        (backbones.card, grid.backbones),
        (strategies.get, grid.strategies),
        (heads.get, (s.head,)),
        (datasets.get, (s.dataset,)),
    ]
    for look_up, names in lookups:
        for name in names:
            try:
                look_up(name)
            except UnknownNameError as error:
                problems.append(str(error))
    if s.image_size <= 0 or s.image_size % 64:
        problems.append(f"image_size is {s.image_size}; it must be a positive multiple of 64, e.g. 256, 512 or 1024.")
    ranges: list[tuple[str, float | None, bool, str]] = [
        ("scale", s.scale, s.scale is None or 0 < s.scale <= 8, "above 0 and at most 8, or none"),
        ("folds.n_splits", s.folds.n_splits, s.folds.n_splits >= 2, "2 or more"),
        ("folds.seed", s.folds.seed, 0 <= s.folds.seed < 2**32, "at least 0 and below 2**32"),
        ("seed", s.seed, s.seed >= 0, "0 or more"),
        ("train.epochs", t.epochs, t.epochs >= 1, "1 or more"),
        ("train.batch_size", t.batch_size, t.batch_size >= 1, "1 or more"),
        ("train.lr", t.lr, t.lr is None or 0 < t.lr <= 1, "above 0 and at most 1, or none"),
        ("train.weight_decay", t.weight_decay, t.weight_decay >= 0, "0 or more"),
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
        ("train.stain_jitter", t.stain_jitter, 0 <= t.stain_jitter < 1, "at least 0 and below 1"),
        ("train.scale_jitter", t.scale_jitter, 0 <= t.scale_jitter < 1, "at least 0 and below 1"),
    ]
    options = overrides.strategy_options()
    known = overrides.setting_names()
    problems += [unknown("setting", f"strategy.{key}", known) for key in s.strategy if key not in options]
    for name in grid.strategies:
        if name in strategies.names():
            problems += strategies.option_problems(name, s.strategy)
    numbers = ((k, v) for k, v in s.strategy.items() if isinstance(v, int | float) and not isinstance(v, bool))
    ranges += [(f"strategy.{key}", value, value > 0, "above 0") for key, value in numbers]
    if outside := [fold for fold in grid.folds or () if not 1 <= fold <= s.folds.n_splits]:
        count = s.folds.n_splits
        problems.append(f"the grid names folds {outside}; with folds.n_splits={count} there are 1 to {count}.")
    problems += [f"{name} is {value}; it must be {allowed}." for name, value, fine, allowed in ranges if not fine]
    return problems
