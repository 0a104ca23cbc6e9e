"""One command's share of a plan: give out what is due, show how it goes, and say what came of it."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console import command
from bench.errors import BenchError, ClusterError
from bench.grid import Run
from bench.results import plans, retry, submissions
from bench.results.index import Entry, Index
from bench.results.plans import SavedPlan
from bench.slurm import client
from bench.slurm.profile import ClusterProfile, load_profile, profile_for_device
from bench.status import live
from bench.units import plural
from bench.worker import provenance

if TYPE_CHECKING:
    from rich.console import Console

    from bench.estimate.resources import Resources
    from bench.submission.outcome import Outcome
    from bench.worker.worker import WorkerSettings

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
        plan: what is to be done, and where its runs find things; it stands in the results folder.
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
        BenchError: jobs that can't be submitted.
    """
    from bench.worker.worker import WorkerSettings

    profile = load_profile(plan.profile)
    limits = retry.limits(profile)
    reasons = {one.id: one.failures for one in index.entries.values() if one.status == "failed"}
    forgiven = {run_id: retry.count_ignored(given, final_too=final_too) for run_id, given in reasons.items()}
    by_id = {run.id: run for run in plan.runs}

    def is_final(entry: Entry) -> bool:
        return not retry.is_due(entry, by_id[entry.id], limits=limits, forgiven=forgiven.get(entry.id, 0))

    final = [one for run_id, one in index.entries.items() if run_id in by_id and is_final(one)]
    failed = sum(one.status == "failed" for one in final)
    done = len(final) - failed
    _want(results, by_id.keys())
    console.print(
        f"{plural(len(by_id) - len(final), 'run')} {WHERE[plan.kind]}{remark}; {done} done already, "
        f"results in {results}",
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
    places = WorkerSettings(results=results, data=plan.data, weights=plan.weights, device=plan.device, limits=limits)
    view = live.View(results=results, runs=plan.runs, is_final=is_final, console=console, index=index)
    outcome = _follow(plan, places, view, workers=workers, detach=detach, forgiven=forgiven, profile=profile)
    view.refresh()
    if plan.kind == "slurm" and detach and not outcome.errors:
        return _detached(outcome, results, console)
    return _close(view, results, outcome, console, on_slurm=plan.kind == "slurm")


def _follow(
    plan: SavedPlan,
    places: WorkerSettings,
    view: live.View,
    *,
    workers: int,
    detach: bool,
    forgiven: dict[str, int],
    profile: ClusterProfile,
) -> Outcome:
    from bench.estimate import packing
    from bench.submission import follow
    from bench.submission.outcome import Outcome

    def observe(queue: client.Queue | None, book: submissions.Ledger) -> None:
        view.queue, view.ledger = queue, book

    outcome = Outcome()
    try:
        with _sigterm_as_ctrl_c():
            if plan.kind == "slurm":
                needs = _needs(plan, places.results, profile, view.console)
                with nullcontext() if detach else live.shown(view):
                    outcome = follow.follow_slurm(
                        plan.runs,
                        places,
                        profile=profile,
                        forgiven=forgiven,
                        arrange=lambda due: packing.pack(due, needs, profile, client.max_array_size()),
                        detach=detach,
                        tell=lambda text: view.console.print(text, highlight=False, soft_wrap=True),
                        observe=observe,
                    )
            else:
                with live.shown(view):
                    outcome = follow.follow_local(
                        plan.runs, places, inline=plan.kind == "inline", workers=workers, forgiven=forgiven
                    )
    except KeyboardInterrupt:
        outcome.interrupted = True
    return outcome


def _needs(plan: SavedPlan, results: Path, profile: ClusterProfile, console: Console) -> Mapping[str, Resources]:
    """What the runs need, by id. Nothing is counted for runs on CPUs: they ask for all that the profile grants."""
    from bench.estimate import page
    from bench.results import record
    from registry import datasets

    samples = datasets.get(plan.runs[0].dataset).samples(plan.data) if plan.runs else ()
    return page.estimate_with_progress(
        plan.runs,
        samples,
        profile=profile_for_device(profile, plan.device),
        console=console,
        n_images=len(samples),
        records=record.read_all(results, [], history=False),
    )


def _want(results: Path, run_ids: Collection[str]) -> None:
    """A command about cancelled runs makes them wanted again."""
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


def _detached(outcome: Outcome, results: Path, console: Console) -> int:
    if outcome.interrupted:
        console.print("Stopped while submitting; the same command submits what is missing.", highlight=False)
        return 130
    if outcome.refused:
        console.print(
            f"{plural(outcome.refused, 'run')} not taken. Give the same command again when there is room, or leave out "
            "--detach: then it does so by itself.",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    told = "" if outcome.submitted else "Nothing to submit: every run is done or in a job. "
    if outcome.elsewhere:
        told += f"{plural(outcome.elsewhere, 'run')} of these in jobs of another user or cluster. "
    console.print(f"{told}`{command('status', results)}` shows how they go.", highlight=False, soft_wrap=True)
    return 0


def _close(view: live.View, results: Path, outcome: Outcome, console: Console, *, on_slurm: bool) -> int:
    from rich.markup import escape

    counts = view.counts()
    for failed in view.failures() if console.is_terminal else ():
        console.print(f"[red]{escape(live.line(failed))}[/]", highlight=False, soft_wrap=True)
    for error in dict.fromkeys(outcome.errors):
        console.print(f"[red]error:[/] {escape(error)}", highlight=False, soft_wrap=True)
    if outcome.interrupted:
        going_on = (
            f"Detached: the jobs go on. `{command('status', results)}` shows them, the same command follows again, "
            f"`{command('cancel --all', results)}` ends them."
            if on_slurm
            else "Stopped. The same command continues where this one stopped."
        )
        console.print(
            f"{counts['done']} of {counts['all']} runs are done and kept. {going_on}", highlight=False, soft_wrap=True
        )
        return 130
    told = f"{counts['done']} of {counts['all']} runs are done, {counts['failed']} failed"
    unwanted = submissions.read_cancelled(results) & {run.id for run in view.runs}
    cancelled = len(unwanted - view.done())
    told += f", {cancelled} cancelled" if cancelled else ""
    left = counts["all"] - counts["done"] - counts["failed"] - cancelled
    told += f", {left} left" if left else ""
    following = (
        "Mend that, and give the same command again."
        if outcome.errors
        else f"Next: {command('retry' if cancelled or left else 'table', results)}"
    )
    console.print(f"{told}. {following}", highlight=False, soft_wrap=True)
    return 1 if outcome.errors or counts["done"] < counts["all"] else 0


def retry_plans(results: Path, *, console: Console, failed: bool, detach: bool, profile: str | None) -> int:
    """`bench retry`: all plans of the results folder, as they were, as far as they are not done.

    Plans that find their things in the same places are carried out as one; of several, all but the last are
    submitted and left to themselves.

    Raises:
        BenchError: there is no plan, or there are jobs to detach from where there is no SLURM.
    """
    from bench.submission import submit

    results = results.resolve()
    saved_plans = plans.read_all(results)
    if not saved_plans:
        raise BenchError(f"there is no plan in {results}: nothing was run there yet. Start with `bench run`.")
    index = Index(results)
    index.refresh()
    done = index.done()
    latest = {run.id: (run, plan) for plan in saved_plans for run in plan.runs}
    shares: dict[SavedPlan, list[Run]] = {}
    for run, plan in latest.values():
        blank = replace(plan, grid="", planned="", runs=(), skipped=(), profile=profile or plan.profile)
        shares.setdefault(blank, []).append(run)
    left = [(places, runs) for places, runs in shares.items() if {run.id for run in runs} - done]
    codes = []
    for number, (places, runs) in enumerate(left, start=1):
        check_detachable(detach, submit.choose_executor(places.kind))
        one = replace(places, grid="retry", planned=provenance.now(), runs=tuple(runs))
        apart = number < len(left) and places.kind == "slurm"
        remark = f" with profile {places.profile}" if len(left) > 1 else ""
        code = execute(
            one, results=results, console=console, index=index, detach=detach or apart, final_too=failed, remark=remark
        )
        codes.append(code)
        if code == 130:
            break
    if not codes:
        console.print("Nothing to retry: every planned run is done.", highlight=False)
    return max(codes, default=0)


def check_detachable(detach: bool, kind: str) -> None:
    """Refuse to leave workers to themselves that would end with this command.

    Raises:
        ClusterError: there is no SLURM to leave them to.
    """
    if detach and kind != "slurm":
        raise ClusterError("--detach needs SLURM: local workers end with the command that started them.")


def check_writable(results: Path) -> None:
    """Refuse a results folder that can't be written to.

    Raises:
        BenchError: with what to do.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=results) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise BenchError(
            f"can't write to the results folder {results}: {error.strerror}; choose another with --results DIR."
        ) from error
