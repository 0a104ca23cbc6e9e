"""Costs of the trials of a tuning: trained once, and counted in equal parts for the runs that share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.estimate.resources import Resources
from bench.grid import Run
from bench.planning.tuning import is_tuned, trials, tuning_id
from bench.results.record import RunRecord
from bench.units import hours, plural

ANY_FOLD = 1
"""Fold of trials whose number does not matter: they cost the same, and are the same for all runs of a method."""


@dataclass(frozen=True)
class Tuning:
    """Trials of a run that are still to be trained.

    Attributes:
        trial: one of them; the others differ by their rate.
        count: number of trials.
        runs: number of planned runs that share them.
    """

    trial: Run
    count: int
    runs: int


def of_runs(runs: Sequence[Run], records: Iterable[RunRecord]) -> dict[str, Tuning]:
    """Return the trials of tuned runs by run id; runs whose trials an earlier run has done are left out.

    Args:
        runs: planned runs, to be done.
        records: so far.
    """
    tuned = {run.id: trials(run, ANY_FOLD) for run in runs if is_tuned(run)}
    if not tuned:
        return {}
    ids = {run_id: tuning_id(of_run) for run_id, of_run in tuned.items()}
    done = {
        tuning_id(trials(Run(**record.run), ANY_FOLD))
        for record in records
        if record.status == "ok" and record.run["train"].get("tune")
    }
    sharing = Counter(ids.values())
    return {
        run_id: Tuning(of_run[0], len(of_run), sharing[ids[run_id]])
        for run_id, of_run in tuned.items()
        if ids[run_id] not in done
    }


def with_trials(own: Resources, trial: Resources, tuning: Tuning) -> Resources:
    """Return the resources of a run with its part of the trials; a trial predicts no test fold, which is not taken off.

    Args:
        own: of the run, without trials.
        trial: of one trial.
        tuning: the trials.
    """
    if own.minutes is None or trial.minutes is None:
        return replace(own, minutes=None)
    whole = tuning.count * trial.minutes
    share = whole / tuning.runs
    return replace(own, minutes=own.minutes + share, tuning_minutes=whole, tuning_share=share)


def describe(runs: Sequence[Run], resources: Mapping[str, Resources]) -> str:
    """Return what tuning adds to a plan, in a phrase; empty where nothing is tuned.

    Args:
        runs: to be done.
        resources: of them, by id.
    """
    tuned = [run for run in runs if is_tuned(run) and resources[run.id].tuning_share]
    if not tuned:
        return ""
    names = {(run.backbone, run.strategy) for run in tuned}
    budgets, epochs = ({run.train[name] for run in tuned} for name in ("tune", "tune_epochs"))
    once = "on each fold" if any(run.train["tune_fold"] == "own" for run in tuned) else "once for all folds"
    total = sum(resources[run.id].tuning_share for run in tuned) / 60
    return (
        f"≈ {hours(total)} of these try encoder rates: {_numbers(budgets)} for each of {plural(len(names), 'pair')} of "
        f"backbone and strategy, {_epochs(epochs)} each, {once}"
    )


def _numbers(values: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(values)))


def _epochs(values: set[int]) -> str:
    return plural(next(iter(values)), "epoch") if len(values) == 1 else f"{_numbers(values)} epochs"
