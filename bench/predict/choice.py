"""Runs whose models predict: a folder, the id of a run, or a row of the leaderboard of which a fold is chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.results import record
from bench.results.record import RunRecord
from bench.status import run_names
from registry import loading, names
from registry.errors import unknown
from registry.loading import Recipe


@dataclass(frozen=True)
class Chosen:
    """Models that predict together.

    Attributes:
        recipes: one, or those of an ensemble.
        origins: the id of each model's run, or the name of its exported folder.
        sentence: which were chosen, and by what rule.
        data: folders whose images the models were trained on, all but a run's test fold; empty where it is not known.
    """

    recipes: tuple[Recipe, ...]
    origins: tuple[str, ...]
    sentence: str
    data: tuple[Path, ...] = ()


def choose(text: str, results: Path, *, fold: int | None = None, ensemble: bool = False) -> Chosen:
    """Return the models that a name stands for.

    Of a row BACKBONE/STRATEGY the fold whose model has the best PQ on its validation images is taken: the test images
    must not choose.

    Args:
        text: a folder of a run or of `bench export`; a run's id or the beginning of it; BACKBONE/STRATEGY, perhaps
            with conditions ``,KEY=VALUE`` on its settings; BACKBONE/STRATEGY/FOLD.
        results: the results folder.
        fold: of a row, the fold to take.
        ensemble: take all folds, and all seeds, of a row.

    Raises:
        BenchError: no such run; several settings; an ensemble of what is no row.
        WeightsError: a folder without a model.
    """
    if text and Path(text).is_dir():
        _require_no_row_options(text, fold, ensemble)
        recipe = loading.read(text)
        return Chosen((recipe,), (_origin(Path(text)),), f"the model in {names.shown(text)}: {_title(recipe)}")
    unreadable: list[str] = []
    finished = [r for r in record.read_all(results, unreadable, history=False) if r.status == "ok"]
    _refuse_classical(finished, text)
    done = [r for r in finished if _is_model(r)]
    if not done:
        more = f" {len(unreadable)} records can't be read: {unreadable[0]}" if unreadable else ""
        raise BenchError(f"no finished run of a model in {results}; run a grid first, or give --results DIR.{more}")
    if "/" not in text:
        _require_no_row_options(text, fold, ensemble)
        return _of([_by_id(done, text)], results, "the run that was named")
    row, _, last = text.rpartition("/")
    if "/" in row and last.isdecimal() and fold is None:  # as the other commands name a run
        text, fold = row, int(last)
    runs = _of_one_setting(_row(done, text), text)
    if fold is not None:
        folds = sorted({int(run.run["fold"]) for run in runs})
        runs = [run for run in runs if run.run["fold"] == fold]
        if not runs:
            raise BenchError(f"{text}: fold {fold} is not done; done are {', '.join(map(str, folds))}.")
    if ensemble:
        _require_two(runs, text)
        return _of(runs, results, f"the mean logits of all {len(runs)} runs of {text}")
    best = min(runs, key=lambda run: (-_validation(run), run.run["fold"], run.run["seed"]))
    if len(runs) == 1:
        return _of([best], results, f"the only finished run of {text}" + (f" on fold {fold}" if fold else ""))
    return _of([best], results, f"of {len(runs)} runs the one with the best PQ on its validation images")


def _title(recipe: Recipe) -> str:
    return f"{recipe.backbone}/{recipe.strategy}, {recipe.weights} weights"


def _origin(folder: Path) -> str:
    """Return the id of the run of a model's folder, or the name of the folder: its path tells of its owner."""
    folder = folder.resolve()
    run = folder.parent if folder.name == loading.TRAINED_FOLDER else folder
    for candidate in (folder, run):
        if (candidate / loading.MODEL_FILE).is_file():
            return names.shown(candidate.name)
        if (candidate / loading.RECORD_FILE).is_file():
            return str(json.loads((candidate / loading.RECORD_FILE).read_text(encoding="utf-8")).get("id"))
    return names.shown(folder.name)


def _of(runs: Sequence[RunRecord], results: Path, rule: str) -> Chosen:
    recipes = tuple(loading.read(record.folder(results, run.id)) for run in runs)
    folds = ", ".join(f"{run.id} (fold {run.run['fold']}, seed {run.run['seed']})" for run in runs)
    roots = [((run.provenance or {}).get("dataset") or {}).get("root") for run in runs if run.run.get("train")]
    data = tuple(dict.fromkeys(Path(root) for root in roots if isinstance(root, str) and root))
    return Chosen(recipes, tuple(run.id for run in runs), f"{_title(recipes[0])}, {rule}: {folds}", data)


def _refuse_classical(finished: Sequence[RunRecord], text: str) -> None:
    ids = {run.id for run in finished if text and run.id.startswith(text)}
    classical = {run.id for run in finished if run.run.get("backbone") == CLASSICAL}
    if text.partition("/")[0] == CLASSICAL or (ids and ids <= classical):
        raise BenchError(
            f"{names.shown(text)} is the classical pipeline: it has no trained model that could predict. Give a run of "
            "a backbone and a strategy."
        )


def _is_model(run: RunRecord) -> bool:
    return bool(run.scores) and run.run.get("backbone") != CLASSICAL


def _validation(run: RunRecord) -> float:
    """PQ on the validation images; below all others where it was not taken."""
    value: Any = ((run.scores or {}).get("validation") or {}).get("pq")
    return float(value) if isinstance(value, int | float) else -1.0


def _by_id(done: Sequence[RunRecord], text: str) -> RunRecord:
    matching = [run for run in done if run.id.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise BenchError(f"{text!r} is the beginning of several runs: {', '.join(run.id for run in matching)}.")
    rows = sorted({_name(run) for run in done})
    raise BenchError(
        f"no finished run {text!r}; give the id of a run, its beginning, its folder, or BACKBONE/STRATEGY: "
        f"{', '.join(rows)}."
    )


def _name(run: RunRecord) -> str:
    return f"{run.run['backbone']}/{run.run['strategy']}"


def _row(done: Sequence[RunRecord], text: str) -> list[RunRecord]:
    name, *conditions = (part.strip() for part in text.split(","))
    runs = [run for run in done if _name(run) == name]
    if not runs:
        raise BenchError(unknown("row", name, sorted({_name(run) for run in done})))
    chosen = run_names.fulfilling(text, conditions, {run.id: run_names.settings(run.run) for run in runs})
    return [run for run in runs if run.id in chosen]


def _of_one_setting(runs: list[RunRecord], text: str) -> list[RunRecord]:
    """Refuse runs that differ in more than fold and seed: nobody says which setting is meant."""
    settings = [run_names.settings(run.run) for run in runs]
    for key in sorted({name for each in settings for name in each} - {"seed"}):
        values = sorted({each.get(key, "–") for each in settings})
        if len(values) > 1:
            choices = " or ".join(f"{text},{key}={value}" for value in values)
            raise BenchError(f"{text} has runs of several settings; choose one: {choices}.")
    return runs


def _require_no_row_options(text: str, fold: int | None, ensemble: bool) -> None:
    if fold is not None or ensemble:
        raise BenchError(
            f"{names.shown(text)} is a single run: --fold and --ensemble are for a row, written BACKBONE/STRATEGY."
        )


def _require_two(runs: Sequence[RunRecord], text: str) -> None:
    if len(runs) < 2:
        raise BenchError(f"{text} has one finished run; an ensemble needs two or more. Leave --ensemble out.")
