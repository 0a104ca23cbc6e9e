"""Execute a saved plan: submit or start what is due, show how it goes, and say how it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import command, logging_to
from bench.grid import Run
from bench.planning import plugins
from bench.results import retry, submissions
from bench.results.index import Entry, Index
from bench.results.plans import SavedPlan
from bench.slurm import client
from bench.slurm.profile import ClusterProfile, load_profile, profile_for_device
from bench.status import live
from bench.submission import exit_message, images
from bench.units import plural

if TYPE_CHECKING:
    from rich.console import Console

    from bench.estimate.packing import JobArray
    from bench.submission.controller import Outcome
    from bench.worker.settings import WorkerSettings

WHERE = {"inline": "in this process", "local": "in local processes", "slurm": "on SLURM"}


def execute(
    plan: SavedPlan,
    *,
    results: Path,
    console: Console,
    index: Index,
    workers: int = 0,
    detach: bool = False,
    final_too: bool = False,
    remark: str = "",
) -> int:
    """Do what is due of a plan and show how it goes.

    Args:
        plan: runs to be done and the places they need; it stands in the results folder.
        results: the results folder.
        console: to print on.
        index: of the results folder, up to date.
        workers: local processes; 0: one per GPU, or one.
        detach: return as soon as everything is submitted to SLURM.
        final_too: also try again what would probably fail again.
        remark: added to the first line.

    Returns:
        The exit code: 0 fine, 1 something failed, 130 stopped.

    Raises:
        BenchError: jobs that can't be submitted; a results folder that vanishes; plug-ins that can't be loaded.
    """
    from bench.worker.settings import WorkerSettings

    plugins.load(plan.plugins)
    profile = profile_for_device(load_profile(plan.profile), plan.device)
    limits = retry.limits(profile)
    failures = {entry.id: entry.failures for entry in index.entries.values() if entry.status == "failed"}
    ignored = {run_id: retry.count_ignored(kinds, final_too=final_too) for run_id, kinds in failures.items()}
    by_id = {run.id: run for run in plan.runs}

    def is_final(entry: Entry) -> bool:
        return not retry.is_due(entry, by_id[entry.id], limits=limits, ignored_failures=ignored.get(entry.id, 0))

    _remove_cancel_marks(results, by_id.keys())
    final = [entry for run_id, entry in index.entries.items() if run_id in by_id and is_final(entry)]
    _print_start(plan, final, results, console, remark)
    settings = WorkerSettings(
        results=results,
        data=plan.data,
        weights=plan.weights,
        device=plan.device,
        limits=limits,
        plugins=plan.plugins,
        keep_predictions=plan.keep_predictions,
        log=plan.log,
        fast_paths=plan.fast_paths,
    )
    view = live.View(results=results, runs=plan.runs, is_final=is_final, console=console, index=index)
    outcome = _follow(plan, settings, view, workers=workers, detach=detach, ignored_failures=ignored, profile=profile)
    view.refresh()
    if plan.kind == "slurm" and detach and not outcome.errors:
        return exit_message.print_detached(outcome, results, console)
    return exit_message.print_end(view, results, outcome, console, on_slurm=plan.kind == "slurm")


def _print_start(plan: SavedPlan, final: Sequence[Entry], results: Path, console: Console, remark: str) -> None:
    failed = sum(entry.status == "failed" for entry in final)
    console.print(
        f"{plural(len(plan.runs) - len(final), 'run')} {WHERE[plan.kind]}{remark}; {len(final) - failed} done "
        f"already, results in {results}",
        highlight=False,
        soft_wrap=True,
    )
    if failed:
        console.print(
            f"{failed} failed before and would fail again; `{command('retry --failed', results)}` tries them "
            "all the same.",
            highlight=False,
            soft_wrap=True,
        )


def _follow(
    plan: SavedPlan,
    settings: WorkerSettings,
    view: live.View,
    *,
    workers: int,
    detach: bool,
    ignored_failures: dict[str, int],
    profile: ClusterProfile,
) -> Outcome:
    from bench.submission import follow
    from bench.submission.controller import Outcome

    def observe(queue: client.Queue | None, ledger: submissions.Ledger) -> None:
        view.queue, view.ledger = queue, ledger

    try:
        with _sigterm_as_ctrl_c(), logging_to(view.console):
            if plan.kind == "slurm":
                arrange = _arrangement(plan, settings.results, profile, view.console)
                with nullcontext() if detach else live.shown(view):
                    return follow.follow_slurm(
                        plan.runs,
                        settings,
                        profile=profile,
                        ignored_failures=ignored_failures,
                        arrange=arrange,
                        detach=detach,
                        observe=observe,
                    )
            with live.shown(view):
                return follow.follow_local(
                    plan.runs,
                    settings,
                    inline=plan.kind == "inline",
                    workers=workers,
                    ignored_failures=ignored_failures,
                )
    except KeyboardInterrupt:
        return Outcome(interrupted=True)


def _arrangement(
    plan: SavedPlan, results: Path, profile: ClusterProfile, console: Console
) -> Callable[[Sequence[Run]], Sequence[JobArray]]:
    """Return the function that groups due runs into job arrays, by estimates that are made here, once."""
    from bench.estimate import packing, page
    from bench.results import record

    samples = images.samples(plan.runs[0].dataset, plan.data) if plan.runs else ()
    resources = page.estimate_with_progress(
        plan.runs,
        samples,
        profile=profile,
        console=console,
        n_images=len(samples),
        records=record.read_all(results, [], history=False),
        used_paths=plan.fast_paths,
    )
    return lambda due: packing.pack(due, resources, profile, client.max_array_size())


def _remove_cancel_marks(results: Path, run_ids: Collection[str]) -> None:
    """A command about cancelled runs wants them done all the same."""
    if submissions.read_cancelled(results) & set(run_ids):
        with submissions.locked(results):
            submissions.write_cancelled(results, submissions.read_cancelled(results) - set(run_ids))


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """`kill`, systemd and time limits send SIGTERM: it ends the command as Ctrl-C does, workers included."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
