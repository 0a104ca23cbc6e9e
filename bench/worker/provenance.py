"""Provenance of a number: commit, versions, machine and time."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.planning import plugins
from bench.slurm.container import IMAGE_VARIABLE
from bench.slurm.environment import job_environment
from bench.worker.code import code_version
from bench.worker.settings import WorkerSettings

PACKAGES = (
    "nuclei-bench",
    "torch",
    "torchvision",
    "timm",
    "segment-anything",
    "peft",
    "numpy",
    "scipy",
    "scikit-image",
)


def now() -> str:
    """Current time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def of_attempt(settings: WorkerSettings) -> dict[str, Any]:
    """Versions and code of an attempt."""
    revision, dirty = commit()
    return {
        "versions": package_versions(),
        "runs_at_once": settings.runs_at_once,
        "fast_paths": sorted(settings.fast_paths),
        "commit": revision,
        "dirty": dirty,
        "code": asdict(code_version()),
        "plugins": plugins.digests(settings.plugins),
    }


@cache  # a process's source does not change under it
def commit() -> tuple[str | None, bool | None]:
    """Commit of the source this process runs from, and whether the tree differs from it; None outside git."""
    root = Path(__file__).resolve().parents[2]
    commands = (
        # Fails where the program is installed into another project's tree.
        ["ls-files", "--error-unmatch", "bench/worker/provenance.py"],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--", "bench", "registry"],  # untracked files too: a strategy may be one
    )
    try:
        _, revision, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return revision.strip(), bool(changes.strip())


def package_versions() -> dict[str, str | None]:
    """Installed versions of the packages that can change a number; None for one that is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def machine(device: str) -> dict[str, Any]:
    """Host, device, GPU, and the batch system's job and the image of its container, if there are any."""
    import torch

    job = job_environment()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "host": socket.gethostname(),
        "device": device,
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "cpu_threads": torch.get_num_threads(),
        "node": job.node,
        "slurm_job_id": job.id,
        "container": os.environ.get(IMAGE_VARIABLE),
        "slurm_restart_count": job.restarts if job.id else None,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
