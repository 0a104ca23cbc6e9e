"""`bench run`, from its arguments to the last record: plan everything, refuse with every problem, then do it."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import cache, cluster, live, overrides, plan, provenance, record
from bench.errors import BenchError, ClusterError, PlanError
from bench.grid import CLASSICAL, Grid, Run
from bench.plan import Plan
from bench.record import RunRecord
from registry import backbones, datasets, weights
from registry.contract import Sample
from registry.errors import DataError


@dataclass(frozen=True)
class Prepared:
    """A plan whose inputs were all found.

    Attributes:
        plan: the runs and what is skipped.
        data: the dataset's folder.
        samples: its images.
        dataset_digest: their fingerprint.
        done: runs that have an ``ok`` record already.
    """

    plan: Plan
    data: Path
    samples: tuple[Sample, ...]
    dataset_digest: str
    done: tuple[Run, ...]

    @property
    def pending(self) -> tuple[Run, ...]:
        """Runs to be done."""
        finished = {run.id for run in self.done}
        return tuple(run for run in self.plan.runs if run.id not in finished)


def prepare(
    grid_name: str,
    *,
    assignments: Sequence[str] = (),
    only: Sequence[str] = (),
    data: Path | None,
    weights_folder: Path | None,
    results: Path,
    device: str = "auto",
    profile: str | None = None,
) -> Prepared:
    """Plan a grid and look for everything it needs; nothing is submitted.

    Args:
        grid_name: a grid's name, or the path of its file.
        assignments: ``KEY=VALUE`` texts, as `--set` takes them.
        only: ``KEY=A,B`` texts, as `--only` takes them.
        data: the dataset's folder; None is the cache.
        weights_folder: of the official checkpoints; None is the cache.
        results: the results folder.
        device: ``cuda`` is refused where there is none; SLURM jobs look for themselves.
        profile: cluster profile to check; None checks none of the user's.

    Raises:
        PlanError: every problem at once: settings, names, missing data, missing checkpoints.
    """
    grid, problems = _grid(grid_name, assignments, only)
    root = data or cache.data_folder(grid.settings.dataset)
    samples: tuple[Sample, ...] = ()
    dataset_digest = ""
    try:
        dataset = datasets.get(grid.settings.dataset)
        if data is None and grid.settings.dataset == "synthetic":
            dataset.prepare(root)
        samples = dataset.samples(root)
        dataset_digest = datasets.fingerprint(samples)[:16]
    except DataError as error:
        problems.append(str(error))
    except KeyError:
        pass  # the unknown dataset is among the plan's own problems
    try:
        made = plan.make(grid, dataset_digest)
    except PlanError as error:
        raise PlanError([*problems, *error.problems]) from None
    if samples and len({s.group for s in samples}) < grid.settings.folds.n_splits:
        problems.append(
            f"folds.n_splits is {grid.settings.folds.n_splits}, but {root} holds only "
            f"{len({s.group for s in samples})} groups of images; set fewer folds."
        )
    problems += _missing_weights(made.runs, weights_folder)
    if device == "cuda" and not _has_gpu():
        problems.append("--device cuda: no GPU is usable here; use --device auto, or --device cpu.")
    try:
        cluster.load(profile or "default")
    except ClusterError as error:
        problems.append(str(error))
    if problems:
        raise PlanError(problems)
    done = []
    for run in made.runs:
        found = record.read(results, run.id)
        if found is not None and found.status == "ok":
            done.append(run)
    return Prepared(made, root, samples, dataset_digest, tuple(done))


def run(prepared: Prepared, *, results: Path, weights_folder: Path | None, console: object, kind: str, workers: int,
        device: str, profile: str) -> int:  # fmt: skip
    """Do what is pending and show how it goes; returns the exit code (0 fine, 1 something failed, 130 stopped)."""
    from rich.console import Console

    from bench import folds, schedule
    from bench.work import Places

    assert isinstance(console, Console)
    chosen = schedule.choose(kind)
    command_given = provenance.now()
    _check_writable(results)
    for skipped, reason in prepared.plan.skipped:
        record.write(
            results, RunRecord(id=skipped.id, status="skipped", run=skipped.as_dict(), reason=reason)
        )
    s = prepared.plan.grid.settings
    groups = {sample.stem: sample.group for sample in prepared.samples}
    assigned = folds.assign(list(groups), n_splits=s.folds.n_splits, seed=s.folds.seed, groups=groups)
    manifest = (
        results / "folds" / f"{s.dataset}-{prepared.dataset_digest}-{s.folds.n_splits}-{s.folds.seed}.csv"
    )
    folds.write_manifest(manifest, assigned, prepared.samples)

    where = {"inline": "in this process", "local": "in local processes", "slurm": "on SLURM"}[chosen]
    if kind == "auto" and chosen == "local":
        where += " (no SLURM answers here)"
    console.print(
        f"{len(prepared.pending)} runs {where}; {len(prepared.done)} done already, results in {results}",
        highlight=False,
    )
    view = live.View(results, prepared.plan.runs, command_given, console)
    outcome = schedule.Outcome()
    try:
        with live.shown(view), _sigterm_as_ctrl_c():
            outcome = schedule.follow(
                prepared.plan.runs,
                Places(results=results, data=prepared.data, weights=weights_folder, device=device),
                kind=chosen,
                workers=workers,
                profile=profile,
                redo_failed_before=command_given,
            )
    except KeyboardInterrupt:
        outcome.interrupted = True
    view.refresh()
    if outcome.interrupted and chosen == "slurm":
        console.print("Jobs that were submitted go on; scancel ends them.", highlight=False)
    return _close(view, results, outcome.errors, outcome.interrupted, console)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """`kill`, systemd and time limits send SIGTERM: it ends the command as Ctrl-C does, workers included."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def show_plan(prepared: Prepared, console: object) -> None:
    """Print what would be run, what is done and what is skipped, per backbone × strategy."""
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("backbone", "strategy", "head", "folds", "runs", "done"):
        table.add_column(name, justify="right" if name in ("runs", "done") else "left")
    finished = {one.id for one in prepared.done}
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for one in prepared.plan.runs:
        cells.setdefault((one.backbone, one.strategy, one.head), []).append(one)
    for cell, runs in cells.items():
        listed = ",".join(str(one.fold) for one in runs)
        table.add_row(*cell, listed, str(len(runs)), str(sum(one.id in finished for one in runs)))
    console.print(table)
    reasons = dict.fromkeys(f"{one.backbone} × {one.strategy}: {why}" for one, why in prepared.plan.skipped)
    for reason in reasons:
        console.print(f"[yellow]skipped[/] {reason}", highlight=False)
    console.print(
        f"{len(prepared.plan.runs)} runs, {len(prepared.pending)} to do, "
        f"on {len(prepared.samples)} images in {prepared.data}.",
        highlight=False,
    )


