"""What tells the rows of one backbone and strategy apart, where they were planned with several settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.grid import Run


def setting_labels(runs: Iterable[Run]) -> dict[str, str]:
    """By run id: ``rank=8, seed=1``, or an empty text for the runs of a pair that has only one set of settings."""
    pairs: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs:
        pairs.setdefault((run.backbone, run.strategy), {}).setdefault(_key(run), []).append(run)
    found: dict[str, str] = {}
    for cells in pairs.values():
        flat = [_settings(members[0]) for members in cells.values()]
        names = list(dict.fromkeys(name for one in flat for name in one))
        differing = [name for name in names if len({str(one.get(name)) for one in flat}) > 1]
        for settings, members in zip(flat, cells.values(), strict=True):
            label = ", ".join(f"{name}={settings[name]}" for name in differing if name in settings)
            found |= {run.id: label for run in members}
    return found


def _key(run: Run) -> str:
    """All settings in one text; much cheaper than a digest, of which a page of ten thousand runs needs as many."""
    return repr(
        (
            run.head,
            run.dataset,
            run.dataset_digest,
            run.n_splits,
            run.fold_seed,
            run.validation_fraction,
            run.seed,
            run.weights,
            run.image_size,
            run.scale,
            run.options,
            run.train,
        )
    )


def _settings(run: Run) -> dict[str, Any]:
    values = {
        name: value
        for name, value in vars(run).items()
        if name not in ("id", "backbone", "strategy", "fold", "options", "train")
    }
    return {**values, **run.options, **run.train}
