"""Commands that report on records: leaderboard, figures, comparisons, the report's page and pack, and its check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import By, Format, Kind, Results, Score
from bench.console import RESULTS
from bench.errors import BenchError
from registry import names

Figures = Annotated[
    Kind,
    typer.Option(
        help="cost: scores against a cost or a setting; organs: PQ of each row on each organ; folds, images: "
        "distributions; curves: loss and validation PQ per epoch; ranks: mean ranks (critical difference); "
        "significance: every two rows."
    ),
]
Axis = Annotated[
    str | None,
    typer.Option(
        metavar="COST|SETTING",
        help="parameters (the encoder's trainable ones; by default), total (all trainable ones), latency, memory, "
        "gpu-hours; or a setting with several values: strategy.rank, train.lr.",
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="BACKBONE/STRATEGY",
        help="Show test images with the predictions of this method, perhaps with ,KEY=VALUE; repeat for others.",
    ),
]
Stems = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STEM",
        help="A test image of --gallery; repeat for others. By default the best, median and worst of the first method.",
    ),
]
FigureOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="STEM|FILE",
        help="FILE.png, FILE.svg or FILE.pdf; else the start of the names of PNG, SVG and PDF files.",
    ),
]


def table(
    results: Results = RESULTS,
    format: Annotated[
        Format | None, typer.Option(help="terminal, markdown, csv, latex or html.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file (.md, .csv, .tex, .html choose the format); - is the terminal.",
        ),
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="seed: a row for each seed; organ: PQ per organ; image: the worst images.")
    ] = None,
    worst: Annotated[
        int | None, typer.Option(metavar="N", help="Number of images of --by image; 20 by default.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns, by their title or their name in the CSV file.")
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column that orders the rows.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B", help="Rows with these settings: backbone=A,B,strategy=C; repeat for others."),
    ] = None,
) -> None:
    """Show the leaderboard, from records alone: mean ± sd over folds, with published baselines beside it."""
    from bench import report

    report.show_table(
        results,
        format=format and format.value,
        output=output,
        by=by and by.value,
        worst=worst,
        columns=[name.strip() for name in columns.split(",")] if columns else (),
        sort=sort,
        only=only or (),
    )


def plot(
    results: Results = RESULTS,
    kind: Figures = Kind.cost,
    x: Axis = None,
    published: Annotated[
        bool, typer.Option("--published", help="Draw published scores, even beside other images than theirs.")
    ] = False,
    gallery: Methods = None,
    image: Stems = None,
    columns: Annotated[int, typer.Option(metavar="1|2", help="Width: one or two columns of a paper.")] = 2,
    output: FigureOutput = None,
) -> None:
    """Draw accuracy (PQ, AJI, Dice) against a cost or a swept setting, as PNG, SVG and PDF.

    `bench plot --gallery mobile_sam/lora_qv --gallery mobile_sam/full` compares predictions on test images.
    """
    from bench import report

    if gallery or image:
        if kind is not Kind.cost or x or published:
            raise BenchError("--gallery is a figure of its own; leave out --kind, --x and --published.")
        from bench.report.gallery import draw_galleries

        for path in draw_galleries(results, gallery or (), stems=image or (), columns=columns, output=output):
            typer.echo(names.shown(path))
        return
    paths = report.draw_plots(results, kind=kind.value, x=x, published=published, columns=columns, output=output)
    for path in paths:
        typer.echo(names.shown(path))


def compare(
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="BACKBONE/STRATEGY, STRATEGY or BACKBONE, perhaps with ,KEY=VALUE; two or more, or none for all rows.",
        ),
    ] = None,
    results: Results = RESULTS,
    format: Annotated[
        Format | None, typer.Option(help="terminal, markdown, csv, latex or html.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file: .md, .csv, .tex, .html; .png, .svg and .pdf draw ranks of all rows; - is stdout.",
        ),
    ] = None,
    score: Annotated[Score, typer.Option(help="Score of the order, the matrix and the organs.")] = Score.pq,
) -> None:
    """Test which method is better on the same images; without names, rank all rows and test every two.

    A strategy alone is paired with another over the backbones, seeds, folds and images that both have.
    """
    from bench.report.compare import show_comparison

    show_comparison(results, methods or (), format=format and format.value, output=output, score=score.value)


def ablation(
    base: Annotated[
        list[str] | None,
        typer.Option(
            "--base",
            metavar="KEY=VALUE",
            help="A setting of the base row; repeat for others. By default the row from which most others differ in "
            "one setting.",
        ),
    ] = None,
    results: Results = RESULTS,
    format: Annotated[Format | None, typer.Option(help="terminal, markdown or csv.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file: .md or .csv; - is stdout.")
    ] = None,
) -> None:
    """Show what each setting is worth, changed alone: rows that differ from a base row in exactly one setting.

    A setting is kept where the 95 % interval of the paired difference in PQ lies above zero, and that of no other score
    below. `bench run --grid ablations` plans such rows; so does a grid file with `changes`.
    """
    from bench.report.changes_page import show_ablation

    show_ablation(results, base or (), format=format and format.value, output=output)


def report(
    results: Results = RESULTS,
    pack: Annotated[
        bool, typer.Option("--pack", help="Write one zip file for readers who check the claims, without images.")
    ] = False,
    architecture: Annotated[
        bool, typer.Option("--architecture", help="Draw the architecture figures that are missing; builds each model.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR|FILE.zip", help="RESULTS/report by default; pack.zip in it with --pack."
        ),
    ] = None,
) -> None:
    """Write a page with everything about a results folder: tables, figures, provenance, failures, how to cite.

    It opens in a browser from disk, without network: `index.html` with the folder `files` beside it. With `--pack`,
    records, image scores and folds go into a zip file without paths and host names; `bench verify` checks it.
    """
    if pack:
        from bench.report.pack import write_pack

        path, digest = write_pack(results, output)
        typer.echo(f"{names.shown(path)}\nSHA-256 {digest}")
        return
    if output is not None and output.suffix.lower() == ".zip":
        raise BenchError(f"{names.shown(output)}: the page is a folder; give one, or add --pack for a zip file.")
    from bench.report.site import architectures, write_report

    if architecture:
        architectures.draw_missing(results)
    typer.echo(names.shown(write_report(results, output=output)))


def verify(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="Zip file of `bench report --pack`.")],
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="SHA-256 of the pack that its author published.")
    ] = None,
) -> None:
    """Check a pack: its files have the digests of its manifest, and its tables follow from its records.

    Who changes a record can write tables and manifest anew: only the digest that the author published tells such a
    pack from the original. Exit code: 0 if all of that holds, 1 if something differs, 2 if the file is no pack.
    """
    from bench.report import verify as packs

    verdict = packs.verify(pack, sha256=sha256)
    for line in packs.report(verdict):
        typer.echo(names.shown(line))
    raise typer.Exit(0 if verdict.ok else 1)
