"""Status of a results folder: the state of every planned run, and the records that belong to no plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.console import RESULTS
from bench.errors import BenchError, ClusterError
from bench.grid import Run
from bench.results import plans, retry, submissions
from bench.results.index import Entry, Index
from bench.results.plans import SavedPlan
from bench.results.submissions import Ledger
from bench.slurm import client
from bench.slurm.client import Queue
from bench.slurm.profile import load_profile
from bench.status.run_state import STATES, RunState, State, run_states
from registry.errors import unknown


@dataclass(frozen=True)
class Status:
    """Status of a results folder.

    Attributes:
        results: the results folder.
        grids: names of the grids that were planned here; empty if there is no plan, and records alone are shown.
        runs: planned runs in the order of their plans; the skipped ones last.
        silent: whether SLURM gave no answer though jobs of this folder may be there.
        unplanned: number of records that belong to no plan.
        unreadable: a sentence for each record that can't be read.
    """

    results: Path
    grids: tuple[str, ...]
    runs: tuple[RunState, ...]
    silent: bool = False
    unplanned: int = 0
    unreadable: tuple[str, ...] = ()

    def counts(self) -> dict[State, int]:
        """Numbers of runs by state, those states that occur, in the order of `STATES`."""
        counts = Counter(run.state for run in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    def of(self, *states: State) -> list[RunState]:
        """The runs in some states."""
        return [run for run in self.runs if run.state in states]

    @property
    def exit_code(self) -> int:
        """0 as long as no run failed or was lost and every record can be read, otherwise 1."""
        return int(bool(self.unreadable) or any(run.state in ("failed", "lost") for run in self.runs))


def read(results: Path, *, grid: str | None = None) -> Status:
    """Read the status of a results folder; SLURM is asked only if jobs of it may be there.

    Args:
        results: the results folder.
        grid: restricts the status to the plans of this grid.

    Raises:
        BenchError: no such folder; no plan of that grid; a damaged plan or ledger.
    """
    if not results.is_dir() and results.resolve() != RESULTS.resolve():
        raise BenchError(f"there is no folder {results}; check --results.")
    saved_plans = plans.read_all(results)
    ledger = submissions.read(results)
    # Read the queue first: a job that has left it has written its records by then.
    queue = client.queue() if ledger.open else None
    index = Index(results)
    index.refresh()
    return collect(results, saved_plans=saved_plans, index=index, ledger=ledger, queue=queue, grid=grid)


def of_run(results: Path, run_id: str) -> RunState | None:
    """Read the state of one run; of a record that belongs to no plan too. None where there is neither.

    Raises:
        BenchError: no such folder; a damaged plan or ledger.
    """
    planned = next((state for state in read(results).runs if state.id == run_id), None)
    if planned is not None:
        return planned
    index = Index(results)
    index.refresh([run_id])
    entry = index.entries.get(run_id)
    return _state_without_plan(entry) if entry else None


def collect(
    results: Path,
    *,
    saved_plans: Sequence[SavedPlan],
    index: Index,
    ledger: Ledger,
    queue: Queue | None,
    grid: str | None = None,
    final_states: Callable[[Collection[str]], Mapping[str, str]] = client.final_states,
) -> Status:
    """The status from what was read; only the folders of runs that are not done are read in addition.

    Args:
        results: the results folder.
        saved_plans: its plans, oldest first; a run of several plans counts once.
        index: its records, refreshed.
        ledger: the submissions.
        queue: the queue, read before the records; None where SLURM does not answer.
        grid: restricts the status to the plans of this grid.
        final_states: gives the final states of jobs that the queue has forgotten; called once, if at all.

    Raises:
        BenchError: no plan of that grid.
    """
    shown = [plan for plan in saved_plans if grid in (None, plan.grid)]
    if grid is not None and not shown:
        raise BenchError(unknown("grid", grid, dict.fromkeys(plan.grid for plan in saved_plans)))
    runs = {run.id: (run, plan.profile) for plan in shown for run in plan.runs}
    skipped = {run.id: (run, reason) for plan in shown for run, reason in plan.skipped if run.id not in runs}
    states = run_states(
        [run for run, _ in runs.values()],
        results=results,
        entries=index.entries,
        jobs=ledger.latest(),
        cancelled=ledger.cancelled,
        queue=queue,
        is_final=lambda entry: is_final(entry, *runs[entry.id]),
    )
    if queue is not None:
        states = _with_final_states(states, final_states)
    states += [
        RunState(run.id, run.backbone, run.strategy, run.fold, "skipped", reason, run=run)
        for run, reason in skipped.values()
    ]
    planned = {run.id for plan in saved_plans for run in (*plan.runs, *(run for run, _ in plan.skipped))}
    unplanned = [entry for run_id, entry in index.entries.items() if run_id not in planned]
    if not saved_plans:
        states = [_state_without_plan(entry) for entry in unplanned]
    return Status(
        results=results,
        grids=tuple(dict.fromkeys(plan.grid for plan in shown)),
        runs=tuple(states),
        silent=queue is None and bool(ledger.open),
        unplanned=len(unplanned) if saved_plans else 0,
        unreadable=tuple(index.unreadable[run_id] for run_id in sorted(index.unreadable)),
    )


def is_final(entry: Entry, run: Run, profile: str) -> bool:
    """Return whether a failed run is not to be tried again by the command that planned it.

    Failures that a later command ignored count here too: their number is not stored.
    """
    return not retry.is_due(entry, run, limits=_limits(profile))


def _with_final_states(
    states: Sequence[RunState], final_states: Callable[[Collection[str]], Mapping[str, str]]
) -> list[RunState]:
    """Add the final states of jobs that the queue has forgotten."""
    jobs = {str(state.job) for state in states if state.needs_final_state and state.job}
    if not jobs:
        return list(states)
    by_job = final_states(jobs)
    explained = []
    for state in states:
        if state.needs_final_state and state.job:
            final = by_job.get(str(state.job))
            detail = f"job {state.job}: {final or 'over, SLURM does not say how'}"
            state = replace(state, detail=detail, needs_final_state=False)
            if final == "CANCELLED":
                state = replace(state, state="cancelled")
        explained.append(state)
    return explained


def _state_without_plan(entry: Entry) -> RunState:
    state: State = "done" if entry.status == "ok" else "failed" if entry.status == "failed" else "skipped"
    return RunState(
        entry.id,
        entry.backbone,
        entry.strategy,
        entry.fold,
        state,
        detail=entry.reason or "",
        job=entry.job,
        node=entry.node,
        pq=entry.pq,
    )


@cache  # called for every failed run
def _limits(profile: str) -> retry.Limits:
    try:
        return retry.limits(load_profile(profile))
    except ClusterError:  # a profile that was removed since; `bench run` will say so
        return retry.Limits()
