"""`bench retry`: execute all plans of a results folder again, as far as they are not done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, ClusterError, PluginError
from bench.grid import Run
from bench.planning import plugins
from bench.results import plans
from bench.results.index import Index
from bench.results.plans import SavedPlan
from bench.slurm.profile import load_profile
from bench.submission import container_paths, images, servable
from bench.submission.execute_plan import execute
from bench.submission.executor import check_detachable, choose_executor
from bench.submission.results_folder import check_writable
from bench.units import plural
from bench.worker import provenance
from registry.errors import RegistryError

if TYPE_CHECKING:
    from rich.console import Console


def retry_plans(results: Path, *, console: Console, failed: bool, detach: bool, profile: str | None) -> int:
    """Execute all plans of the results folder as they were, as far as they are not done.

    Plans with the same places and settings are executed as one; of several, all but the last are submitted and left to
    themselves. An error in one of several plans (a plug-in that can't be loaded, say) is printed, and the others are
    executed.

    Args:
        results: the results folder.
        console: to print on.
        failed: also try again what would probably fail again.
        detach: return as soon as everything is submitted to SLURM.
        profile: cluster profile in place of the one planned with.

    Returns:
        The exit code: 0 fine, 1 something failed, 130 stopped.

    Raises:
        BenchError: there is no plan, the folder can't be written to, there are jobs to detach from without SLURM, or
            the only plan can't be executed.
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
    is_single = len(shares) == 1
    codes: list[int] = []
    usable: list[SavedPlan] = []
    for share in shares:
        with _reported(share, console, codes, is_single=is_single):
            _check(share, results)
            usable.append(share)
    for number, share in enumerate(usable, start=1):
        is_left_alone = number < len(usable) and share.kind == "slurm"
        with _reported(share, console, codes, is_single=is_single):
            code = execute(
                share,
                results=results,
                console=console,
                index=index,
                detach=detach or is_left_alone,
                final_too=failed,
                remark="" if is_single else f" with profile {share.profile}",
            )
            codes.append(code)
        if 130 in codes:
            break
    if not codes:
        console.print("Nothing to retry: every planned run is done.", highlight=False)
    return max(codes, default=0)


@contextmanager
def _reported(share: SavedPlan, console: Console, codes: list[int], *, is_single: bool) -> Iterator[None]:
    """Print an error of one plan's own and add exit code 1, so that the other plans are executed all the same.

    Raises:
        BenchError: any error of the only plan; of several, those that concern all (a results folder that is gone).
        RegistryError: of the only plan.
    """
    from rich.markup import escape

    try:
        yield
    except (PluginError, ClusterError, RegistryError) as error:
        if is_single:
            raise
        place = f"{plural(len(share.runs), 'run')} of {share.runs[0].dataset} in {share.data}"
        console.print(f"[red]error:[/] {escape(f'{place}: {error}')}", highlight=False, soft_wrap=True)
        codes.append(1)


def _check(plan: SavedPlan, results: Path) -> None:
    """Load the plug-ins of a plan, and refuse a profile whose jobs would wait for ever, or not find their files.

    Raises:
        PluginError: a plug-in can't be loaded.
        ClusterError: with the keys to change.
    """
    plugins.load(plan.plugins)
    if plan.kind != "slurm":
        return
    load_profile(plan.profile)
    unservable = servable.problems(
        plan.runs,
        lambda: images.samples(plan.runs[0].dataset, plan.data),
        profile_name=plan.profile,
        device=plan.device,
        results=results,
    )
    unservable += container_paths.problems(
        plan.runs,
        profile_name=plan.profile,
        results=results,
        data=plan.data,
        weights=plan.weights,
        plugins=plan.plugins,
    )
    if unservable:
        raise ClusterError(f"{' '.join(unservable)} Another profile is given with `bench retry --profile NAME`.")


def _shares(saved_plans: list[SavedPlan], profile: str | None) -> list[SavedPlan]:
    """One plan for all runs of the same dataset, places and settings; a run of several plans belongs to the latest."""
    latest = {run.id: (run, plan) for plan in saved_plans for run in plan.runs}
    by_settings: dict[tuple[SavedPlan, str, str], list[Run]] = {}
    for run, plan in latest.values():
        settings = replace(plan, grid="", planned="", runs=(), skipped=(), profile=profile or plan.profile)
        # The same folder may be read as two datasets, or hold other images than at the time of an earlier plan.
        by_settings.setdefault((settings, run.dataset, run.dataset_digest), []).append(run)
    return [
        replace(settings, grid="retry", planned=provenance.now(), runs=tuple(runs))
        for (settings, _, _), runs in by_settings.items()
    ]
