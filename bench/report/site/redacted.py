"""Content of the page without absolute paths and host names, because the folder of a report is sent as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.report.pack_redaction import Redaction
from bench.report.site.headline import Headline
from bench.report.site.parts import Chart, Entry, Part, Picture, Table
from bench.results.record import RunRecord


def records(results: Path, own: Sequence[RunRecord]) -> tuple[list[RunRecord], Redaction]:
    """Return records with redacted reasons and tracebacks, and the redaction, which knows the hosts of all of them."""
    redaction = Redaction(results)
    for record in own:
        redaction.collect(vars(record))
    shown = [
        replace(record, reason=_text(record.reason, redaction), traceback=_text(record.traceback, redaction))
        for record in own
    ]
    return shown, redaction


def headline(own: Headline, redaction: Redaction) -> Headline:
    """Return a summary with redacted sentences."""
    cautions = [redaction.text(sentence) for sentence in own.cautions]
    return replace(own, order=redaction.text(own.order), cautions=cautions)


def part(own: Part, redaction: Redaction) -> Part:
    """Return a part with redacted sentences: errors name files, and so do notes."""
    items = [_item(item, redaction) for item in own.items]
    return replace(own, text=[redaction.text(sentence) for sentence in own.text], items=items)


def _item(item: Table | Chart | Picture | Entry, redaction: Redaction) -> Table | Chart | Picture | Entry:
    if isinstance(item, Table | Chart):
        return replace(item, notes=[redaction.text(note) for note in item.notes])
    return item


def _text(text: str | None, redaction: Redaction) -> str | None:
    return redaction.text(text) if isinstance(text, str) else text
