"""Load of the machine: the share of the cores, and of the GPU, that other processes use."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.results.measurement import LARGEST_GPU_SHARE, LARGEST_SHARE, percent

if TYPE_CHECKING:
    import torch

STAT = Path("/proc/stat")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)
"""Columns of a processor's line in /proc/stat (proc(5)): user, nice, system, irq, softirq, steal."""
RESOLUTION_S = 2 / TICKS_PER_S
"""Error of a processor's busy time: the kernel counts whole ticks."""
SHORTEST_S = 5 * RESOLUTION_S
"""Shortest interval of which the share of others is known: of a shorter one, ticks leave more than a fifth in doubt."""
IDLE_S = 1.0
"""Seconds that a GPU is left idle before its utilisation is read: nvidia-smi averages over up to a second."""


def n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Interval:
    """An interval that began when the object was made, on the cores that this process may use.

    Attributes:
        wall: its begin, seconds of a clock.
        own: CPU seconds of this process, all threads, at its begin.
        busy: busy seconds of the cores at its begin; None where /proc/stat can't be read.
    """

    wall: float = field(default_factory=time.perf_counter)
    own: float = field(default_factory=time.process_time)
    busy: float | None = field(default_factory=lambda: busy_seconds())

    def load(self) -> dict[str, float | None]:
        """Return the load from the begin until now.

        Returns:
            ``others``: share of the cores' time that other processes took, 0–1, what the ticks of the kernel leave in
            doubt not counted; None where the system doesn't tell, and of an interval shorter than `SHORTEST_S`.
            ``own``: CPU seconds of this process per second.
        """
        busy, own, wall = busy_seconds(), time.process_time() - self.own, time.perf_counter() - self.wall
        others = None
        if busy is not None and self.busy is not None and wall >= SHORTEST_S:
            seconds = busy - self.busy - own - RESOLUTION_S * n_cores()
            others = min(1.0, max(0.0, seconds / (wall * n_cores())))
        return {"others": others, "own": own / wall if wall > 0 else None}

    def is_too_short(self) -> bool:
        """Return True while `load` would not know the share of others only because too little time has passed."""
        return self.busy is not None and time.perf_counter() - self.wall < SHORTEST_S


def busy_seconds() -> float | None:
    """Seconds since boot in which the cores that this process may use were busy; None where the system doesn't tell."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    counts = [line.split()[1:] for line in lines if line.split(" ", 1)[0] in cores]
    if len(counts) < len(cores) or any(len(count) <= BUSY_FIELDS[-1] for count in counts):
        return None
    return sum(int(count[place]) for count in counts for place in BUSY_FIELDS) / TICKS_PER_S


def machine_load(device: torch.device | None) -> dict[str, float | None]:
    """Return the load of the machine while this process does nothing.

    Args:
        device: what is measured on; None for the CPU.

    Returns:
        ``load_average`` of the last minute, ``cores`` of the machine, and ``gpu_others``: utilisation of the GPU by
        others, 0–1; None on the CPU, and where nvidia-smi doesn't tell.
    """
    return {
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "gpu_others": None if device is None or device.type != "cuda" else _gpu_utilisation(device),
    }


def disturbance(device: torch.device | None) -> list[str]:
    """Watch the machine for a second and return what would disturb a measurement now, a phrase each.

    Args:
        device: what is to be measured on; None for the CPU.
    """
    interval = Interval()
    time.sleep(IDLE_S)
    others, gpu = interval.load()["others"], machine_load(device)["gpu_others"]
    phrases = []
    if others is not None and others > LARGEST_SHARE:
        phrases.append(f"other processes take {percent(others)} of the cores' time")
    if gpu is not None and gpu > LARGEST_GPU_SHARE:
        phrases.append(f"other processes use the GPU at {percent(gpu)}")
    return phrases


def check_quiet(
    device: torch.device | None, what: str, *, force: bool, say: Callable[[str], object]
) -> tuple[str, ...]:
    """Refuse a busy machine, or say that it is; return what disturbs, a phrase each.

    Args:
        device: what is to be measured on; None for the CPU.
        what: the numbers, as their sentence begins: ``Latencies taken``.
        force: go on all the same.
        say: shows a sentence.

    Raises:
        BenchError: it is busy, and `force` is False.
    """
    phrases = disturbance(device)
    if phrases:
        text = f"the machine is busy: {' and '.join(phrases)}. {what} now would be too long, and marked as such"
        if not force:
            raise BenchError(f"{text}. Wait until it is quiet, or add --force.")
        say(f"{text}.")
    return tuple(phrases)


def _gpu_utilisation(device: torch.device) -> float | None:
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)  # since PyTorch 2.5
    if uuid is None:
        return None
    torch.cuda.synchronize(device)
    time.sleep(IDLE_S)
    return gpu_utilisation(f"GPU-{uuid}")


def gpu_utilisation(uuid: str) -> float | None:
    """Return the present utilisation of a GPU, 0–1, as nvidia-smi has it; None where it has none (MIG, no program)."""
    command = ["nvidia-smi", f"--id={uuid}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return float(done.stdout.strip()) / 100
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
