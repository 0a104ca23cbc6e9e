"""Everything on the report page, gathered from the records of a results folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.errors import BenchError
from bench.report import leaderboard, learning_curves, overall, tuning_curves
from bench.report.baselines import baseline_frame
from bench.report.figure_rows import runs_of
from bench.report.frame import SECTION_KEYS, leaderboard_frame, pooled, record_frame
from bench.report.image_scores import interval_scores
from bench.report.methods import rows as methods_of
from bench.report.pack_redaction import Redaction
from bench.report.paired import ScoreFiles
from bench.report.section import Section, sections
from bench.report.site import architectures, citation, headline, protocol, redacted, runs
from bench.report.site.parts import Part
from bench.results.record import RunRecord, read_all

logger = logging.getLogger(__name__)


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
    files: dict[str, bytes]


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
    records, redaction = redacted.records(results, records)
    frame = pooled(record_frame(records))
    images = interval_scores(results, frame)
    parts = sections(leaderboard_frame(frame), baseline_frame(baselines), images)
    curves = {drawable.stem: drawable for drawable in learning_curves.frames(results, runs_of(parts, frame))}
    trials = {drawable.stem: drawable for drawable in tuning_curves.of_records(runs_of(parts, frame), records)}
    study = protocol.Study(results, frame, images, _compared(results, frame), curves, trials)
    study.files["leaderboard.csv"] = leaderboard.csv(parts).encode("utf-8", "replace")
    protocols = [_protocol(study, section, f"s{number}", redaction) for number, section in enumerate(parts, 1)]
    general = [architectures.part(results, records, study.files), _audit(records), _failures(records)]
    return Page(
        name=results.resolve().name,
        facts=headline.facts(frame, parts),
        warnings=[redaction.text(sentence) for sentence in unreadable],
        protocols=protocols,
        general=[redacted.part(part, redaction) for part in general],
        citations=citation.citations(parts),
        files=study.files,
    )


def _protocol(study: protocol.Study, section: Section, anchor: str, redaction: Redaction) -> Protocol:
    return Protocol(
        anchor,
        section.name,
        redacted.headline(headline.headline(section, anchor), redaction),
        [redacted.part(part, redaction) for part in protocol.parts(study, section, anchor)],
    )


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


def _compared(results: Path, frame: pd.DataFrame) -> dict[protocol.Keys, tuple[list[overall.Overall], list[str]] | str]:
    """Return the comparison of all rows of each section, with notes, or the reason why there is none."""
    files = ScoreFiles(results)
    compared: dict[protocol.Keys, tuple[list[overall.Overall], list[str]] | str] = {}
    for keys, part in frame.groupby(list(SECTION_KEYS), sort=True):
        try:
            compared[keys] = overall.compare_all(methods_of(part), files)
        except BenchError as error:
            compared[keys] = str(error)
    return compared
