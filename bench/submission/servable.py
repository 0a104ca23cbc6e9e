"""Requests of a profile that no node of the cluster can serve, before jobs with them are submitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import ClusterError
from bench.grid import Run
from bench.results import record
from bench.slurm import client, nodes
from bench.slurm.nodes import Comparison
from bench.slurm.profile import ClusterProfile, load_profile, profile_for_device
from registry.contract import Sample

logger = logging.getLogger(__name__)


def compare(profile: ClusterProfile, longest_min: Callable[[], int]) -> Comparison:
    """Compare a profile with the nodes that `sinfo` lists.

    Args:
        profile: as it is submitted.
        longest_min: returns the longest time limit of a job. It is called only if the profile's own limit, which is
            the largest possible, is longer than a partition allows: the estimates behind it may take a minute.
    """
    groups = nodes.read()
    requests = nodes.compare(profile, groups)
    times = nodes.compare_time_limit(profile, profile.time_limit_min, groups)
    if times != Comparison():
        times = nodes.compare_time_limit(profile, longest_min(), groups)
    return Comparison(requests.problems + times.problems, requests.warnings + times.warnings)


def problems(
    runs: Sequence[Run],
    samples: Callable[[], Sequence[Sample]],
    *,
    profile_name: str,
    device: str,
    results: Path,
    warn: bool = True,
) -> list[str]:
    """Return what no node can serve of the jobs for some runs, a sentence each.

    Args:
        runs: planned ones, done ones included.
        samples: returns the dataset's images; called only if estimates are needed.
        profile_name: of the profile; nothing is said of one that can't be read, which is a problem of its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        results: the results folder, for measured times.
        warn: log a warning of what perhaps no node can serve.
    """
    try:
        profile = profile_for_device(load_profile(profile_name), device)
    except ClusterError:
        return []
    found = compare(profile, lambda: _longest_min(runs, samples(), profile, results))
    for sentence in found.warnings if warn else ():
        logger.warning("profile %s: %s", profile_name, sentence)
    return [f"profile {profile_name}: {sentence}" for sentence in found.problems]


def _longest_min(runs: Sequence[Run], samples: Sequence[Sample], profile: ClusterProfile, results: Path) -> int:
    """Return the longest time limit of the jobs for those runs that are not done, by estimates."""
    from rich.console import Console

    from bench.estimate import packing, page

    records = list(record.read_all(results, [], history=False))
    done = {entry.id for entry in records if entry.status == "ok"}
    due = [run for run in runs if run.id not in done]
    resources = page.estimate_with_progress(
        due, samples, profile=profile, console=Console(quiet=True), records=records, n_images=len(samples)
    )
    arrays = packing.pack(due, resources, profile, client.DEFAULT_MAX_ARRAY_SIZE)
    return max((array.time_limit_min for array in arrays), default=0)
