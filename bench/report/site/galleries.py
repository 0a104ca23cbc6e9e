"""Gallery of the page: for each row of the leaderboard its best, median and worst image with the predicted outlines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import BenchError
from bench.report import gallery, gallery_choice
from bench.report.methods import rows as methods_of
from bench.report.section import Section
from bench.report.site.figures import webp
from bench.report.site.parts import MOST_BYTES, Part, Picture
from bench.results import kept_files
from bench.results.record import folder
from bench.units import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 30
"""Rows that have a picture, from the best: each takes a second and 100 kB."""
SHARE = 0.7
"""Of `parts.MOST_BYTES`: the rest is left to the other figures."""
_DPI = 200


def part(
    results: Path, records: pd.DataFrame, section: Section, anchor: str, files: dict[str, bytes], n_sections: int = 1
) -> Part:
    """Return the gallery of a section; its pictures are added to the files.

    Args:
        results: the results folder.
        records: of the section, seeds pooled.
        section: its rows, best first.
        anchor: of the section.
        files: bytes of the files beside the page.
        n_sections: sections of the page, which have equal parts of its bytes.
    """
    name, title = f"{anchor}-gallery", "Gallery"
    if not kept_files.images_folder(results, section.dataset_digest).is_dir():
        return Part(name, title, ["No test images were kept with these runs, so there is nothing to look at."])
    places = {cell: place for place, cell in enumerate(section.rows["cell"])}
    most = SHARE * MOST_BYTES
    n_page, n_bytes = sum(map(len, files.values())), 0
    methods = sorted(methods_of(records), key=lambda method: places[method.runs["cell"].iloc[0]])
    pictures: list[Picture] = []
    reasons: dict[str, str] = {}
    for method in methods:
        if len(pictures) == MOST_ROWS or n_bytes > most / n_sections or n_page + n_bytes > most:
            break
        if not any(kept_files.predictions_folder(folder(results, run)).is_dir() for run in method.ok["id"]):
            reasons[method.name] = "no predictions were kept"
            continue
        try:
            figure = _draw(results, records, section, method.name)
        except BenchError as error:
            reasons[method.name] = str(error).rstrip(".")
            continue
        file = f"{anchor}-gallery-{len(pictures) + 1}.webp"
        files[file] = webp(figure, dpi=_DPI)
        n_bytes += len(files[file])
        width, height = figure.get_size_inches() * _DPI
        alt = f"Best, median and worst test image of {method.name}: image, true nuclei, and predicted outlines."
        pictures.append(Picture(file, method.name, alt, round(width), round(height)))
    return Part(name, title, _sentences(reasons, len(pictures), len(methods)), [], pictures)


def _draw(results: Path, records: pd.DataFrame, section: Section, name: str) -> Figure:
    shown = gallery_choice.methods_of(results, records, [name])
    rows = gallery_choice.rows(results, section.dataset_digest, shown)
    return gallery.draw(rows, [name], notes=gallery_choice.seed_note(shown), columns=1)


def _sentences(reasons: dict[str, str], n_pictures: int, n_rows: int) -> list[str]:
    """Return what is shown, and why rows are missing: one sentence for each reason, with the first row that has it."""
    sentences = []
    if n_pictures:
        sentences.append(
            "Of each row the best, the median and the worst test image by PQ, of those whose predictions were kept. "
            "Open a picture to read it."
        )
    if n_pictures + len(reasons) < n_rows:
        shown = f"The best {n_pictures} rows that have any" if n_pictures else "No pictures"
        sentences.append(f"{shown}; more would make the page large. `bench plot --gallery` draws each.")
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, own in reasons.items() if own == reason]
        others = f" and {plural(len(names) - 1, 'other row')}" if len(names) > 1 else ""
        sentences.append(f"Not shown: {names[0]}{others} ({reason}).")
    return sentences
