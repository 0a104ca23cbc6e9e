"""Visual comparison: test images, their true nuclei, and each method's prediction with its errors told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import BenchError
from bench.report.baselines import baseline_frame
from bench.report.canvas import figure_width
from bench.report.figure_files import check_output, write_figures
from bench.report.figure_rows import random_notes
from bench.report.frame import leaderboard_frame
from bench.report.gallery_choice import GalleryRow, methods_of, rows, seed_note
from bench.report.gallery_page import draw_page
from bench.report.methods import Method, find
from bench.report.reading import read_records
from bench.report.section import Section, of_section, sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_METHODS = {1: 2, 2: 6}
"""In a figure of one and of two columns of a page: narrower cells have no room for their scores."""
MOST_IMAGES = 12


def figures(
    results: Path, names: Sequence[str] = (), *, stems: Sequence[str] = (), columns: int = 2
) -> list[tuple[str, Figure]]:
    """Return a gallery for each section (same images, same folds) in which all methods have runs.

    Args:
        results: the results folder.
        names: BACKBONE/STRATEGY, each perhaps with ``,KEY=VALUE``; one to six.
        stems: test images; none takes the best, median and worst of the first method.
        columns: width of the figure in columns of a page, 1 or 2.

    Returns:
        The part of the file name, and the figure.

    Raises:
        BenchError: no records, an unknown name or image, methods without common images, or too many of them.
        RecordError: files that are damaged.
    """
    _check(len(names), len(stems), columns)
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise BenchError(f"{repeated[0]!r} is given twice; a column of a gallery is of another method each.")
    records = read_records(results)
    # Before the sections, so that an unknown name is known as such, whatever the section.
    given = [find(records, name) for name in names]
    known = sections(leaderboard_frame(records), baseline_frame(None))
    drawn = []
    for section in known:
        if not all(len(of_section(method.ok, section.keys)) for method in given):
            continue
        own = of_section(records, section.keys)
        methods = methods_of(results, own, names)
        made = rows(results, section.dataset_digest, methods, stems)
        by_first = [f"The rank is by PQ among all test images of {names[0]}."] if len(names) > 1 else []
        notes = [*by_first, *_random(own, names), *seed_note(methods)]
        drawn.append((section.file_stem, draw(made, names, title=section.title, notes=notes, columns=columns)))
    if not drawn:
        raise BenchError(_nowhere(given, known))
    return drawn


def draw_galleries(
    results: Path, names: Sequence[str], *, stems: Sequence[str] = (), columns: int = 2, output: Path | None = None
) -> list[Path]:
    """Draw galleries as `figures` does, and write them to files.

    Args:
        results: the results folder.
        names: BACKBONE/STRATEGY, each perhaps with ``,KEY=VALUE``.
        stems: test images; none takes the best, median and worst of the first method.
        columns: width in columns of a page, 1 or 2.
        output: a file that ends in .png, .svg or .pdf; a folder; or the start of file names; None takes the folder
            ``figures`` below `results`.

    Raises:
        BenchError: see `figures`; images without methods, or an output that can't be written.
        RecordError: files that are damaged.
    """
    if not names:
        raise BenchError("--image names rows of a gallery; add its columns with --gallery BACKBONE/STRATEGY.")
    check_output(output)
    drawn = figures(results, names, stems=stems, columns=columns)
    return write_figures(drawn, "gallery", output, results / "figures")


def draw(
    made: Sequence[GalleryRow], names: Sequence[str], *, title: str = "", notes: Sequence[str] = (), columns: int = 2
) -> Figure:
    """Draw a gallery: a row for each image, with the image, its true nuclei, and the prediction of each method.

    Args:
        made: the rows; see `bench.report.gallery_choice.rows`, or make them of arrays.
        names: of the methods, in the order of the predictions.
        title: above the figure.
        notes: sentences below it.
        columns: width of the figure in columns of a page, 1 or 2.

    Raises:
        BenchError: too many methods or images, or none.
    """
    _check(len(names), len(made), columns)
    if not made:
        raise BenchError("a gallery needs at least one image.")
    return draw_page(made, names, title=title, notes=notes, columns=columns)


def _check(n_methods: int, n_images: int, columns: int) -> None:
    figure_width(columns)
    if not 1 <= n_methods <= MOST_METHODS[columns]:
        wider = "; --columns 2 takes six" if columns == 1 and 1 <= n_methods <= MOST_METHODS[2] else ""
        raise BenchError(
            f"a gallery of {columns} column{'s' if columns > 1 else ''} takes 1 to {MOST_METHODS[columns]} methods, "
            f"not {n_methods}{wider}."
        )
    if n_images > MOST_IMAGES:
        raise BenchError(f"a gallery takes at most {MOST_IMAGES} images, not {n_images}; draw several.")


def _random(records: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return random_notes(pd.concat([find(records, name).ok["weights"] for name in names]))


def _nowhere(methods: Sequence[Method], known: Sequence[Section]) -> str:
    where = []
    for method in methods:
        titles = [section.title for section in known if len(of_section(method.ok, section.keys))]
        where.append(f"{method.name}: {'; '.join(titles) or 'no run that is ok'}")
    return f"these methods have no runs on the same images and folds. {'. '.join(where)}."
