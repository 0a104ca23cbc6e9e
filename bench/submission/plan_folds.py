"""Folds of a plan: the file of their assignment, and runs of folds that hold no image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.errors import FoldError
from bench.grid import Grid
from bench.planning import sweeps
from bench.planning.plan import Plan
from bench.submission.images import DatasetImages


def write(grid: Grid, images: DatasetImages, results: Path) -> None:
    """Write the assignment of images to folds beside the results."""
    from bench import folds

    dataset, samples = grid.settings.dataset, images.samples
    groups = {sample.stem: sample.group for sample in samples}
    splits = dict.fromkeys(single.settings.folds for single in sweeps.expand(grid))
    for n_splits, seed in dict.fromkeys((split.n_splits, split.seed) for split in splits):
        assigned = folds.assign(list(groups), n_splits, seed, groups)
        rule = folds.rule(list(groups), n_splits, seed, groups)
        name = f"{dataset}-{images.digest}-{n_splits}-{seed}.csv"
        folds.write_assignment(results / "folds" / name, assigned, samples, rule)


def without_empty(planned: Plan, dataset: DatasetImages, problems: list[str]) -> Plan:
    """Skip the runs of official folds none of whose images is here, and add to `problems` folds that can't be made."""
    from bench import folds

    groups = {sample.stem: sample.group for sample in dataset.samples}
    splits = dict.fromkeys((run.n_splits, run.fold_seed) for run in planned.runs)
    if not groups:
        return planned
    present: dict[tuple[int, int], set[int]] = {}
    for n_splits, seed in splits:
        try:
            present[n_splits, seed] = set(folds.assign(list(groups), n_splits, seed, groups).values())
        except FoldError as error:
            problems.append(f"{dataset.root}: {error}")
            return planned
    runs, skipped = [], list(planned.skipped)
    for run in planned.runs:
        others = present[run.n_splits, run.fold_seed] - {run.fold}
        if run.fold not in present[run.n_splits, run.fold_seed]:
            skipped.append((run, f"no image of the official fold {run.fold} is in {dataset.root}"))
        elif not others:
            skipped.append((run, f"{dataset.root} holds images of the official fold {run.fold} only: none to train on"))
        else:
            runs.append(run)
    return replace(planned, runs=tuple(runs), skipped=tuple(skipped))
