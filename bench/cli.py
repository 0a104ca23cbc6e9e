"""The command line: each verb parses its arguments and calls one function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bench.choices import Axis, Device, Format, Kind, Where
from bench.errors import BenchError
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
data_app = typer.Typer(no_args_is_help=True, help="Fetch, check or make datasets.")
weights_app = typer.Typer(no_args_is_help=True, help="Fetch or check the official checkpoints.")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")

Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Results folder.")]
RESULTS = Path("results")


@app.command()
def run(
    grid: Annotated[
        str, typer.Option(help="quick, default, or the path of a .py file with a GRID.")
    ] = "quick",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting, e.g. train.epochs=20; repeat as needed. `bench list settings` shows all.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="KEY=A,B", help="Narrow backbone, strategy or fold; repeat as needed."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's folder; the user's cache by default.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the official checkpoints; the user's cache by default."),
    ] = None,
    results: Results = RESULTS,
    cluster: Annotated[
        Where,
        typer.Option(
            help="inline: this process; local: processes here; slurm: jobs; auto: SLURM where there is one."
        ),
    ] = Where.auto,
    profile: Annotated[str, typer.Option(help="Cluster profile: slurm/NAME.toml, or a path.")] = "default",
    workers: Annotated[int, typer.Option(min=0, help="Local processes; 0: one per GPU, or one.")] = 0,
    device: Annotated[Device, typer.Option(help="auto: a GPU where there is one.")] = Device.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check everything, run nothing.")
    ] = False,
) -> None:
    """Run a grid: backbone × strategy × fold. Done runs are skipped; the same command resumes what was stopped.

    Exit code: 0 if every run is done, 1 if any failed, 2 for a bad plan, 130 if stopped.
    """
    from bench import launch

    prepared = launch.prepare(
        grid, assignments=overrides or (), only=only or (), data=data, weights_folder=weights, results=results,
        device="auto" if cluster is Where.slurm else device.value, profile=profile,
    )  # fmt: skip
    if dry_run:
        launch.show_plan(prepared, console())
        return
    code = launch.run(
        prepared, results=results, weights_folder=weights, console=console(), kind=cluster.value,
        workers=workers, device=device.value, profile=profile,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def table(
    results: Results = RESULTS,
    format: Annotated[Format, typer.Option(help="terminal, markdown or csv.")] = Format.terminal,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write to a file; .md and .csv choose the format."
        ),
    ] = None,
    by_organ: Annotated[
        bool, typer.Option("--by-organ", help="PQ per organ instead of the leaderboard.")
    ] = False,
) -> None:
    """The leaderboard, from records alone: mean ± sd over folds, with published baselines beside it."""
    from bench import report

    by_suffix = {".md": Format.markdown, ".csv": Format.csv}
    if output is not None and format is Format.terminal:
        format = by_suffix.get(output.suffix, format)
    report.table(results, format=format.value, output=output, by_organ=by_organ)


@app.command()
def plot(
    results: Results = RESULTS,
    x: Annotated[Axis, typer.Option(help="What accuracy is plotted against.")] = Axis.parameters,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="STEM", help="Path without suffix.")
    ] = None,
) -> None:
    """Accuracy (PQ, AJI, Dice) against trainable parameters, latency or memory, as PNG and SVG."""
    from bench import report

    for path in report.plot(results, x=x.value, output=output):
        typer.echo(path)


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything by default.")] = None,
) -> None:
    """What is registered: backbones, strategies, heads, datasets, grids; and all settings."""
    from bench import catalogue

    for one in Kind if kind is None else (kind,):
        console().print(catalogue.listing(one.value))


@app.command()
def show(
    backbone: Annotated[str, typer.Argument(help="A registered backbone.")],
    strategy: Annotated[str | None, typer.Argument(help="A strategy to apply to it.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels of the tree.")] = 3,
) -> None:
    """A backbone's card and its tree of modules, with what a strategy makes trainable marked."""
    from bench import catalogue

    for part in catalogue.show(backbone, strategy, depth):
        console().print(part)


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in NuInsSeg's layout.")],
    dataset: Annotated[str, typer.Option(help="A registered dataset.")] = "nuinsseg",
) -> None:
    """Read every image and label and tell, per organ, what is there, missing or broken."""
    from bench import catalogue
    from registry import datasets

    with console().status(f"reading {folder}"):
        report = datasets.get(dataset).check(folder)
    for part in catalogue.check_report(report):
        console().print(part, soft_wrap=True)
    raise typer.Exit(1 if report.problems else 0)


@data_app.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument(help="nuinsseg, or another registered dataset.")] = "nuinsseg",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; the user's cache by default.")
    ] = None,
) -> None:
    """Download and unpack a dataset (NuInsSeg: 1.6 GB from Zenodo)."""
    from bench import cache
    from registry import datasets

    folder = data or cache.data_folder(dataset)
    datasets.get(dataset).prepare(folder)
    typer.echo(folder)


@data_app.command("synth")
def data_synth(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or is empty.")
    ],
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 24,
    size: Annotated[int, typer.Option(min=64, help="Side in pixels.")] = 256,
    organs: Annotated[
        int, typer.Option(min=1, max=31, help="Number of 'organs', each with its own look.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make synthetic H&E images with instance labels, in NuInsSeg's layout."""
    from registry.datasets import synthetic

    with console().status(f"painting {images} images"):
        synthetic.write(folder, n_images=images, image_size=size, organs=organs, seed=seed)
    typer.echo(folder)


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones; all by default.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; the user's cache by default.")
    ] = None,
) -> None:
    """Download official checkpoints: resumed where it stopped, digest verified, moved into place whole."""
    from bench import catalogue
    from registry import weights as room

    wanted = names or catalogue.with_checkpoint()
    for name in wanted:
        room.path(name, weights)  # a typo in the last name must not show after gigabytes
    for name in wanted:
        typer.echo(room.fetch(name, weights))


@weights_app.command("check")
def weights_check(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones; all by default.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where they lie; the user's cache by default.")
    ] = None,
) -> None:
    """Tell which official checkpoints are there and whether their digests are right."""
    from bench import catalogue
    from registry import weights as room

    statuses = [room.check(name, weights) for name in names or catalogue.with_checkpoint()]
    console().print(catalogue.weights_report(statuses))
    raise typer.Exit(1 if any(status.state in ("missing", "wrong digest") for status in statuses) else 0)


def console(stderr: bool = False):  # type: ignore[no-untyped-def]  # a rich Console, imported late
    """The console; rich obeys NO_COLOR and the width of the terminal."""
    from rich.console import Console

    return Console(stderr=stderr)


def main() -> None:
    """Run the command line; known errors end it with their text and exit code 2, without a traceback."""
    # OpenMP's threads wait by spinning, without end by default: processes that share cores then took ten times as
    # long as their work. A short spin costs nothing where they are alone.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except (BenchError, RegistryError, OSError) as error:
        from rich.markup import escape

        console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
