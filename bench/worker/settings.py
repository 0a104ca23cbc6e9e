"""Settings of a worker: places and limits that never enter a run's identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench import fast_paths
from bench.results.kept_files import DEFAULT_KEPT
from bench.results.retry import Limits


@dataclass(frozen=True)
class WorkerSettings:
    """Places where a worker reads and writes, and what else changes no result.

    Attributes:
        results: the results folder.
        data: the dataset's folder.
        weights: folder of the official checkpoints; None is the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        loader_workers: processes that prepare training samples; None chooses by device.
        limits: number of times that failed runs are tried again.
        runs_at_once: runs that share the device.
        plugins: files and folders that register names which the runs use.
        keep_predictions: number of first test images whose predicted label maps a run keeps; None for all.
        log: ``tensorboard`` writes events of every training beside its history.
        fast_paths: names of the faster forms that are used (see `bench.fast_paths`).
    """

    results: Path
    data: Path
    weights: Path | None = None
    device: str = "auto"
    loader_workers: int | None = None
    limits: Limits = field(default_factory=Limits)
    runs_at_once: int = 1
    plugins: tuple[Path, ...] = ()
    keep_predictions: int | None = DEFAULT_KEPT
    log: str | None = None
    fast_paths: frozenset[str] = fast_paths.DEFAULT
