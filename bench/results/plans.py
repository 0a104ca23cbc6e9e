"""What was planned: one file per grid, so that `bench status` and `bench retry` know runs that never started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import ManifestError
from bench.grid import Run, digest
from bench.results import record


@dataclass(frozen=True)
class SavedPlan:
    """A plan as it was carried out, with where its runs find things.

    Attributes:
        grid: the grid's name.
        planned: when the last command about it was given (UTC, ISO 8601).
        runs: of the plan.
        skipped: impossible runs with the reason.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        kind: ``inline``, ``local`` or ``slurm``.
        profile: cluster profile.
    """

    grid: str
    planned: str
    runs: tuple[Run, ...]
    skipped: tuple[tuple[Run, str], ...]
    data: Path
    weights: Path | None
    device: str
    kind: str
    profile: str


def write(results: Path, manifest: SavedPlan) -> Path:
    """Write ``plans/<grid>-<digest of its run ids>.json``: the same plan, given again, replaces itself."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "grid": manifest.grid,
        "planned": manifest.planned,
        "data": str(manifest.data),
        "weights": str(manifest.weights) if manifest.weights else None,
        "device": manifest.device,
        "kind": manifest.kind,
        "profile": manifest.profile,
        "runs": [run.as_dict() for run in manifest.runs],
        "skipped": [[run.as_dict(), reason] for run, reason in manifest.skipped],
    }
    name = f"{manifest.grid}-{digest({'runs': [run.id for run in manifest.runs]})}.json"
    path = results / "plans" / name
    record.write_atomically(path, json.dumps(values, separators=(",", ":")) + "\n")
    return path


def read_all(results: Path) -> list[SavedPlan]:
    """All plans of a results folder, oldest first.

    Raises:
        ManifestError: a damaged file.
    """
    found = []
    for path in sorted((results / "plans").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                SavedPlan(
                    grid=values["grid"],
                    planned=values["planned"],
                    runs=tuple(Run(**one) for one in values["runs"]),
                    skipped=tuple((Run(**one), str(reason)) for one, reason in values["skipped"]),
                    data=Path(values["data"]),
                    weights=Path(values["weights"]) if values["weights"] else None,
                    device=values["device"],
                    kind=values["kind"],
                    profile=values["profile"],
                )
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                f"{path} can't be read as a plan ({type(error).__name__}: {error}); move it away, and give the "
                "`bench run` that wrote it again."
            ) from error
    return sorted(found, key=lambda one: one.planned)
