"""`bench plan` of 10,000 runs, in a fresh process with an empty cache."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import ratios

from bench.planning import plan

GRID = """\"\"\"The default grid on 240 folds, from random weights.\"\"\"
from dataclasses import replace
from bench.grid import FoldSettings
from bench.grids.default import GRID as DEFAULT

SETTINGS = replace(DEFAULT.settings, weights="random", folds=FoldSettings(n_splits=240))
GRID = replace(DEFAULT, name="large", settings=SETTINGS, classical=False)
"""


def test_ten_thousand_runs(tmp_path: Path) -> None:
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
    ratios.report("bench plan of 10,080 runs", seconds, 10, "s", "lower", "a new process, empty cache")
