"""Grid → Runs with ids. Impossible pairs are skipped with a reason; every problem is reported at once."""

from __future__ import annotations

import importlib
import runpy
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import PlanError
from bench.grid import CLASSICAL, Grid, Run, Settings
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
    return tuple(
        sorted(p.stem for p in (Path(__file__).parent / "grids").glob("*.py") if p.stem != "__init__")
    )


def load_grid(name: str) -> Grid:
    """A grid by name, or from a Python file that defines ``GRID``.

    Raises:
        PlanError: no such grid or file, or a file without a `Grid` called ``GRID``.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise PlanError(
                [f"there is no grid file {name!r}; give a path, or one of: {', '.join(grid_names())}."]
            )
        namespace = runpy.run_path(str(path))
    elif name in grid_names():
        namespace = vars(importlib.import_module(f"bench.grids.{name}"))
    else:
        raise PlanError([unknown("grid", name, grid_names()) + " Or give the path of a .py file."])
    grid = namespace.get("GRID")
    if not isinstance(grid, Grid):
        raise PlanError([f"{name} defines no GRID; write GRID = Grid(name=…, backbones=…, strategies=…)."])
    summary = (namespace.get("__doc__") or "").strip().split("\n")[0]
    return replace(grid, summary=grid.summary or summary)


def override(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Apply ``KEY=VALUE`` texts; raises `PlanError` that lists every unknown or ill-typed one."""
    problems: list[str] = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            if not equals:
                raise ValueError(f"--set {assignment!r} has no '='; write KEY=VALUE, e.g. train.epochs=20.")
            settings = _assign(settings, key.strip().split("."), text.strip(), key.strip())
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise PlanError(problems)
    return settings


def setting_names() -> dict[str, str]:
    """Every key that `--set` takes, with its type as text."""
    names: dict[str, str] = {}
    for name, kind in typing.get_type_hints(Settings).items():
        if is_dataclass(kind):
            names |= {f"{name}.{inner}": _spell(k) for inner, k in typing.get_type_hints(kind).items()}
        elif name != "strategy":
            names[name] = _spell(kind)
    return names | {
        f"strategy.{option}": type(value).__name__ for option, value in _strategy_options().items()
    }


