"""Measured answer to whether bfloat16 is faster than float32 on this CPU.

Instruction sets do not tell: without AMX or AVX512-BF16 it is several times slower, with AMX several times faster, and
libraries differ in what they use.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.grid import digest
from registry import atomic, cache_dir
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

PAYS_FROM = 1.2
"""Least speed-up for which bfloat16 is used: below it rounding would be paid for with nothing."""
REPEATS = 4


@lru_cache(maxsize=1)
def speed_up() -> float:
    """Return the time of float32 over that of bfloat16, of a matrix product, a convolution and attention together.

    Measured once for a processor, a version of PyTorch and a number of threads, and kept in the user's cache.
    """
    import torch

    facts = {"cpu": _processor(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    try:
        path = cache_dir.probes() / f"bfloat16-{digest(facts)}.json"
    except RegistryError:  # no home folder
        return _measured()
    known = _read(path)
    if known is not None:
        return known
    value = _measured()
    chosen = "bfloat16" if value >= PAYS_FROM else "float32"
    logger.info("bfloat16 has %.2f × the speed of float32 on this CPU: predictions use %s.", value, chosen)
    try:
        atomic.write_text(path, json.dumps({**facts, "speed_up": value}, indent=1) + "\n")
    except OSError as error:
        logger.debug("The measured speed of bfloat16 is not kept: %s", error)
    return value


def pays() -> bool:
    """Return True where bfloat16 is at least `PAYS_FROM` times as fast as float32 on this CPU."""
    return speed_up() >= PAYS_FROM


def _read(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["speed_up"])
    except (OSError, ValueError, KeyError, TypeError):  # a damaged file is measured again
        return None


def _measured() -> float:
    """Measure both types in turns, and take the best of each, so that other load meets both."""
    import torch

    with torch.inference_mode():
        calls = {dtype: _calls(dtype) for dtype in (torch.float32, torch.bfloat16)}
        best = {dtype: [float("inf")] * len(own) for dtype, own in calls.items()}
        for _ in range(REPEATS):  # the first one warms up, and is seldom the best
            for dtype, own in calls.items():
                for number, call in enumerate(own):
                    begun = time.perf_counter()
                    call()
                    best[dtype][number] = min(best[dtype][number], time.perf_counter() - begun)
    return sum(best[torch.float32]) / sum(best[torch.bfloat16])


def _calls(dtype: Any) -> list[Callable[[], Any]]:
    """Return operations of an encoder, so small that all take some milliseconds where bfloat16 is slow."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator).to(dtype)

    rows, weight = tensor(256, 256), tensor(512, 256)
    cells, kernel = tensor(1, 32, 28, 28).contiguous(memory_format=torch.channels_last), tensor(32, 32, 3, 3)
    tokens = tensor(4, 4, 49, 32)
    return [
        lambda: F.linear(rows, weight),
        lambda: F.conv2d(cells, kernel, padding=1),
        lambda: F.scaled_dot_product_attention(tokens, tokens, tokens),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.processor()} {platform.machine()} {os.cpu_count()}"
    known = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines[:40]}
    return "; ".join(facts.get(name, "") for name in known)
