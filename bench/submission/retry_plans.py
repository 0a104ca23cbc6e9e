"""`bench retry`: execute all plans of a results folder again, as far as they are not done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, ClusterError
from bench.grid import Run
from bench.results import plans
from bench.results.index import Index
from bench.results.plans import SavedPlan
from bench.slurm import nodes
from bench.slurm.profile import load_profile, profile_for_device
from bench.submission.execute_plan import execute
from bench.submission.executor import check_detachable, choose_executor
from bench.submission.results_folder import check_writable
from bench.worker import provenance

if TYPE_CHECKING:
    from rich.console import Console


def retry_plans(results: Path, *, console: Console, failed: bool, detach: bool, profile: str | None) -> int:
    """Execute all plans of the results folder as they were, as far as they are not done.

    Plans with the same places and settings are executed as one; of several, all but the last are submitted and left to
    themselves.

    Args:
        results: the results folder.
        console: to print on.
        failed: also try again what would probably fail again.
        detach: return as soon as everything is submitted to SLURM.
        profile: cluster profile in place of the one planned with.

    Returns:
        The exit code: 0 fine, 1 something failed, 130 stopped.

    Raises:
        BenchError: there is no plan, the folder can't be written to, or there are jobs to detach from without SLURM.
    """
    results = results.resolve()
    saved_plans = plans.read_all(results)
    if not saved_plans:
        raise BenchError(f"there is no plan in {results}: nothing was run there yet. Start with `bench run`.")
    check_writable(results)
    index = Index(results)
    index.refresh()
    shares = [share for share in _shares(saved_plans, profile) if {run.id for run in share.runs} - index.done()]
    for share in shares:
        check_detachable(detach, choose_executor(share.kind))
        if share.kind == "slurm":
            _check_nodes(share)
    codes = []
    for number, share in enumerate(shares, start=1):
        is_left_alone = number < len(shares) and share.kind == "slurm"
        code = execute(
            share,
            results=results,
            console=console,
            index=index,
            detach=detach or is_left_alone,
            final_too=failed,
            remark=f" with profile {share.profile}" if len(shares) > 1 else "",
        )
        codes.append(code)
        if code == 130:
            break
    if not codes:
        console.print("Nothing to retry: every planned run is done.", highlight=False)
    return max(codes, default=0)


def _check_nodes(plan: SavedPlan) -> None:
    """Refuse a profile that no node can serve: its jobs would wait for ever.

    Raises:
        ClusterError: with the keys to change.
    """
    profile = profile_for_device(load_profile(plan.profile), plan.device)
    if problems := nodes.problems(profile, nodes.read()):
        raise ClusterError(
            f"profile {plan.profile}: {' '.join(problems)} Another profile is given with `bench retry --profile NAME`."
        )


def _shares(saved_plans: list[SavedPlan], profile: str | None) -> list[SavedPlan]:
    """One plan for all runs of the same places and settings; a run of several plans belongs to the latest."""
    latest = {run.id: (run, plan) for plan in saved_plans for run in plan.runs}
    by_settings: dict[SavedPlan, list[Run]] = {}
    for run, plan in latest.values():
        settings = replace(plan, grid="", planned="", runs=(), skipped=(), profile=profile or plan.profile)
        by_settings.setdefault(settings, []).append(run)
    return [
        replace(settings, grid="retry", planned=provenance.now(), runs=tuple(runs))
        for settings, runs in by_settings.items()
    ]
