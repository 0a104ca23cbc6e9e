"""Commands about runs that were started: their state, their logs, cancelling and retrying them."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import RUN_HELP, Data, Device, OnDevice, Plugins, Results, Weights
from bench.console import RESULTS, console
from bench.errors import BenchError


def status(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help=f"Show this run alone. {RUN_HELP}")] = None,
    results: Results = RESULTS,
    grid: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this grid.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every row and every failure, however many.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the state of the runs: counts per backbone × strategy, where runs are at work, what failed and why.

    `bench status RUN` shows how the training of one run goes: epoch, loss, validation PQ epoch by epoch, best epoch.

    Exit code: 0 if nothing failed or was lost, 1 otherwise.
    """
    from bench.status import page, run_page, summary

    if run is not None:
        if grid is not None or full:
            raise BenchError("--grid and --full are about all runs of a folder: leave them out, or leave out RUN.")
        shown = run_page.read(results, run)
        if json:
            typer.echo(run_page.as_json(shown))
        else:
            run_page.show(shown, console())
        raise typer.Exit(shown.exit_code)
    progress = summary.read(results, grid=grid)
    if json:
        typer.echo(page.as_json(progress))
    else:
        page.show(progress, console(), full=full)
    raise typer.Exit(progress.exit_code)


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    results: Results = RESULTS,
    follow: Annotated[
        bool | None, typer.Option("--follow/--no-follow", help="Go on until the run is over; on a terminal by default.")
    ] = None,
) -> None:
    """Show what a run writes; Ctrl-C ends the reading, not the run."""
    from bench.status import logs as run_logs

    raise typer.Exit(run_logs.show(results, run, console(), follow=follow))


def cancel(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=RUN_HELP)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run that is not done.")] = False,
    results: Results = RESULTS,
) -> None:
    """End runs: waiting ones at once, running ones after they have saved their state. `bench retry` continues them."""
    from bench.submission import cancel as cancelling

    cancelling.cancel(results, runs or (), everything=all_, console=console())


def retry(
    failed: Annotated[
        bool, typer.Option("--failed", help="Also runs that would probably fail again: diverged, or a bug.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="On SLURM: submit and return.")] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another cluster profile than the one planned with.")
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Do every planned run that is not done: lost, interrupted, cancelled and waiting ones."""
    from bench.submission import retry_plans

    raise typer.Exit(retry_plans.retry_plans(results, console=console(), failed=failed, detach=detach, profile=profile))


def measure(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=RUN_HELP)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run that is done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while other programs use the machine.")] = False,
    results: Results = RESULTS,
    data: Data = None,
    weights: Weights = None,
    plugins: Plugins = None,
    device: OnDevice = Device.auto,
) -> None:
    """Take the latencies of done runs again, on a quiet machine; the record keeps the earlier ones.

    For runs that shared their GPU, which have no latencies, and for those that `bench table` marks. Scores, memory and
    the seconds of the training stay as they are. Images and checkpoints are those of the plan, or of --data and
    --weights.

    Exit code: 0 if every done run was measured, 1 if one was not, 2 if the machine is busy, 130 if stopped.
    """
    from bench.submission import measure_runs

    places = measure_runs.Places(data, weights, tuple(plugins or ()))
    code = measure_runs.measure_runs(
        results.resolve(),
        runs or (),
        everything=all_,
        places=places,
        device=device.value,
        force=force,
        console=console(),
    )
    raise typer.Exit(code)