def _close(view: live.View, results: Path, errors: Sequence[str], interrupted: bool, console: object) -> int:
    from rich.console import Console
    from rich.markup import escape

    assert isinstance(console, Console)
    counts = view.counts()
    for failed in view.failures() if console.is_terminal else ():
        console.print(f"[red]{escape(live.line(failed))}[/]", highlight=False, soft_wrap=True)
    for error in errors:
        console.print(f"[red]error:[/] {escape(error)}", highlight=False, soft_wrap=True)
    if interrupted:
        console.print(
            f"Stopped. {counts['done']} of {counts['all']} runs are done and kept; "
            "the same command continues where this one stopped.",
            highlight=False,
        )
        return 130
    told = f"{counts['done']} of {counts['all']} runs are done, {counts['failed']} failed"
    following = (
        "Mend that, and give the same command again." if errors else f"Next: bench table --results {results}"
    )
    console.print(f"{told}. {following}", highlight=False, soft_wrap=True)
    return 1 if errors or counts["failed"] else 0


def _grid(name: str, assignments: Sequence[str], only: Sequence[str]) -> tuple[Grid, list[str]]:
    from dataclasses import replace

    grid = plan.load_grid(name)
    problems: list[str] = []
    try:
        grid = replace(grid, settings=overrides.apply(grid.settings, assignments))
    except PlanError as error:
        problems += error.problems
    try:
        grid = plan.narrow(grid, only)
    except PlanError as error:
        problems += error.problems
    return grid, problems


def _missing_weights(runs: Sequence[Run], folder: Path | None) -> list[str]:
    needed = dict.fromkeys(r.backbone for r in runs if r.weights == "official" and r.backbone != CLASSICAL)
    missing = [name for name in needed if not weights.path(name, folder).is_file()]
    if not missing:
        return []
    titles = ", ".join(
        f"{name} ({checkpoint.filename})"
        for name in missing
        if (checkpoint := backbones.card(name).checkpoint)
    )
    return [
        f"no checkpoint for {titles} in {weights.path(missing[0], folder).parent}; "
        f"run `bench weights fetch {' '.join(missing)}`, pass --weights DIR, or --set weights=random."
    ]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _check_writable(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=results) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise BenchError(
            f"can't write to the results folder {results}: {error.strerror}; choose another with --results DIR."
        ) from error
