"""The verbs about files that runs need: datasets and official checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.console import console

data = typer.Typer(no_args_is_help=True, help="Fetch, check or make datasets.")
weights = typer.Typer(no_args_is_help=True, help="Fetch or check the official checkpoints.")


@data.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in NuInsSeg's layout.")],
    dataset: Annotated[str, typer.Option(help="A registered dataset.")] = "nuinsseg",
) -> None:
    """Read every image and label and tell, per organ, what is there, missing or broken."""
    from bench.cli import catalog
    from registry import datasets

    with console().status(f"reading {folder}"):
        report = datasets.get(dataset).check(folder)
    for part in catalog.check_report(report):
        console().print(part, soft_wrap=True)
    raise typer.Exit(1 if report.problems else 0)


@data.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument(help="nuinsseg, or another registered dataset.")] = "nuinsseg",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; the user's cache by default.")] = None,
) -> None:
    """Download and unpack a dataset (NuInsSeg: 1.6 GB from Zenodo)."""
    from registry import cache_dir, datasets

    folder = data or cache_dir.data(dataset)
    datasets.get(dataset).prepare(folder)
    typer.echo(folder)


@data.command("synth")
def data_synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or is empty.")],
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 24,
    size: Annotated[int, typer.Option(min=64, help="Side in pixels.")] = 256,
    organs: Annotated[int, typer.Option(min=1, max=31, help="Number of 'organs', each with its own look.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make synthetic H&E images with instance labels, in NuInsSeg's layout."""
    from registry.datasets import synthetic

    with console().status(f"painting {images} images"):
        synthetic.write(folder, n_images=images, image_size=size, organs=organs, seed=seed)
    typer.echo(folder)


@weights.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones; all by default.")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; the user's cache by default.")] = None,
) -> None:
    """Download official checkpoints: resumed where it stopped, digest verified, moved into place whole."""
    from bench.cli import catalog
    from registry import backbones
    from registry import weights as checkpoints

    cards = [backbones.card(name) for name in names or catalog.with_checkpoint()]
    for card in cards:
        checkpoints.path(card, weights)  # a typo in the last name must not show after gigabytes
    for card in cards:
        typer.echo(checkpoints.fetch(card, weights))


@weights.command("check")
def weights_check(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones; all by default.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where they lie; the user's cache by default.")
    ] = None,
) -> None:
    """Tell which official checkpoints are there and whether their digests are right."""
    from bench.cli import catalog
    from registry import backbones
    from registry import weights as checkpoints

    cards = [backbones.card(name) for name in names or catalog.with_checkpoint()]
    statuses = [checkpoints.check(card, weights) for card in cards]
    console().print(catalog.weights_report(statuses))
    raise typer.Exit(1 if any(status.state in ("missing", "wrong digest") for status in statuses) else 0)
