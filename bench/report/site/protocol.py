"""Parts of the page about one protocol: the rows that were run on the same images and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.report import leaderboard, overall, tuning_curves
from bench.report.figure_rows import Drawable
from bench.report.image_scores import ImageScores
from bench.report.section import Section, of_section
from bench.report.site import charts, figures, galleries, heatmaps
from bench.report.site.costs import cost_block
from bench.report.site.parts import Part, table_of

CHOICES = ("backbone", "strategy")
"""Columns of the leaderboard by whose values it is filtered."""
Keys = tuple[object, ...]


@dataclass(frozen=True)
class Study:
    """Content of a results folder, read once for all parts.

    Attributes:
        results: the folder.
        frame: the records, see `bench.report.frame.record_frame`.
        images: scores of all test images.
        compared: for each section, the comparison of all rows in each score with its notes, or the reason why there
            is none.
        curves: histories of the trainings by the section's part of file names.
        trials: of encoder rates, likewise.
        files: bytes of the files beside the page by name, which the parts add to.
    """

    results: Path
    frame: pd.DataFrame
    images: ImageScores
    compared: Mapping[Keys, tuple[list[overall.Overall], list[str]] | str]
    curves: Mapping[str, Drawable]
    trials: Mapping[str, Drawable] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def parts(study: Study, section: Section, anchor: str) -> list[Part]:
    """Return the parts of a section in the order of the page; files that they need are added to the study's."""
    return [
        _leaderboard(section, anchor),
        _trade_off(section, anchor),
        _organs(study, section, anchor),
        _significance(study, section, anchor),
        galleries.part(
            study.results,
            of_section(study.frame, section.keys),
            section,
            anchor,
            study.files,
            n_sections=len(study.compared),
        ),
        _curves(study, section, anchor),
        *_tuning(study, section, anchor),
        Part(f"{anchor}-costs", "Costs", [], [table_of(cost_block(section), f"{anchor}-cost-table")]),
    ]


def _leaderboard(section: Section, anchor: str) -> Part:
    own, *others = leaderboard.blocks([section])
    table = table_of(own, f"{anchor}-board", choices=CHOICES)
    published = [table_of(block, f"{anchor}-published-{i}", title=block.title) for i, block in enumerate(others, 1)]
    return Part(f"{anchor}-leaderboard", "Leaderboard", [], [table, *published])


def _trade_off(section: Section, anchor: str) -> Part:
    chart = charts.trade_off(section, f"{anchor}-cost")
    text = [] if chart else ["No row has both scores and a cost."]
    return Part(f"{anchor}-trade-off", "Accuracy against cost", text, [chart] if chart else [])


def _organs(study: Study, section: Section, anchor: str) -> Part:
    images, name = study.images, f"{anchor}-organs"
    chart = heatmaps.organs(section, images.images, f"{anchor}-organ-map")
    if chart is None:
        missing = [images.missing[cell] for cell in section.rows["cell"] if cell in images.missing]
        reason = images.left_out or next(iter(missing), "no run is ok")
        return Part(name, "Organs", [f"No scores per organ: {reason.rstrip('.')}."])
    n_organs = images.images.loc[images.images["cell"].isin(set(section.rows["cell"])), "organ"].nunique()
    text = ["The images are of one organ (or group), so that this is the leaderboard again."] if n_organs == 1 else []
    return Part(name, "Organs", text, [chart])


def _significance(study: Study, section: Section, anchor: str) -> Part:
    """Return the test of every two rows, and the diagram of their mean ranks."""
    name, compared = f"{anchor}-significance", study.compared[section.keys]
    if isinstance(compared, str):
        return Part(name, "Significance", [f"No test of every two rows: {compared}"])
    overalls, notes = compared
    chart = heatmaps.significance(overalls[0], f"{anchor}-pairs")
    picture, content = figures.ranks(overalls[0], f"{anchor}-ranks")
    study.files[picture.file] = content
    return Part(name, "Significance", notes, [chart, picture])


def _curves(study: Study, section: Section, anchor: str) -> Part:
    name, drawable = f"{anchor}-curves", study.curves.get(section.file_stem)
    drawn = figures.curves(drawable, f"{anchor}-curves") if drawable else None
    if drawn is None:
        return Part(name, "Learning curves", ["No run that is ok has a history: only trained runs have one."])
    picture, content, notes = drawn
    study.files[picture.file] = content
    return Part(name, "Learning curves", notes, [picture])


def _tuning(study: Study, section: Section, anchor: str) -> list[Part]:
    """Return the curves of tuning and the rates that were chosen; none where no run was tuned."""
    drawable = study.trials.get(section.file_stem)
    if drawable is None:
        return []
    table = table_of(tuning_curves.table(drawable.frame), f"{anchor}-tuning-table", choices=("method",))
    drawn = figures.tuning(drawable, f"{anchor}-tuning")
    if drawn is None:
        return [Part(f"{anchor}-tuning", "Tuning", ["Every rate diverged."], [table])]
    picture, content = drawn
    study.files[picture.file] = content
    return [Part(f"{anchor}-tuning", "Tuning", [tuning_curves.NOTE], [picture, table])]
