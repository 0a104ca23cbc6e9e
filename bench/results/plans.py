"""Plans on disk: one file per planned grid, so that `bench status` and `bench retry` know runs that never started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import fast_paths
from bench.errors import SavedPlanError
from bench.grid import Run, digest
from bench.results.kept_files import DEFAULT_KEPT
from registry import atomic

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SavedPlan:
    """A plan as it was carried out, with the places and settings that its runs need.

    Attributes:
        grid: the grid's name.
        planned: time of the last command about it (UTC, ISO 8601).
        runs: of the plan.
        skipped: impossible runs with the reason.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        kind: ``inline``, ``local`` or ``slurm``.
        profile: cluster profile.
        plugins: files and folders that register names which the runs use.
        keep_predictions: number of first test images whose predicted label maps a run keeps; None for all.
        log: ``tensorboard`` or None, as `--log` took it.
        fast_paths: names of the faster forms that are used (see `bench.fast_paths`).
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
    plugins: tuple[Path, ...] = ()
    keep_predictions: int | None = DEFAULT_KEPT
    log: str | None = None
    fast_paths: frozenset[str] = fast_paths.DEFAULT


def write(results: Path, plan: SavedPlan) -> Path:
    """Write ``plans/<grid>-<digest of its run ids>.json``: the same plan, given again, replaces itself."""
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "grid": plan.grid,
        "planned": plan.planned,
        "data": str(plan.data),
        "weights": str(plan.weights) if plan.weights else None,
        "device": plan.device,
        "kind": plan.kind,
        "profile": plan.profile,
        "plugins": [str(source) for source in plan.plugins],
        "keep_predictions": plan.keep_predictions,
        "log": plan.log,
        "fast_paths": sorted(plan.fast_paths),
        "runs": [run.as_dict() for run in plan.runs],
        "skipped": [[run.as_dict(), reason] for run, reason in plan.skipped],
    }
    path = results / "plans" / f"{plan.grid}-{digest({'runs': [run.id for run in plan.runs]})}.json"
    atomic.write_text(path, json.dumps(values, separators=(",", ":")) + "\n")
    return path


def read_all(results: Path) -> list[SavedPlan]:
    """All plans of a results folder, oldest first.

    Raises:
        SavedPlanError: a damaged file, or one of a newer schema.
    """
    plans = []
    for path in sorted((results / "plans").glob("[!.]*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
                raise SavedPlanError(
                    f"{path} is a plan of a newer version: it has schema {values['schema_version']}, this version "
                    f"reads up to {SCHEMA_VERSION}; update nuclei-bench, or use another --results."
                )
            plans.append(_parse(values))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SavedPlanError(
                f"{path} can't be read as a plan ({type(error).__name__}: {error}); move it away, and give the "
                "`bench run` that wrote it again."
            ) from error
    return sorted(plans, key=lambda plan: plan.planned)


def _parse(values: Mapping[str, Any]) -> SavedPlan:
    return SavedPlan(
        grid=values["grid"],
        planned=values["planned"],
        runs=tuple(Run(**run) for run in values["runs"]),
        skipped=tuple((Run(**run), str(reason)) for run, reason in values["skipped"]),
        data=Path(values["data"]),
        weights=Path(values["weights"]) if values["weights"] else None,
        device=values["device"],
        kind=values["kind"],
        profile=values["profile"],
        plugins=tuple(map(Path, values.get("plugins", ()))),  # absent in version 0.1.0
        keep_predictions=values.get("keep_predictions", DEFAULT_KEPT),
        log=values.get("log"),  # likewise
        fast_paths=frozenset(values.get("fast_paths", fast_paths.DEFAULT)),
    )