def narrow(grid: Grid, only: Sequence[str]) -> Grid:
    """Keep what ``KEY=A,B`` texts name (`backbone`, `strategy`, `fold`); raises `PlanError` with every problem."""
    problems: list[str] = []
    for text in only:
        key, _, listed = text.partition("=")
        values = tuple(value.strip() for value in listed.split(",") if value.strip())
        if key not in ONLY_KEYS or not values:
            problems.append(f"--only {text!r}: write backbone=A,B or strategy=A,B or fold=1,2.")
        elif key == "fold":
            allowed = grid.folds or tuple(range(1, grid.settings.folds.n_splits + 1))
            wrong = [v for v in values if not v.isdigit() or int(v) not in allowed]
            if wrong:
                problems.append(
                    f"--only fold={','.join(wrong)}: this grid has folds {allowed[0]} to {allowed[-1]}."
                )
            else:
                grid = replace(grid, folds=tuple(int(v) for v in values))
        else:
            field = "backbones" if key == "backbone" else "strategies"
            mine = getattr(grid, field)
            problems += [
                unknown(f"{key} in grid {grid.name!r}", v, (*mine, CLASSICAL))
                for v in values
                if v not in (*mine, CLASSICAL)
            ]
            kept: dict[str, Any] = {field: tuple(v for v in mine if v in values)}
            grid = replace(grid, **kept)
    if problems:
        raise PlanError(problems)
    return grid


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
                backbone=CLASSICAL, strategy=CLASSICAL, head=CLASSICAL, fold=fold, seed=0, weights="none",
                image_size=0, scale=None, options={}, train={}, **shared,
            )
            for fold in folds
        ]  # fmt: skip
    for backbone in grid.backbones:
        for name in grid.strategies:
            strategy = strategies.get(name)
            head = strategy.head or s.head
            train = asdict(s.train) | {"lr": s.train.lr or strategy.lr} if strategy.trains else {}
            allowed = strategies.options(name)
            for fold in folds:
                run = Run(
                    backbone=backbone, strategy=name, head=head, fold=fold, seed=s.seed, weights=s.weights,
                    image_size=s.image_size, scale=s.scale if heads.get(head).dense else None,
                    options=allowed | {k: v for k, v in s.strategy.items() if k in allowed}, train=train, **shared,
                )  # fmt: skip
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
        (backbones.card, grid.backbones), (strategies.get, grid.strategies),
        (heads.get, (s.head,)), (datasets.get, (s.dataset,)),
    ]  # fmt: skip
    for look_up, names in lookups:
        for name in names:
            try:
                look_up(name)
            except UnknownNameError as error:
                problems.append(str(error))
    if s.image_size <= 0 or s.image_size % 64:
        problems.append(
            f"image_size is {s.image_size}; it must be a positive multiple of 64, e.g. 256, 512 or 1024."
        )
    ranges: list[tuple[str, float, bool, str]] = [
        ("scale", s.scale or 1, s.scale is None or 0 < s.scale <= 8, "above 0 and at most 8, or none"),
        ("folds.n_splits", s.folds.n_splits, s.folds.n_splits >= 2, "2 or more"),
        ("seed", s.seed, s.seed >= 0, "0 or more"),
        ("train.epochs", t.epochs, t.epochs >= 1, "1 or more"),
        ("train.batch_size", t.batch_size, t.batch_size >= 1, "1 or more"),
        ("train.lr", t.lr or 1, t.lr is None or 0 < t.lr <= 1, "above 0 and at most 1, or none"),
        ("train.weight_decay", t.weight_decay, t.weight_decay >= 0, "0 or more"),
        ("train.warmup_steps", t.warmup_steps, t.warmup_steps >= 0, "0 or more"),
        ("train.clip_norm", t.clip_norm, t.clip_norm > 0, "above 0"),
        (
            "train.validation_fraction",
            t.validation_fraction,
            0 < t.validation_fraction < 1,
            "between 0 and 1",
        ),
        ("train.validate_every", t.validate_every, t.validate_every >= 1, "1 or more"),
        ("train.patience", t.patience, t.patience >= 0, "0 or more"),
        ("train.stain_jitter", t.stain_jitter, 0 <= t.stain_jitter < 1, "at least 0 and below 1"),
        ("train.scale_jitter", t.scale_jitter, 0 <= t.scale_jitter < 1, "at least 0 and below 1"),
    ]
    problems += [
        f"{name} is {value}; it must be {allowed}." for name, value, fine, allowed in ranges if not fine
    ]
    return problems


def _assign(settings: Any, path: Sequence[str], text: str, full: str) -> Any:
    kinds = typing.get_type_hints(type(settings))
    head, *rest = path
    if head == "strategy" and rest:
        options, option = _strategy_options(), ".".join(rest)
        if option not in options:
            raise ValueError(unknown("setting", full, setting_names()))
        value = _parse(text, type(options[option]), full)
        return replace(settings, strategy={**settings.strategy, option: value})
    if (
        head not in {f.name for f in fields(settings)}
        or is_dataclass(kinds[head]) != bool(rest)
        or head == "strategy"
    ):
        raise ValueError(unknown("setting", full, setting_names()))
    inner = getattr(settings, head)
    return replace(
        settings, **{head: _assign(inner, rest, text, full) if rest else _parse(text, kinds[head], full)}
    )


def _parse(text: str, kind: Any, key: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(unknown(f"value for {key}:", text, typing.get_args(kind)))
        return text
    truth = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    try:
        value = truth[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ValueError(f"{key}={text!r} is not of type {_spell(kind)}.") from None
    if (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        raise ValueError(f"{key}={text!r} is not a finite number.")
    return value


def _spell(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join("none" if k is type(None) else _spell(k) for k in typing.get_args(kind))
    return str(getattr(kind, "__name__", kind))


def _strategy_options() -> Mapping[str, Any]:
    return {key: value for name in strategies.names() for key, value in strategies.options(name).items()}
