"""Labels that tell the settings of one backbone and strategy apart: ``rank=8, seed=1``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from bench.grid import Run


def setting_labels(runs: Iterable[Run], *, ignored: Collection[str] = ()) -> dict[str, str]:
    """Settings that distinguish the rows of one backbone and strategy, by run id.

    ``rank=8, seed=1``; an empty text for the runs of a pair that was planned with one set of settings only. A value
    that more than half of at least three rows have is left out: of settings changed one at a time, a label is the
    change.

    Args:
        runs: of any number of pairs.
        ignored: names of settings that do not make a row of their own, e.g. ``seed``.
    """
    ignored = {"id", "backbone", "strategy", "fold", *ignored}
    pairs: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs:
        pairs.setdefault((run.backbone, run.strategy), {}).setdefault(_settings_key(run, ignored), []).append(run)
    labels: dict[str, str] = {}
    for rows in pairs.values():
        settings_of_rows = [_settings(members[0], ignored) for members in rows.values()]
        names = list(dict.fromkeys(name for settings in settings_of_rows for name in settings))
        differing = [name for name in names if len({str(settings.get(name)) for settings in settings_of_rows}) > 1]
        usual = {name: _usual([str(settings.get(name)) for settings in settings_of_rows]) for name in differing}
        for settings, members in zip(settings_of_rows, rows.values(), strict=True):
            own = [name for name in differing if name in settings and str(settings[name]) != usual[name]]
            label = ", ".join(f"{name}={settings[name]}" for name in own)
            labels |= {run.id: label for run in members}
    return labels


def _usual(values: Sequence[str]) -> str | None:
    """Return the value that more than half of at least three rows have, or None."""
    value, count = Counter(values).most_common(1)[0]
    return value if len(values) > 2 and 2 * count > len(values) else None


def _settings_key(run: Run, ignored: Collection[str]) -> str:
    """All settings in one text; much cheaper than a digest, of which a page of ten thousand runs needs as many."""
    return repr([value for name, value in vars(run).items() if name not in ignored])


def _settings(run: Run, ignored: Collection[str]) -> dict[str, Any]:
    apart = {"options", "train", "neutral_options", *ignored}
    values = {name: value for name, value in vars(run).items() if name not in apart}
    return {**values, **run.options, **run.train}
