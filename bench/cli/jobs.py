"""The verbs about runs that were given out: how they go, what they say, ending them, doing them again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.console import RESULTS, console

Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Results folder.")]
RUN = "A run: its id or the beginning of it, or BACKBONE/STRATEGY/FOLD."


def status(
    results: Results = RESULTS,
    grid: Annotated[str | None, typer.Option(help="Only runs of this grid.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every row and every failure, however many.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """How the runs go: counts by state per backbone × strategy, what runs where, what failed and why.

    Exit code: 0 if nothing failed or was lost, 1 otherwise.
    """
    from bench.status import page
    from bench.status import summary as room

    seen = room.read(results, grid=grid)
    if json:
        typer.echo(page.as_json(seen))
    else:
        page.show(seen, console(), full=full)
    raise typer.Exit(seen.exit_code)


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN)],
    results: Results = RESULTS,
    follow: Annotated[
        bool | None, typer.Option("--follow/--no-follow", help="Go on until the run is over; on a terminal by default.")
    ] = None,
) -> None:
    """What a run wrote, and goes on writing; Ctrl-C ends the reading, not the run."""
    from bench.status import logs as room

    raise typer.Exit(room.show(results, run, console(), follow=follow))


def cancel(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=RUN)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run that is not done.")] = False,
    results: Results = RESULTS,
) -> None:
    """End runs: waiting ones at once, running ones after they have saved their state. `bench retry` goes on from it."""
    from bench.submission import cancel as room

    room.cancel(results, runs or (), everything=all_, console=console())


def retry(
    failed: Annotated[
        bool, typer.Option("--failed", help="Also runs that would probably fail again: diverged, or a bug.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="On SLURM: submit and return.")] = False,
    profile: Annotated[str | None, typer.Option(help="Another cluster profile than the one planned with.")] = None,
    results: Results = RESULTS,
) -> None:
    """Do what is not done of everything that was planned here: lost, interrupted, cancelled, waiting runs."""
    from bench.submission import execute_plan

    raise typer.Exit(
        execute_plan.retry_plans(results, console=console(), failed=failed, detach=detach, profile=profile)
    )
