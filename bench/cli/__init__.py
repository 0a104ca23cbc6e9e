"""The command line: each verb parses its arguments and calls one function."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from bench import characters
from bench.cli import files, jobs
from bench.cli.jobs import Results
from bench.cli.options import Axis, Category, Cluster, Device, Format
from bench.console import RESULTS, console
from bench.errors import BenchError
from registry import cache_dir
from registry.errors import RegistryError

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which parameter-efficient fine-tuning strategy, on which SAM, segments nuclei best for its cost?\n\n"
    "Start with `bench run --grid quick`, then `bench table`.",
)
app.add_typer(files.data, name="data")
app.add_typer(files.weights, name="weights")

GridName = Annotated[str, typer.Option(help="quick, default, or the path of a .py file with a GRID.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. train.epochs=20; repeat as needed. `bench list settings` shows all.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="KEY=A,B", help="Narrow backbone, strategy or fold; repeat as needed."),
]
Data = Annotated[Path | None, typer.Option(metavar="DIR", help="The dataset's folder; the user's cache by default.")]
Weights = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the official checkpoints; the user's cache by default.")
]
Profile = Annotated[str, typer.Option(help="Cluster profile: slurm/NAME.toml, or a path.")]
for verb in (jobs.status, jobs.logs, jobs.cancel, jobs.retry):
    app.command()(verb)


@app.command()
def run(
    grid: GridName = "quick",
    overrides: Overrides = None,
    only: Only = None,
    data: Data = None,
    weights: Weights = None,
    results: Results = RESULTS,
    cluster: Annotated[
        Cluster,
        typer.Option(help="inline: this process; local: processes here; slurm: jobs; auto: SLURM where there is one."),
    ] = Cluster.auto,
    profile: Profile = "default",
    workers: Annotated[int, typer.Option(min=0, help="Local processes; 0: one per GPU, or one.")] = 0,
    device: Annotated[Device, typer.Option(help="auto: a GPU where there is one.")] = Device.auto,
    detach: Annotated[
        bool, typer.Option("--detach", help="On SLURM: submit and return; `bench status` shows the rest.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check everything, write the sbatch files, run nothing.")
    ] = False,
) -> None:
    """Run a grid: backbone × strategy × fold. Done runs are skipped; the same command resumes what was stopped.

    On SLURM the runs go out as job arrays, and the view follows them. Ctrl-C leaves the jobs running.

    Exit code: 0 if every run is done, 1 if any failed, 2 for a bad plan, 130 if stopped.
    """
    from bench.submission import prepare

    prepared = prepare.prepare(
        grid,
        assignments=overrides or (),
        only=only or (),
        data=data,
        weights_folder=weights,
        results=results,
        device="auto" if cluster is Cluster.slurm else device.value,
        profile=profile,
        ahead=dry_run,
    )
    if dry_run:
        code = prepare.dry_run(
            prepared, results=results, console=console(), kind=cluster.value, profile=profile, device=device.value
        )
        raise typer.Exit(code)
    code = prepare.run(
        prepared,
        results=results,
        weights_folder=weights,
        console=console(),
        kind=cluster.value,
        workers=workers,
        device=device.value,
        profile=profile,
        detach=detach,
    )
    raise typer.Exit(code)


@app.command()
def plan(
    grid: GridName = "quick",
    overrides: Overrides = None,
    only: Only = None,
    data: Data = None,
    weights: Weights = None,
    results: Results = RESULTS,
    profile: Profile = "default",
) -> None:
    """What a grid would cost: runs, jobs, GPU-hours, memory and disk per backbone × strategy, and on what basis."""
    from bench.submission import prepare

    prepared = prepare.prepare(
        grid,
        assignments=overrides or (),
        only=only or (),
        data=data,
        weights_folder=weights,
        results=results,
        profile=profile,
        ahead=True,
    )
    prepare.show_costs(prepared, results=results, console=console(), profile=profile)


@app.command()
def table(
    results: Results = RESULTS,
    format: Annotated[Format, typer.Option(help="terminal, markdown or csv.")] = Format.terminal,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to a file; .md and .csv choose the format."),
    ] = None,
    by_organ: Annotated[bool, typer.Option("--by-organ", help="PQ per organ instead of the leaderboard.")] = False,
) -> None:
    """The leaderboard, from records alone: mean ± sd over folds, with published baselines beside it."""
    from bench import report

    by_suffix = {".md": Format.markdown, ".csv": Format.csv}
    if output is not None and format is Format.terminal:
        format = by_suffix.get(output.suffix, format)
    report.show_table(results, format=format.value, output=output, by_organ=by_organ)


@app.command()
def plot(
    results: Results = RESULTS,
    x: Annotated[Axis, typer.Option(help="What accuracy is plotted against.")] = Axis.parameters,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="STEM", help="Path without suffix.")] = None,
) -> None:
    """Accuracy (PQ, AJI, Dice) against trainable parameters, latency or memory, as PNG and SVG."""
    from bench import report

    for path in report.draw_plots(results, x=x.value, output=output):
        typer.echo(path)


@app.command("list")
def list_(kind: Annotated[Category | None, typer.Argument(help="What to list; everything by default.")] = None) -> None:
    """What is registered: backbones, strategies, heads, datasets, grids; and all settings."""
    from bench.cli import catalog

    for one in Category if kind is None else (kind,):
        console().print(catalog.listing(one.value))


@app.command()
def show(
    backbone: Annotated[str, typer.Argument(help="A registered backbone.")],
    strategy: Annotated[str | None, typer.Argument(help="A strategy to apply to it.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels of the tree.")] = 3,
) -> None:
    """A backbone's card and its tree of modules, with what a strategy makes trainable marked."""
    from bench.cli import catalog

    for part in catalog.show(backbone, strategy, depth):
        console().print(part)


def main() -> None:
    """Run the command line; known errors end it with their text and exit code 2, without a traceback."""
    # OpenMP's threads wait by spinning, without end by default: processes that share cores then took ten times as
    # long as their work. A short spin costs nothing where they are alone.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    cache_dir.set_missing_user_name()
    characters.replace_what_cannot_be_shown()
    try:
        app()
    except (BenchError, RegistryError, OSError) as error:
        from rich.markup import escape

        text = str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            text += ". What is done is kept: make room, and give the same command again."
        console(stderr=True).print(f"[red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
