"""Prepare `bench run`: plan a grid, look for all it needs, and refuse with every problem at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import fast_paths
from bench.console import PLAIN
from bench.errors import ClusterError, PlanError
from bench.grid import Grid, Run
from bench.planning import fresh_process, plan, selection, sweeps
from bench.planning.plan import Plan
from bench.results import plans, record
from bench.results.index import Index
from bench.results.kept_files import DEFAULT_KEPT
from bench.results.plans import SavedPlan
from bench.results.record import RunRecord
from bench.slurm.profile import load_profile
from bench.submission import checkpoints, container_paths, images, plan_folds, servable
from bench.submission.executor import Executor, check_detachable, choose_executor
from bench.submission.images import DatasetImages
from bench.submission.results_folder import check_writable
from bench.training import events
from bench.worker import provenance

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Prepared:
    """A plan, its inputs, and how it is to be executed.

    Attributes:
        plan: the runs and what is skipped.
        images: of the dataset.
        index: of all records in the results folder.
        absent: what is still to be fetched, a sentence each; only of plans made ahead.
        results: the results folder.
        weights_folder: of the official checkpoints; None is the cache.
        executor: None if nothing is to be executed.
        is_fallback: whether local processes were chosen for want of a SLURM that answers.
        device: ``auto``, ``cpu`` or ``cuda``.
        profile: cluster profile.
        log: ``tensorboard`` or None.
        fast_paths: names of the faster forms that runs use (see `bench.fast_paths`).
    """

    plan: Plan
    images: DatasetImages
    index: Index
    absent: tuple[str, ...]
    results: Path
    weights_folder: Path | None
    executor: Executor | None
    is_fallback: bool
    device: str
    profile: str
    log: str | None = None
    fast_paths: frozenset[str] = fast_paths.DEFAULT

    @property
    def done(self) -> tuple[Run, ...]:
        """Runs that have an ``ok`` record already."""
        done = self.index.done()
        return tuple(run for run in self.plan.runs if run.id in done)

    @property
    def pending(self) -> tuple[Run, ...]:
        """Runs to be done."""
        done = self.index.done()
        return tuple(run for run in self.plan.runs if run.id not in done)


def prepare(
    grid_name: str,
    *,
    assignments: Sequence[str] = (),
    only: Sequence[str] = (),
    data: Path | None,
    weights_folder: Path | None,
    results: Path,
    cluster: str | None = None,
    device: str = "auto",
    profile: str = "default",
    ahead: bool = False,
    plugins: Sequence[Path] = (),
    log: str | None = None,
    used_paths: frozenset[str] = fast_paths.DEFAULT,
) -> Prepared:
    """Plan a grid and look for everything it needs; nothing is submitted.

    Args:
        grid_name: a grid's name, or the path of its file.
        assignments: ``KEY=VALUE`` texts, as `--set` takes them.
        only: ``KEY=A,B`` texts, as `--only` takes them.
        data: the dataset's folder; None is the cache.
        weights_folder: of the official checkpoints; None is the cache.
        results: the results folder.
        cluster: executor, as `--cluster` takes it; None if nothing is to be executed.
        device: ``cuda`` is refused where there is none; on SLURM, jobs look for themselves.
        profile: cluster profile.
        ahead: data and checkpoints that are not here yet are no problem.
        plugins: folders and .py files that register further names.
        log: ``tensorboard``, or None; refused where it can't be written.
        used_paths: names of the faster forms that runs use (see `bench.fast_paths`).

    Raises:
        PlanError: every problem at once: of settings, names, data, checkpoints, plug-ins, jobs that no node serves.
    """
    grid, problems = _grid(grid_name, assignments, only, plugins)
    dataset = images.find(grid.settings.dataset, data, ahead=ahead)
    planned = _plan(grid, dataset, problems, available=checkpoints.available(grid, weights_folder))
    unusable = checkpoints.problems(planned.runs, weights_folder)
    executor, executor_problems = _executor(cluster, profile, device, log)
    problems += [*unusable.wrong, *executor_problems, *(() if ahead else unusable.absent)]
    if executor == "slurm":
        problems += _unservable(planned, dataset, profile, device, results, is_ahead=ahead)
        problems += container_paths.problems(
            planned.runs,
            profile_name=profile,
            results=results,
            data=dataset.root,
            weights=weights_folder,
            plugins=planned.plugins,
        )
    if problems:
        raise PlanError(problems)
    index = Index(results)
    index.refresh()
    return Prepared(
        plan=planned,
        images=dataset,
        index=index,
        absent=(*dataset.absent, *unusable.absent) if ahead else (),
        results=results,
        weights_folder=weights_folder,
        executor=executor,
        is_fallback=cluster == "auto" and executor == "local",
        device=device,
        profile=profile,
        log=log,
        fast_paths=used_paths,
    )


def run(
    prepared: Prepared,
    *,
    console: Console,
    workers: int = 0,
    detach: bool = False,
    keep_predictions: int | None = DEFAULT_KEPT,
) -> int:
    """Do what is due of a prepared grid (see `execute_plan.execute`); returns the exit code."""
    from bench.submission import execute_plan

    results = prepared.results.resolve()  # jobs have working directories of their own
    executor = prepared.executor or choose_executor("auto", prepared.profile)
    check_detachable(detach, executor)
    check_writable(results)
    for skipped, reason in prepared.plan.skipped:
        record.write(results, RunRecord(id=skipped.id, status="skipped", run=skipped.as_dict(), reason=reason))
    plan_folds.write(prepared.plan.grid, prepared.images, results)
    folder, profile = prepared.weights_folder, prepared.profile
    planned = SavedPlan(
        grid=prepared.plan.grid.name,
        planned=provenance.now(),
        runs=prepared.plan.runs,
        skipped=prepared.plan.skipped,
        data=prepared.images.root.absolute(),
        weights=folder.absolute() if folder else None,
        device=prepared.device,
        kind=executor,
        profile=str(Path(profile).resolve()) if profile.endswith(".toml") else profile,
        plugins=prepared.plan.plugins,
        keep_predictions=keep_predictions,
        log=prepared.log,
        fast_paths=prepared.fast_paths,
    )
    plans.write(results, planned)
    print_sweep(prepared, console)
    return execute_plan.execute(
        planned,
        results=results,
        console=console,
        index=prepared.index,
        workers=workers,
        detach=detach,
        remark=" (no SLURM answers here)" if prepared.is_fallback else "",
    )


def print_sweep(prepared: Prepared, console: Console) -> None:
    """Print the swept settings and their number, if there are any."""
    if prepared.plan.sweep:
        console.print(prepared.plan.sweep, **PLAIN)


def _executor(
    cluster: str | None, profile_name: str, device: str, log: str | None
) -> tuple[Executor | None, list[str]]:
    """Choose the executor, and find what is wrong with the profile, the log, and the device of runs done here."""
    problems: list[str] = []
    executor = None
    try:
        load_profile(profile_name)
    except ClusterError as error:
        problems.append(str(error))
    try:
        executor = choose_executor(cluster, profile_name) if cluster else None
    except ClusterError as error:
        problems.append(str(error))
    if device == "cuda" and executor in ("inline", "local") and not _has_gpu():
        problems.append("--device cuda: no GPU is usable here; use --device auto, or --device cpu.")
    if sentence := events.problem(log):
        problems.append(sentence)
    return executor, problems


def _unservable(
    planned: Plan, dataset: DatasetImages, profile_name: str, device: str, results: Path, *, is_ahead: bool
) -> list[str]:
    """Return the problems of jobs that no node of the cluster can serve."""
    return servable.problems(
        planned.runs,
        lambda: dataset.samples,
        profile_name=profile_name,
        device=device,
        results=results,
        warn=not is_ahead,  # `preview` prints the warnings of plans made ahead
    )


def _plan(grid: Grid, dataset: DatasetImages, problems: list[str], *, available: Collection[str]) -> Plan:
    """Expand the grid, and add to `problems` what is wrong with its images, folds and plug-ins."""
    problems += dataset.problems
    try:
        planned = plan.make(grid, dataset.digest, available=available)
    except PlanError as error:
        raise PlanError([*problems, *error.problems]) from None
    problems += fresh_process.problems(plan.names_used(grid), planned.plugins)
    return plan_folds.without_empty(planned, dataset, problems)


def _grid(
    name: str, assignments: Sequence[str], only: Sequence[str], plugins: Sequence[Path]
) -> tuple[Grid, list[str]]:
    grid, problems = sweeps.apply(plan.load_grid(name, plugins), assignments)
    try:
        grid = selection.narrow(grid, only)
    except PlanError as error:
        problems += error.problems
    return grid, problems


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
