"""`bench perf`: speed of models on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Device, OnDevice, Overrides, Plugins, WithoutPaths, WithPaths
from bench.console import console


def perf(
    backbone: Annotated[str | None, typer.Argument(help="A registered backbone.")] = None,
    strategy: Annotated[str | None, typer.Argument(help="A strategy; several of the default grid by default.")] = None,
    overrides: Overrides = None,
    device: OnDevice = Device.auto,
    with_paths: WithPaths = None,
    without_paths: WithoutPaths = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images of a step; train.batch_size on a GPU by default, 1 on a CPU.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each form; the best counts.")] = 5,
    force: Annotated[bool, typer.Option("--force", help="Also while other programs use the machine.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the table: .md, .csv or .json.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Measure training steps and predictions on this machine, on painted images with random weights.

    `bench perf mobile_sam lora_qv --set image_size=512`

    A step is split into data, forward, backward, optimiser and wait; FLOPs and bytes are compared with a matrix product
    and a copy measured here; every faster form is compared with the plain one in the same process; a line says what
    bounds the speed. `bench plan` uses the numbers. Without names: some strategies on all backbones of the default grid
    on a GPU, on MobileSAM on a CPU. Ctrl-C keeps what was measured.

    Exit code: 0 if everything was measured, 1 if something was not, 2 if the machine is busy, 130 if stopped.
    """
    from bench import fast_paths
    from bench.perf import command

    code = command.perf(
        backbone,
        strategy,
        assignments=overrides or (),
        device=device.value,
        used_paths=fast_paths.choose(fast_paths.split(with_paths or ()), fast_paths.split(without_paths or ())),
        images=images,
        rounds=rounds,
        force=force,
        outputs=[path for path in (json if json is None or json.suffix else json.with_suffix(".json"), output) if path],
        plugins=plugins or (),
        console=console(),
    )
    raise typer.Exit(code)
