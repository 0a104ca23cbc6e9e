"""Groups of images that must stay in one fold, from ``manifest.csv`` beside the organ folders."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Set
from pathlib import Path

from registry.names import composed, shown


def read(path: Path, stems: Set[str]) -> tuple[dict[str, str], list[str]]:
    """Read the columns ``id`` and ``group``.

    Args:
        path: the manifest; none is needed.
        stems: stems of all complete samples; each must have exactly one row.

    Returns:
        Stem → group (empty where an image is its own group), and one sentence for each fault.
    """
    if not path.exists():
        return {}, []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [f"{path} can't be read: {error}; save it as CSV in UTF-8."]
    if missing := [name for name in ("id", "group") if name not in columns]:
        lacking, has = " and ".join(map(repr, missing)), ", ".join(map(shown, columns)) or "none"
        return {}, [f"{path} lacks the column {lacking}; it has: {has}. Add it, or remove the manifest."]
    groups = {composed(row["id"] or ""): composed(row["group"] or "").strip() for row in rows}
    times = Counter(composed(row["id"] or "") for row in rows)
    faults = []
    for what, ids, remedy in (
        ("has more than one row for", [name for name, n in times.items() if n > 1], "keep one of each"),
        ("names ids that have no complete sample:", sorted(times.keys() - stems), "remove the rows or add the files"),
        # Without a row an image would be its own group, and could leak from training into the test fold.
        ("has no row for", sorted(stems - times.keys()), "add them, or remove the manifest"),
    ):
        if ids:
            more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
            faults.append(f"{path} {what} {', '.join(map(repr, ids[:5]))}{more}; {remedy}.")
    return groups, faults
