"""`bench plan` of 10,000 runs, in a fresh process with an empty cache. `pytest benchmarks/test_plan_speed.py -s`."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.planning import plan

LIMIT_S = 10.0
GRID = """\"\"\"The default grid on 240 folds, from random weights.\"\"\"
from dataclasses import replace
from bench.grid import FoldSettings
from bench.grids.default import GRID as DEFAULT

SETTINGS = replace(DEFAULT.settings, weights="random", folds=FoldSettings(n_splits=240))
GRID = replace(DEFAULT, name="large", settings=SETTINGS, classical=False)
"""


def test_ten_thousand_runs_in_ten_seconds(tmp_path):
    path = tmp_path / "large.py"
    path.write_text(GRID)
    runs = len(plan.make(plan.load_grid(str(path)), "d").runs)
    assert runs == 10_080
    command = [sys.executable, "-m", "bench.cli", "plan", "--grid", str(path), "--results", str(tmp_path / "results")]
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert f"{runs} to do, 0 done; {runs} jobs" in done.stdout
    print(f"\nbench plan of {runs:,} runs, empty cache: {seconds:.1f} s (at most {LIMIT_S:.0f} s)")
    assert seconds < LIMIT_S
