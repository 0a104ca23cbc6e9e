"""Everything on the report page, gathered from the records of a results folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.errors import BenchError
from bench.report import leaderboard, overall
from bench.report.baselines import baseline_frame
from bench.report.frame import SECTION_KEYS, leaderboard_frame, pooled, record_frame
from bench.report.image_scores import ImageScores, interval_scores
from bench.report.methods import rows as methods_of
from bench.report.paired import ScoreFiles
from bench.report.section import Section, sections
from bench.report.site import charts, citation, headline, heatmaps, pictures, runs
from bench.report.site.costs import cost_block
from bench.report.site.parts import Part, table_of
from bench.results.record import RunRecord, read_all

logger = logging.getLogger(__name__)

CHOICES = ("backbone", "strategy")


@dataclass(frozen=True)
class Protocol:
    """One section of the leaderboard with all that is shown of it.

    Attributes:
        anchor: its address in the page.
        title: its name.
        headline: see `bench.report.site.headline`.
        parts: in the order of the page.
    """

    anchor: str
    title: str
    headline: headline.Headline
    parts: list[Part]


@dataclass(frozen=True)
class Page:
    """Content of the report page.

    Attributes:
        name: of the results folder.
        facts: size of the study, name and value.
        warnings: sentences on files that can't be read.
        protocols: comparable rows, one after the other.
        general: parts about all runs: audit, failures.
        citations: what a reader cites.
        files: bytes of the files beside the page, by name.
    """

    name: str
    facts: list[tuple[str, str]]
    warnings: list[str]
    protocols: list[Protocol]
    general: list[Part]
    citations: citation.Citations
    files: dict[str, bytes] = field(default_factory=dict)


def gather(results: Path, *, baselines: Path | None = None) -> Page:
    """Return the content of the page of a results folder.

    Args:
        results: the results folder.
        baselines: published scores; None takes the shipped ones.

    Raises:
        BenchError: there are no records.
    """
    unreadable: list[str] = []
    records = list(read_all(results, unreadable, history=False))
    if not records:
        reason = f" {unreadable[0]}" if unreadable else ""
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.{reason}")
    for sentence in unreadable:
        logger.warning(sentence)
    frame = pooled(record_frame(records))
    images = interval_scores(results, frame)
    parts = sections(leaderboard_frame(frame), baseline_frame(baselines), images)
    files: dict[str, bytes] = {"leaderboard.csv": leaderboard.csv(parts).encode()}
    compared = _compared(results, frame)
    protocols = []
    for number, section in enumerate(parts, 1):
        outcome = compared[_keys(section)]
        shown = _parts(results, frame, section, images, outcome, f"s{number}", files)
        protocols.append(Protocol(f"s{number}", section.name, headline.headline(section, f"s{number}"), shown))
    return Page(
        name=results.resolve().name,
        facts=headline.facts(frame, parts),
        warnings=unreadable,
        protocols=protocols,
        general=[_audit(records), _failures(records)],
        citations=citation.citations(parts),
        files=files,
    )


def _parts(
    results: Path,
    frame: pd.DataFrame,
    section: Section,
    images: ImageScores,
    compared: tuple[overall.Overall, list[str]] | str,
    anchor: str,
    files: dict[str, bytes],
) -> list[Part]:
    """Return the parts of a section in order, and add the files that they need."""
    return [
        _leaderboard(section, anchor),
        _trade_off(section, anchor),
        _organs(section, images, anchor),
        *_significance(compared, anchor, files),
        _costs(section, anchor),
    ]


def _leaderboard(section: Section, anchor: str) -> Part:
    blocks = leaderboard.blocks([section])
    table = table_of(blocks[0], f"{anchor}-board", choices=CHOICES)
    published = [
        table_of(block, f"{anchor}-published-{place}", title=block.title) for place, block in enumerate(blocks[1:])
    ]
    return Part(f"{anchor}-leaderboard", "Leaderboard", [], [table, *published])


def _trade_off(section: Section, anchor: str) -> Part:
    chart = charts.trade_off(section, f"{anchor}-cost")
    text = [] if chart else ["No row has both scores and a cost."]
    return Part(f"{anchor}-trade-off", "Accuracy against cost", text, [chart] if chart else [])


def _organs(section: Section, images: ImageScores, anchor: str) -> Part:
    chart = heatmaps.organs(section, images.images, f"{anchor}-organ-map")
    if chart is None:
        reason = images.left_out or next(
            (images.missing[cell] for cell in section.rows["cell"] if cell in images.missing), "no run is ok"
        )
        return Part(f"{anchor}-organs", "Organs", [f"No scores per organ: {reason.rstrip('.')}."])
    n_organs = images.images.loc[images.images["cell"].isin(set(section.rows["cell"])), "organ"].nunique()
    text = ["The images are of one organ (or group), so that this is the leaderboard again."] if n_organs == 1 else []
    return Part(f"{anchor}-organs", "Organs", text, [chart])


def _significance(
    compared: tuple[overall.Overall, list[str]] | str, anchor: str, files: dict[str, bytes]
) -> list[Part]:
    """Return the test of every two rows, and the diagram of their mean ranks."""
    from bench.report.rank_diagram import rank_diagram

    name = f"{anchor}-significance"
    if isinstance(compared, str):
        return [Part(name, "Significance", [f"No test of every two rows: {compared}"])]
    first, notes = compared
    chart = heatmaps.significance(first, f"{anchor}-pairs")
    names = ", ".join(first.names[:5])
    alt = f"Critical-difference diagram: mean ranks of {len(first.names)} rows in PQ, among them {names}."
    picture, content = pictures.svg(rank_diagram(first), f"{anchor}-ranks.svg", "Mean ranks", alt)
    files[picture.file] = content
    return [Part(name, "Significance", notes, [chart, picture])]


def _costs(section: Section, anchor: str) -> Part:
    return Part(f"{anchor}-costs", "Costs", [], [table_of(cost_block(section), f"{anchor}-cost-table")])


def _audit(records: Sequence[RunRecord]) -> Part:
    numbers = runs.environments(records)
    text = [
        "audit: the parameters that require a gradient are those that the strategy names, each received one, and the "
        "saved ones give the same outputs when they are loaded again. Dates are in UTC."
    ]
    tables = [runs.audit_table(records, numbers), runs.environment_table(numbers)]
    return Part("audit", "Audit and provenance of every run", text, [table for table in tables if table is not None])


def _failures(records: Sequence[RunRecord]) -> Part:
    table, tracebacks = runs.failures(records)
    if table is None:
        return Part("failures", "Failures", ["No run that left a record failed or was skipped."])
    return Part("failures", "Failures", [], [table, *tracebacks])


def _compared(results: Path, frame: pd.DataFrame) -> dict[tuple[object, ...], tuple[overall.Overall, list[str]] | str]:
    """Return the comparison of all rows in PQ for each section, with notes, or the reason why there is none."""
    files = ScoreFiles(results)
    outcomes: dict[tuple[object, ...], tuple[overall.Overall, list[str]] | str] = {}
    for keys, part in frame.groupby(list(SECTION_KEYS), sort=True):
        try:
            tables, notes = overall.compare_all(methods_of(part), files)
        except BenchError as error:
            outcomes[keys] = str(error)
            continue
        outcomes[keys] = tables[0], notes
    return outcomes


def _keys(section: Section) -> tuple[object, ...]:
    return section.dataset, section.dataset_digest, section.n_splits, section.fold_seed
