"""Where a results folder stands: the state of every planned run, and what belongs to no plan."""

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
    """What `bench status` shows.

    Attributes:
        results: the results folder.
        grids: names of the grids that were planned here; empty if there is no plan, and records tell it all.
        runs: planned runs in the order of their plans; the skipped ones last.
        silent: whether SLURM gave no answer though jobs of ours may be there.
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
        found = Counter(one.state for one in self.runs)
        return {state: found[state] for state in STATES if found[state]}

    def of(self, *states: State) -> list[RunState]:
        """The runs in some states."""
        return [one for one in self.runs if one.state in states]

    @property
    def exit_code(self) -> int:
        """0 as long as no run failed or was lost and every record can be read, otherwise 1."""
        return int(bool(self.unreadable) or any(one.state in ("failed", "lost") for one in self.runs))


def read(results: Path, *, grid: str | None = None) -> Status:
    """The status of a results folder: reads files, and asks SLURM only if jobs of ours may be there.

    Args:
        results: the results folder.
        grid: look at the plans of this grid only.

    Raises:
        BenchError: no such folder; no plan of that grid; a damaged plan or ledger.
    """
    if not results.is_dir() and results.resolve() != RESULTS.resolve():
        raise BenchError(f"there is no folder {results}; check --results.")
    manifests = plans.read_all(results)
    book = submissions.read(results)
    # The queue before the records: a job that is over by then has left its records by now.
    queue = client.queue() if book.open else None
    index = Index(results)
    index.refresh()
    return collect(results, manifests=manifests, index=index, ledger=book, queue=queue, asked_grid=grid)


def collect(
    results: Path,
    *,
    manifests: Sequence[SavedPlan],
    index: Index,
    ledger: Ledger,
    queue: Queue | None,
    asked_grid: str | None = None,
    ended: Callable[[Collection[str]], Mapping[str, str]] = client.final_states,
) -> Status:
    """The status from what was read; only the folders of runs that are not done are looked into.

    Args:
        results: the results folder.
        manifests: its plans, oldest first; a run of several plans counts once.
        index: its records, refreshed.
        ledger: which job was given what.
        queue: the queue, asked before the records were read; None where SLURM does not answer.
        asked_grid: look at the plans of this grid only.
        ended: asks how jobs ended that the queue no longer knows; called once, if at all.

    Raises:
        BenchError: no plan of that grid.
    """
    asked = [one for one in manifests if asked_grid in (None, one.grid)]
    if asked_grid is not None and not asked:
        raise BenchError(unknown("grid", asked_grid, dict.fromkeys(one.grid for one in manifests)))
    runs = {run.id: (run, one.profile) for one in asked for run in one.runs}
    skipped = {run.id: (run, why) for one in asked for run, why in one.skipped if run.id not in runs}
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
        states = _with_ends(states, ended)
    states += [
        RunState(run.id, run.backbone, run.strategy, run.fold, "skipped", why, run=run) for run, why in skipped.values()
    ]
    planned = {run.id for one in manifests for run in (*one.runs, *(skipped for skipped, _ in one.skipped))}
    others = [entry for name, entry in index.entries.items() if name not in planned]
    if not manifests:
        states = [_unplanned(entry) for entry in others]
    return Status(
        results=results,
        grids=tuple(dict.fromkeys(one.grid for one in asked)),
        runs=tuple(states),
        silent=queue is None and bool(ledger.open),
        unplanned=len(others) if manifests else 0,
        unreadable=tuple(index.unreadable[name] for name in sorted(index.unreadable)),
    )


def is_final(entry: Entry, run: Run, profile: str) -> bool:
    """Whether a failed run is not to be tried again by the command that planned it.

    Failures that a later command forgave count here too, as nothing on disk tells of them.
    """
    return not retry.is_due(entry, run, limits=_limits(profile))


def _with_ends(states: Sequence[RunState], ended: Callable[[Collection[str]], Mapping[str, str]]) -> list[RunState]:
    """Add how jobs ended that the queue has forgotten."""

    def is_open(one: RunState) -> bool:
        return one.state in ("lost", "interrupted") and one.job is not None and not one.detail

    asked = {str(one.job) for one in states if is_open(one)}
    if not asked:
        return list(states)
    ends = ended(asked)
    found = []
    for one in states:
        if is_open(one):
            end = ends.get(str(one.job))
            one = replace(one, detail=f"job {one.job}: {end or 'over, SLURM does not say how'}")
            if end == "CANCELLED":
                one = replace(one, state="cancelled")
        found.append(one)
    return found


def _unplanned(entry: Entry) -> RunState:
    state: State = "done" if entry.status == "ok" else "failed" if entry.status == "failed" else "skipped"
    return RunState(
        entry.id,
        entry.backbone,
        entry.strategy,
        entry.fold,
        state,
        entry.reason or "",
        entry.job,
        entry.node,
        pq=entry.pq,
    )


@cache  # asked for every failed run
def _limits(profile: str) -> retry.Limits:
    try:
        return retry.limits(load_profile(profile))
    except ClusterError:  # a profile that was removed since; `bench run` will say so
        return retry.Limits()
