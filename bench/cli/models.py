"""Commands that use what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import RUN_HELP, Device, OnDevice, Plugins, Results, Weights
from bench.console import RESULTS, console

Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN|BACKBONE/STRATEGY",
        help="The id or folder of a run, a folder of `bench export`, or a row, perhaps with ,KEY=VALUE.",
    ),
]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Images, or folders of images.")]
Fold = Annotated[
    int | None,
    typer.Option(metavar="N", help="Fold of a row; by default the one with the best PQ on its validation images."),
]
Ensemble = Annotated[bool, typer.Option("--ensemble", help="Average the logits of all folds (and seeds) of a row.")]
Scale = Annotated[float | None, typer.Option(metavar="X", help="Input pixels per image pixel; the run's by default.")]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", help="Side of the blocks that large images are cut into; smaller needs less memory."
    ),
]


def predict(
    model: Model,
    images: Images,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")],
    results: Results = RESULTS,
    fold: Fold = None,
    ensemble: Ensemble = False,
    scale: Scale = None,
    tile: Tile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier prediction.")] = False,
    device: OnDevice = Device.auto,
    weights: Weights = None,
    plugins: Plugins = None,
) -> None:
    """Find the nuclei in images of any size with the model of a run.

    `bench predict mobile_sam/lora_qv slides/ --out nuclei/`

    For each image: NAME.labels.tif (label map, 32 bits), NAME.geojson (outlines; QuPath reads them), NAME.csv (area,
    centroid, axes, … in pixels), NAME.overlay.png and NAME.json (model and settings). Images should have the
    magnification of those that the model was trained on; --scale tells of another one.

    Large images are cut into overlapping blocks; TIFF files are read block by block, other kinds whole.

    Exit code: 0 if every image is done, 1 if any could not be, 2 if nothing could begin.
    """
    from bench.planning import plugins as plugin_files
    from bench.predict import command

    plugin_files.load(plugins or ())
    code = command.predict(
        model,
        images,
        out=out,
        results=results,
        console=console(),
        fold=fold,
        ensemble=ensemble,
        scale=scale,
        tile=tile,
        device=device.value,
        weights=weights,
        overwrite=overwrite,
    )
    raise typer.Exit(code)


def export(
    run: Annotated[str, typer.Argument(help=RUN_HELP)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or is empty.")],
    merged: Annotated[
        bool,
        typer.Option(
            "--merged", help="Also write one checkpoint in the format of the backbone's authors, for other programs."
        ),
    ] = False,
    results: Results = RESULTS,
    weights: Weights = None,
    plugins: Plugins = None,
) -> None:
    """Write the model of a run into a folder to give away: adapter, other trained tensors, and a model card.

    `bench export mobile_sam/lora_qv/1 my_model --merged`

    `peft` alone loads a LoRA of the folder onto the backbone, and `registry.load("DIR")` any model; the card has the
    code for both, the scores with their protocol, the training data and the limits. The folder appears only if models
    that are loaded from it compute what the run's model does.
    """
    from bench.export.folder import export as export_run
    from bench.planning import plugins as plugin_files
    from registry import names

    plugin_files.load(plugins or ())
    with console().status("looking for the run") as status:
        written = export_run(run, folder, results=results, merged=merged, weights=weights, progress=status.update)
    typer.echo(names.shown(written.folder))
    for way, difference in written.differences.items():
        typer.echo(f"  loaded by {way}: largest difference of outputs {difference:.1e} of the largest output")
