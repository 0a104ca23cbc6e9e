"""Commands about files that runs need: datasets and official checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Backbones, Data, Plugins, Weights
from bench.console import console

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fetch, check or make datasets.")
weights = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Fetch or check the official checkpoints.")


@data.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in NuInsSeg's layout.")],
    dataset: Annotated[str, typer.Option(help="A registered dataset.")] = "nuinsseg",
    plugins: Plugins = None,
) -> None:
    """Read every image and label, and report per organ what is there, missing or broken.

    Exit code: 0 if nothing is wrong, 1 otherwise.
    """
    from bench.cli import catalog
    from bench.planning import plugins as plugin_files
    from bench.submission import images
    from registry import datasets, names

    plugin_files.load(plugins or ())
    shown = names.shown(folder)
    with console().status(f"reading {shown}"), images.errors_in_words(dataset, f"can't check its images in {shown}"):
        report = datasets.get(dataset).check(folder)
    for part in catalog.check_report(report):
        console().print(part, soft_wrap=True)
    raise typer.Exit(1 if report.problems else 0)


@data.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument(help="nuinsseg, or another registered dataset.")] = "nuinsseg",
    data: Data = None,
    plugins: Plugins = None,
) -> None:
    """Download and unpack a dataset (NuInsSeg: 1.6 GB from Zenodo)."""
    from bench.planning import plugins as plugin_files
    from bench.submission import images
    from registry import cache_dir, datasets, names

    plugin_files.load(plugins or ())
    folder = data or cache_dir.data(dataset)
    shown = names.shown(folder)
    with images.errors_in_words(dataset, f"can't be fetched to {shown}"):
        datasets.get(dataset).prepare(folder)
    typer.echo(shown)


@data.command("synth")
def data_synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or is empty.")],
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 24,
    size: Annotated[int, typer.Option(min=64, help="Side in pixels.")] = 256,
    organs: Annotated[int, typer.Option(min=1, max=31, help="Number of 'organs', each with its own look.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make synthetic H&E images with instance labels, in NuInsSeg's layout."""
    from registry import names
    from registry.datasets import synthetic

    with console().status(f"painting {images} images"):
        synthetic.write(folder, n_images=images, image_size=size, organs=organs, seed=seed)
    typer.echo(names.shown(folder))


@weights.command("fetch")
def weights_fetch(backbones: Backbones = None, weights: Weights = None, plugins: Plugins = None) -> None:
    """Download official checkpoints. A download that was stopped goes on; digests are verified."""
    from bench.cli import catalog
    from bench.planning import plugins as plugin_files
    from registry import names
    from registry import weights as checkpoints

    plugin_files.load(plugins or ())
    cards = catalog.cards_with_checkpoint(backbones or ())
    for card in cards:
        checkpoints.path(card, weights)  # a backbone without checkpoint must not show after gigabytes
    for card in cards:
        typer.echo(names.shown(checkpoints.fetch(card, weights)))


@weights.command("check")
def weights_check(backbones: Backbones = None, weights: Weights = None, plugins: Plugins = None) -> None:
    """Report which official checkpoints are there, and whether their digests are right.

    Exit code: 0 if all are there and right, 1 otherwise.
    """
    from bench.cli import catalog
    from bench.planning import plugins as plugin_files
    from registry import weights as checkpoints

    plugin_files.load(plugins or ())
    with console().status("reading checkpoints"):
        statuses = [checkpoints.check(card, weights) for card in catalog.cards_with_checkpoint(backbones or ())]
    console().print(catalog.weights_report(statuses))
    raise typer.Exit(1 if not all(status.usable for status in statuses) else 0)
