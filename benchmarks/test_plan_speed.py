"""A grid of 10,000 runs, from its settings to job arrays. `pytest benchmarks/test_plan_speed.py -s`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench import arrays, estimate, plan
from bench.cluster import ClusterProfile
from bench.grid import FoldSettings, Grid, Settings
from registry import backbones

GRID = Grid(
    name="large",
    backbones=backbones.names()[:8],
    strategies=("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"),
    settings=Settings(dataset="nuinsseg", weights="random", folds=FoldSettings(n_splits=250)),
    classical=False,
)
LIMIT_S = 10.0


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def test_ten_thousand_runs_in_ten_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    profile = ClusterProfile()

    def planned() -> tuple[int, list[arrays.Array]]:
        runs = plan.make(GRID, "0123456789abcdef").runs
        needs = estimate.needs(runs, records=(), profile=profile, n_images=665)
        return len(runs), arrays.arrange(runs, needs, profile)

    first, _ = seconds(planned)
    again, (count, arranged) = seconds(planned)
    print(
        f"\n{count:,} runs, {len(arranged)} arrays: {again:.1f} s (at most {LIMIT_S:.0f} s); "
        f"{first:.0f} s the first time, when {len(GRID.backbones) * len(GRID.strategies)} kinds are counted"
    )
    assert count == 10_000
    assert sum(len(job) for array in arranged for job in array.jobs) == count
    assert again < LIMIT_S
