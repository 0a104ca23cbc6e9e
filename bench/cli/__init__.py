"""Command line: each command parses its arguments and calls one function."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench import characters
from bench.cli import cache, files, jobs, models, options, performance, reports
from bench.cli.options import Category, Cluster, Device
from bench.console import PLAIN, RESULTS, console, set_up_logging
from bench.errors import BenchError
from registry import cache_dir, names
from registry.errors import RegistryError

STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""
RESUMABLE = frozenset(("run", "retry", "data", "weights"))
"""Commands that, given again, go on where they were stopped."""


class StoppableGroup(TyperGroup):
    """Group of commands that Ctrl-C ends with a line and exit code 130; typer's own way says "Aborted" and gives 1."""

    def invoke(self, ctx: Any) -> Any:  # click's context; newer versions of typer bring their own click
        """Call the command that was given."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_stopped(ctx.invoked_subcommand)
            raise typer.Exit(STOPPED) from None

    def get_help(self, ctx: Any) -> str:
        """Return the help in characters that the terminal has: click would write UTF-8 to one of ASCII."""
        return characters.shown_in(sys.stdout.encoding or "utf-8", super().get_help(ctx))


def print_stopped(command: str | None = None) -> None:
    """Say that a command was stopped, and whether it can be continued."""
    goes_on = " The same command continues where this one stopped." if command in RESUMABLE else ""
    console(stderr=True).print(f"Stopped.{goes_on}", highlight=False, soft_wrap=True)


app = typer.Typer(
    name="bench",
    cls=StoppableGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text: rich took two thirds of the time of `bench --help`
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which parameter-efficient fine-tuning strategy, on which SAM, segments nuclei best for its cost?\n\n"
    "Start with `bench run --grid quick`, then `bench table`. With the official checkpoints and images: "
    "`bench weights fetch`, `bench data fetch`, `bench plan --grid default` (what it costs), "
    "`bench run --grid default`, `bench status`.\n\n"
    "`bench list` shows all names and settings. Each command has its own `--help`.",
)
app.add_typer(files.data, name="data")
app.add_typer(files.weights, name="weights")
app.add_typer(cache.cache, name="cache")


@app.callback()
def set_up(verbose: options.Verbosity = 0) -> None:
    """Set up what all commands share."""
    set_up_logging(verbose)


@app.command()
def run(
    grid: options.GridName = "quick",
    overrides: options.Overrides = None,
    tune: options.Tune = None,
    only: options.Only = None,
    data: options.Data = None,
    weights: options.Weights = None,
    results: options.Results = RESULTS,
    plugins: options.Plugins = None,
    cluster: options.OnCluster = Cluster.auto,
    profile: options.Profile = "default",
    workers: Annotated[int, typer.Option(min=0, help="Local processes; 0: one per GPU, or one.")] = 0,
    device: options.OnDevice = Device.auto,
    log: options.LogFor = None,
    with_paths: options.WithPaths = None,
    without_paths: options.WithoutPaths = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="On SLURM: submit and return; `bench status` shows the rest.")
    ] = False,
    keep_predictions: options.KeepPredictions = "3",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check everything, write the sbatch files, run nothing.")
    ] = False,
) -> None:
    """Run a grid: backbone × strategy × fold. Done runs are skipped; the same command resumes what was stopped.

    `bench run --grid default --only backbone=mobile_sam,tiny_sam --only fold=1 --set strategy.rank=8`

    A sweep plans every combination of its values: `--set strategy.rank=1,4,8 --set seed=0,1,2`. Runs that an earlier
    command did are not repeated, and a strategy without the swept option is planned once.

    On SLURM the runs are submitted as job arrays, and the view follows them. Ctrl-C leaves the jobs running.

    Exit code: 0 if every run is done, 1 if any failed, 2 for a bad plan, 130 if stopped.
    """
    from bench import fast_paths
    from bench.results.kept_files import parse_kept
    from bench.submission import prepare, preview

    kept = parse_kept(keep_predictions)
    used_paths = fast_paths.choose(fast_paths.split(with_paths or ()), fast_paths.split(without_paths or ()))
    try:
        with console().status("checking images and checkpoints"):
            prepared = prepare.prepare(
                grid,
                assignments=options.assignments(overrides, tune),
                only=only or (),
                data=data,
                weights_folder=weights,
                results=results,
                cluster=cluster.value,
                device=device.value,
                profile=profile,
                ahead=dry_run,
                plugins=plugins or (),
                log=log.value if log else None,
                used_paths=used_paths,
            )
    except KeyboardInterrupt:
        console().print("Stopped: nothing was started.")
        raise typer.Exit(STOPPED) from None
    if dry_run:
        raise typer.Exit(preview.dry_run(prepared, console=console(), keep_predictions=kept))
    raise typer.Exit(prepare.run(prepared, console=console(), workers=workers, detach=detach, keep_predictions=kept))


@app.command()
def plan(
    grid: options.GridName = "quick",
    overrides: options.Overrides = None,
    tune: options.Tune = None,
    only: options.Only = None,
    data: options.Data = None,
    weights: options.Weights = None,
    results: options.Results = RESULTS,
    plugins: options.Plugins = None,
    profile: options.Profile = "default",
    device: options.OnDevice = Device.auto,
    with_paths: options.WithPaths = None,
    without_paths: options.WithoutPaths = None,
    keep_predictions: options.KeepPredictions = "3",
) -> None:
    """Show what a grid would cost: runs, jobs, GPU-hours, memory and disk per backbone × strategy, and on what basis.

    A sweep (`--set strategy.rank=1,4,8`) has a row for each of its values, and their number on top.

    Nothing is submitted. Data and checkpoints need not be here yet.
    """
    from bench import fast_paths
    from bench.results.kept_files import parse_kept
    from bench.submission import prepare, preview

    kept = parse_kept(keep_predictions)
    with console().status("checking images and checkpoints"):
        prepared = prepare.prepare(
            grid,
            assignments=options.assignments(overrides, tune),
            only=only or (),
            data=data,
            weights_folder=weights,
            results=results,
            device=device.value,
            profile=profile,
            ahead=True,
            plugins=plugins or (),
            used_paths=fast_paths.choose(fast_paths.split(with_paths or ()), fast_paths.split(without_paths or ())),
        )
    preview.show_costs(prepared, console=console(), keep_predictions=kept)


for command in (
    jobs.status,
    jobs.logs,
    jobs.cancel,
    jobs.retry,
    jobs.measure,
    performance.perf,
    reports.table,
    reports.plot,
    reports.compare,
    reports.ablation,
    reports.report,
    reports.verify,
    models.predict,
    models.export,
):
    app.command()(command)


@app.command("list")
def list_(
    kind: Annotated[Category | None, typer.Argument(help="What to list; everything by default.")] = None,
    plugins: options.Plugins = None,
) -> None:
    """List what is registered (backbones, strategies, heads, datasets), the grids, and all settings.

    `--set` changes a setting of `bench run` and `bench plan`; with several values (seed=0,1,2) it plans each of them.
    """
    from bench.cli import catalog
    from bench.planning import plugins as plugin_files

    plugin_files.load(plugins or ())
    for category in Category if kind is None else (kind,):
        console().print(catalog.listing(category.value))


@app.command()
def show(
    backbone: Annotated[str, typer.Argument(help="A registered backbone.")],
    strategy: Annotated[str | None, typer.Argument(help="A strategy to apply to it.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels of the tree.")] = 3,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the architecture into a .png, .svg or .pdf file instead.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="strategy.OPTION of the strategy, head, or image_size; repeat for others.",
        ),
    ] = None,
    plugins: options.Plugins = None,
) -> None:
    """Show a backbone's card and its tree of modules, with what a strategy makes trainable marked.

    `bench show mobile_sam lora_qv`, `bench show mobile_sam lora_qv --figure architecture.pdf --set strategy.rank=8`
    """
    from bench.cli import catalog
    from bench.planning import plugins as plugin_files

    plugin_files.load(plugins or ())
    settings = catalog.model_settings(backbone, strategy, set_ or ())
    if figure is not None:
        path = catalog.save_figure(backbone, strategy, figure, settings)
        console().print(f"wrote {names.shown(path)}", **PLAIN)
        return
    for part in catalog.show(backbone, strategy, depth, settings):
        console().print(part)


def main() -> None:
    """Run the command line; known errors end it with their text and exit code 2, without a traceback."""
    try:
        # OpenMP's threads wait by spinning, without end by default: processes that share cores then took ten times as
        # long as their work. A short spin costs nothing where they are alone.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        cache_dir.set_missing_user_name()
        characters.replace_what_cannot_be_shown()
        app()
    except (BenchError, RegistryError, OSError) as error:
        from rich.markup import escape

        text = _file_error(error) if isinstance(error, OSError) and error.strerror else str(error)
        console(stderr=True).print(f"[red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # before a command was called, or while its last lines were printed
        print_stopped()
        raise SystemExit(STOPPED) from None


def _file_error(error: OSError) -> str:
    """Return an error of the file system in words, with what to do."""
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of getcwd
        return "the current folder was removed: change to another one, or give absolute paths (--results DIR)."
    text = f"{names.shown(error.filename)}: {error.strerror}." if error.filename else f"{error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return text + " What is done is kept: make room, and give the same command again."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return text + " Make it writable, or name another place (--results DIR, or -o FILE)."
    return text
