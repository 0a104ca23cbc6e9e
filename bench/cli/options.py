"""Options that several commands share, and the closed sets of values among them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Cluster(StrEnum):
    """Executors of runs."""

    auto = "auto"
    inline = "inline"
    local = "local"
    slurm = "slurm"


class Device(StrEnum):
    """Devices that runs compute on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Format(StrEnum):
    """Formats of a table."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    html = "html"


class By(StrEnum):
    """Parts that a table is split into."""

    seed = "seed"
    organ = "organ"
    image = "image"


class Kind(StrEnum):
    """Kinds of figures; `bench.report.plot_kinds` has the module of each."""

    cost = "cost"
    organs = "organs"
    folds = "folds"
    images = "images"
    curves = "curves"
    ranks = "ranks"
    significance = "significance"
    tuning = "tuning"


class Log(StrEnum):
    """Programs that a training can be followed with."""

    tensorboard = "tensorboard"


class Score(StrEnum):
    """Scores that rows are ordered by."""

    pq = "pq"
    aji = "aji"
    dice = "dice"


class Category(StrEnum):
    """Kinds of names that can be listed."""

    backbones = "backbones"
    strategies = "strategies"
    heads = "heads"
    datasets = "datasets"
    grids = "grids"
    settings = "settings"
    fast_paths = "fast-paths"


Verbosity = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Print more of what is done: `bench -v run …`."
    ),
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Results folder.")]
GridName = Annotated[
    str, typer.Option("--grid", metavar="GRID", help="quick, default, or the path of a .py file that defines GRID.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. train.epochs=20; repeat for others. `bench list settings` shows all. Several "
        "values are a sweep: strategy.rank=1,4,8 and seed=0,1,2 plan all nine combinations.",
    ),
]
Tune = Annotated[
    int | None,
    typer.Option(
        "--tune",
        metavar="N",
        help="Try N encoder rates for each backbone × strategy before its training: short trainings on one fold, the "
        "best inner validation split decides. Same as --set train.tune=N.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="KEY=A,B", help="Run a part: backbone=A,B, strategy=A,B or fold=1,2; repeat for others."
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugins",
        metavar="DIR",
        help="Folder of .py files (or a single file) that register backbones, strategies, heads or datasets; repeat "
        "for others.",
    ),
]
Data = Annotated[Path | None, typer.Option(metavar="DIR", help="The dataset's folder; the user's cache by default.")]
Weights = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the official checkpoints; the user's cache by default.")
]
Profile = Annotated[str, typer.Option(metavar="NAME", help="Cluster profile: slurm/NAME.toml, or a path.")]
OnDevice = Annotated[Device, typer.Option("--device", help="auto: a GPU where there is one.")]
OnCluster = Annotated[
    Cluster,
    typer.Option(
        "--cluster",
        help="inline: this process; local: processes on this machine; slurm: jobs; auto: SLURM where there is one.",
    ),
]
LogFor = Annotated[
    Log | None,
    typer.Option("--log", help="Also write events of every training for TensorBoard; needs nuclei-bench[tensorboard]."),
]
KeepPredictions = Annotated[
    str,
    typer.Option(
        "--keep-predictions",
        metavar="N|all",
        help="Predicted label maps to keep of each run: those of the best, median and worst test image, and of the "
        "first N of the fold; or all of them. Runs that are done keep what they have.",
    ),
]
Backbones = Annotated[list[str] | None, typer.Argument(metavar="[BACKBONE]...", help="Backbones; all by default.")]
RUN_HELP = "A run: its id or the beginning of it, or BACKBONE/STRATEGY[,KEY=VALUE...]/FOLD."
WithPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="NAME[,NAME]", help="Also use these faster forms; `bench list fast-paths` has them."
    ),
]
WithoutPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME[,NAME]|all",
        help="Compute the plain form instead of these faster ones, to compare: results differ by rounding at most.",
    ),
]


def assignments(overrides: Sequence[str] | None, tune: int | None) -> list[str]:
    """Return the texts of ``--set`` with that of ``--tune``."""
    return [*(overrides or ()), *([] if tune is None else [f"train.tune={tune}"])]
