"""`bench run`, from its arguments to the last record: plan everything, refuse with every problem, then do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import ClusterError, PlanError
from bench.grid import CLASSICAL, Grid, Run
from bench.planning import overrides, plan
from bench.planning.plan import Plan
from bench.results import plans, record
from bench.results.index import Index
from bench.results.plans import SavedPlan
from bench.results.record import RunRecord
from bench.slurm.profile import load_profile, profile_for_device
from bench.worker import provenance
from registry import backbones, cache_dir, datasets, weights
from registry.contract import Sample
from registry.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.estimate.summary import CostSummary


@dataclass(frozen=True)
class Prepared:
    """A plan, and what was found of its inputs.

    Attributes:
        plan: the runs and what is skipped.
        data: the dataset's folder.
        samples: its images.
        dataset_digest: their fingerprint.
        done: runs that have an ``ok`` record already.
        index: of all records in the results folder.
        n_images: of the dataset; as published, where it is not here yet.
        absent: what is still to be fetched, a sentence each; only of plans made ahead.
    """

    plan: Plan
    data: Path
    samples: tuple[Sample, ...]
    dataset_digest: str
    done: tuple[Run, ...]
    index: Index
    n_images: int
    absent: tuple[str, ...] = ()

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
    ahead: bool = False,
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
        ahead: data and checkpoints that are not here yet are no problem.

    Raises:
        PlanError: every problem at once: settings, names, missing data, missing checkpoints.
    """
    grid, problems = _grid(grid_name, assignments, only)
    root = data or cache_dir.data(grid.settings.dataset)
    samples: tuple[Sample, ...] = ()
    dataset_digest, n_images = "", 0
    absent: list[str] = []
    try:
        dataset = datasets.get(grid.settings.dataset)
        n_images = dataset.published_images or 0
        if data is None and grid.settings.dataset == "synthetic":
            dataset.prepare(root)
        samples = dataset.samples(root)
        dataset_digest, n_images = datasets.fingerprint(samples)[:16], len(samples)
    except DataError as error:
        (absent if ahead and n_images and data is None else problems).append(str(error))
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
    (absent if ahead else problems).extend(_missing_weights(made.runs, weights_folder))
    if device == "cuda" and not _has_gpu():
        problems.append("--device cuda: no GPU is usable here; use --device auto, or --device cpu.")
    try:
        load_profile(profile or "default")
    except ClusterError as error:
        problems.append(str(error))
    if problems:
        raise PlanError(problems)
    index = Index(results)
    index.refresh()
    over = index.done()
    done = tuple(run for run in made.runs if run.id in over)
    return Prepared(made, root, samples, dataset_digest, done, index, n_images, tuple(absent))


def run(
    prepared: Prepared,
    *,
    results: Path,
    weights_folder: Path | None,
    console: Console,
    kind: str,
    workers: int,
    device: str,
    profile: str,
    detach: bool = False,
) -> int:
    """Do what is due of a prepared grid (see `campaign.carry_out`); returns the exit code."""
    from bench import folds
    from bench.submission import execute_plan, submit

    results = results.resolve()  # jobs have working directories of their own
    chosen = submit.choose_executor(kind, profile)
    execute_plan.check_detachable(detach, chosen)
    execute_plan.check_writable(results)
    for skipped, reason in prepared.plan.skipped:
        record.write(results, RunRecord(id=skipped.id, status="skipped", run=skipped.as_dict(), reason=reason))
    s = prepared.plan.grid.settings
    groups = {sample.stem: sample.group for sample in prepared.samples}
    assigned = folds.assign(list(groups), n_splits=s.folds.n_splits, seed=s.folds.seed, groups=groups)
    digest = prepared.dataset_digest
    written = results / "folds" / f"{s.dataset}-{digest}-{s.folds.n_splits}-{s.folds.seed}.csv"
    folds.write_manifest(written, assigned, prepared.samples)
    planned = SavedPlan(
        grid=prepared.plan.grid.name,
        planned=provenance.now(),
        runs=prepared.plan.runs,
        skipped=prepared.plan.skipped,
        data=prepared.data.absolute(),
        weights=weights_folder.absolute() if weights_folder else None,
        device=device,
        kind=chosen,
        profile=str(Path(profile).resolve()) if profile.endswith(".toml") else profile,
    )
    plans.write(results, planned)
    return execute_plan.execute(
        planned,
        results=results,
        console=console,
        index=prepared.index,
        workers=workers,
        detach=detach,
        remark=" (no SLURM answers here)" if kind == "auto" and chosen == "local" else "",
    )


def show_costs(
    prepared: Prepared, *, results: Path, console: Console, profile: str, device: str = "auto"
) -> CostSummary:
    """`bench plan`: print what a prepared grid would cost (see `costs.show`)."""
    from rich.markup import escape

    from bench.estimate import page
    from bench.slurm import client

    size = client.max_array_size() if client.is_installed() and client.is_answering() else client.DEFAULT_MAX_ARRAY_SIZE
    bill = page.show(
        prepared,
        profile_for_device(load_profile(profile), device),
        results,
        console,
        records=record.read_all(results, [], history=False),
        max_array_size=size,
    )
    for sentence in prepared.absent:
        console.print(f"[yellow]not here yet[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    return bill


def dry_run(prepared: Prepared, *, results: Path, console: Console, kind: str, profile: str, device: str) -> int:
    """`bench run --dry-run`: print the costs and, where there is a SLURM, write what `sbatch` would be given.

    Returns:
        The exit code: 2 if something is still to be fetched.
    """
    from bench.submission import submit

    chosen = submit.choose_executor(kind, profile)
    bill = show_costs(prepared, results=results, console=console, profile=profile, device=device)
    code = 2 if prepared.absent else 0
    if chosen != "slurm":
        console.print("No SLURM is used here, so there are no sbatch files.", highlight=False)
        return code
    for earlier in (results / "jobs" / "dry-run").glob("*.sh"):
        earlier.unlink()
    texts = submit.sbatch_texts(bill.arrays, results, load_profile(profile))
    for number, text in enumerate(texts, start=1):
        path = results / "jobs" / "dry-run" / f"{prepared.plan.grid.name}-{number}.sh"
        record.write_atomically(path, text)
        console.print(f"written, not submitted: {path}", highlight=False, soft_wrap=True)
    return code


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
    missing = [name for name in needed if not weights.path(backbones.card(name), folder).is_file()]
    if not missing:
        return []
    titles = ", ".join(
        f"{name} ({checkpoint.filename})" for name in missing if (checkpoint := backbones.card(name).checkpoint)
    )
    return [
        f"no checkpoint for {titles} in {weights.path(backbones.card(missing[0]), folder).parent}; "
        f"run `bench weights fetch {' '.join(missing)}`, pass --weights DIR, or --set weights=random."
    ]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
