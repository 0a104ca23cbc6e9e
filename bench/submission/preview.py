"""`bench plan` and `bench run --dry-run`: costs of a prepared grid, and the files that sbatch would be given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.results import record
from bench.results.kept_files import DEFAULT_KEPT
from bench.slurm import client
from bench.slurm.profile import ClusterProfile, load_profile, profile_for_device
from bench.submission import container_paths, servable
from bench.submission.results_folder import check_writable
from registry import atomic

if TYPE_CHECKING:
    from rich.console import Console

    from bench.estimate.summary import CostSummary
    from bench.submission.prepare import Prepared


def show_costs(prepared: Prepared, *, console: Console, keep_predictions: int | None = DEFAULT_KEPT) -> CostSummary:
    """Print what a prepared grid would cost, what is still to be fetched, and what would keep its jobs from working."""
    from rich.markup import escape

    from bench.estimate import page
    from bench.submission.prepare import print_sweep

    print_sweep(prepared, console)
    is_answering = client.is_installed() and client.is_answering()
    profile = profile_for_device(load_profile(prepared.profile), prepared.device)
    costs = page.show(
        prepared.plan.runs,
        done=frozenset(run.id for run in prepared.done),
        skipped=prepared.plan.skipped,
        samples=prepared.images.samples,
        n_images=prepared.images.n_images,
        profile=profile,
        results=prepared.results,
        console=console,
        records=record.read_all(prepared.results, [], history=False),
        max_array_size=client.max_array_size() if is_answering else client.DEFAULT_MAX_ARRAY_SIZE,
        keep_predictions=keep_predictions,
        used_paths=prepared.fast_paths,
    )
    for sentence in prepared.absent:
        console.print(f"[yellow]not here yet[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    if profile.container is not None:
        console.print(f"container  {escape(str(profile.container))}", highlight=False, soft_wrap=True)
    for sentence in _hidden_paths(prepared):
        console.print(f"[yellow]warning[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    for sentence in _unservable(profile, costs) if is_answering else ():
        console.print(f"[yellow]warning[/]  profile {escape(prepared.profile)}: {escape(sentence)}", soft_wrap=True)
    return costs


def dry_run(prepared: Prepared, *, console: Console, keep_predictions: int | None = DEFAULT_KEPT) -> int:
    """Print the costs and, where SLURM is used, write what `sbatch` would be given.

    Returns:
        The exit code: 2 if something is still to be fetched.
    """
    from bench.submission import submit

    results = prepared.results
    costs = show_costs(prepared, console=console, keep_predictions=keep_predictions)
    code = 2 if prepared.absent else 0
    if prepared.executor != "slurm":
        console.print("No SLURM is used here, so there are no sbatch files.", highlight=False)
        return code
    check_writable(results.resolve())
    for earlier in (results / "jobs" / "dry-run").glob("*.sh"):
        earlier.unlink()
    profile = profile_for_device(load_profile(prepared.profile), prepared.device)
    texts = submit.sbatch_texts(costs.arrays, results, profile)
    for number, text in enumerate(texts, start=1):
        path = results / "jobs" / "dry-run" / f"{prepared.plan.grid.name}-{number}.sh"
        atomic.write_text(path, text)
        console.print(f"written, not submitted: {path}", highlight=False, soft_wrap=True)
    return code


def _hidden_paths(prepared: Prepared) -> list[str]:
    return container_paths.problems(
        prepared.plan.runs,
        profile_name=prepared.profile,
        results=prepared.results,
        data=prepared.images.root,
        weights=prepared.weights_folder,
        plugins=prepared.plan.plugins,
    )


def _unservable(profile: ClusterProfile, costs: CostSummary) -> tuple[str, ...]:
    longest = max((array.time_limit_min for array in costs.arrays), default=0)
    compared = servable.compare(profile, lambda: longest)
    return compared.problems + compared.warnings
