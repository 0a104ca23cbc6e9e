"""How to cite: this program, the dataset, the backbones that ran, and the sources of the published scores."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.grid import CLASSICAL
from bench.report.section import Section
from registry import backbones

_KINDS = {"software": "software", "article": "article"}


@dataclass(frozen=True)
class Citations:
    """References of a report.

    Attributes:
        message: the request of the authors of this program; empty without the file CITATION.cff.
        bibtex: entries of this program and of what its CITATION.cff refers to.
        backbones: name, paper, licence of the weights and repository, as the cards have them.
        published: sources of the published scores that are shown, with their protocol.
    """

    message: str
    bibtex: str
    backbones: list[dict[str, str]]
    published: list[tuple[str, str]]


def citations(sections: Sequence[Section], *, path: Path | None = None) -> Citations:
    """Return what a reader of these sections cites.

    Args:
        sections: of the report.
        path: a CITATION.cff; None takes the one of this program.
    """
    cff = _read(path or _shipped())
    entries = [_bibtex(cff, "nuclei-bench")] if cff else []
    for place, reference in enumerate(cff.get("references") or (), 1):
        entries.append(_bibtex(reference, f"reference-{place}"))
    names = dict.fromkeys(str(name) for section in sections for name in section.rows["backbone"] if name != CLASSICAL)
    return Citations(str(cff.get("message", "")), "\n\n".join(entries), _cards(names), _sources(sections))


def _cards(names: Iterable[str]) -> list[dict[str, str]]:
    known = set(backbones.names())
    cards = []
    for name in names:
        if name not in known:
            unknown = "not registered here: see the package that brings it"
            cards.append({"name": name, "paper": unknown, "licence": "", "repository": ""})
            continue
        card = backbones.card(name)
        cards.append({"name": name, "paper": card.paper, "licence": card.licence, "repository": card.repository})
    return cards


def _sources(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Return each source and protocol of the published rows once."""
    shown = pd.concat([section.published for section in sections]) if sections else pd.DataFrame()
    if shown.empty:
        return []
    return list(dict.fromkeys(zip(shown["source"].astype(str), shown["protocol"].astype(str), strict=True)))


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _shipped() -> Path:
    """Return the file of the checkout, or of a wheel (`data-files`)."""
    checkout = Path(__file__).resolve().parents[3] / "CITATION.cff"
    return checkout if checkout.is_file() else Path(sysconfig.get_path("data")) / "share/nuclei-bench/CITATION.cff"


def _bibtex(entry: Mapping[str, Any], key: str) -> str:
    authors = " and ".join(_author(author) for author in entry.get("authors") or ())
    fields = {
        "author": authors,
        "title": entry.get("title"),
        "journal": entry.get("journal"),
        "volume": entry.get("volume"),
        "pages": entry.get("start"),
        "year": entry.get("year") or str(entry.get("date-released") or "")[:4],
        "version": entry.get("version"),
        "doi": entry.get("doi"),
        "url": entry.get("url") or entry.get("repository-code"),
    }
    lines = [f"  {name} = {{{_tex(value)}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{_KINDS.get(str(entry.get('type')), 'misc')}{{{key},", *lines, "}"])


def _author(author: Mapping[str, Any]) -> str:
    name = author.get("name")
    if name:
        return "others" if str(name) == "et al." else f"{{{name}}}"
    return ", ".join(str(author[part]) for part in ("family-names", "given-names") if author.get(part))


def _tex(value: Any) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", str(value))
