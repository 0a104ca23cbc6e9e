"""Ten thousand records: what summarising and tabulating them costs. `pytest benchmarks/test_results_scale.py -s`.

The records are generated (20 s), of the size that a training of 60 epochs leaves. Every measurement is of a process of
its own, from its start to its end.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 3.0
LIMIT_MB = 500.0
MEASURED = """
import json, sys, time
from pathlib import Path
results, laps = Path(sys.argv[1]), {}

def lap(name, call):
    start = time.perf_counter()
    found = call()
    laps[name] = time.perf_counter() - start
    return found

%s
# Not getrusage: its peak begins with that of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({**laps, "peak_mb": int(peak.split()[1]) / 1024}))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A results folder with the records of 2,000 cells of five folds, and their ids."""
    sys.path.append(str(ROOT / "tests" / "bench"))
    results = tmp_path_factory.mktemp("study")
    yield results, importlib.import_module("fabricated").write_many(results)


def measured(results: Path, statements: str) -> dict[str, float]:
    """Seconds of each `lap` in the statements, of the whole process, and its peak memory in MB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED % statements, str(results)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    found["process"] = time.perf_counter() - start
    print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))
    return found


def test_summary_of_all_records(study: tuple[Path, list[str]]) -> None:
    results, ids = study
    found = measured(
        results,
        "from bench.results.index import Index\n"
        "index = Index(results)\n"
        "laps['n'] = len(lap('cold', index.refresh))\n"
        "laps['n_again'] = len(lap('again', index.refresh))\n"
        "lap('by_id', lambda: index.refresh(list(index.entries)))\n",
    )
    assert (found["n"], found["n_again"]) == (len(ids), 0)
    assert found["process"] < LIMIT_S
    assert found["peak_mb"] < LIMIT_MB
    assert found["again"] < found["cold"] / 5


def test_leaderboard_of_all_records(study: tuple[Path, list[str]]) -> None:
    results, _ = study
    found = measured(
        results,
        "from bench.report import baselines, frame, section\n"
        "from bench.results import record\n"
        "records = lap('read', lambda: list(record.read_all(results)))\n"
        "runs = lap('frame', lambda: frame.record_frame(records))\n"
        "board = lap('leaderboard', lambda: frame.leaderboard_frame(runs))\n"
        "parts = lap('sections', lambda: section.sections(board, baselines.baseline_frame()))\n"
        "laps['rows'] = sum(len(part.rows) for part in parts)\n",
    )
    assert found["rows"] == 2_000
    assert found["frame"] + found["leaderboard"] + found["sections"] < LIMIT_S


def test_table_of_all_records(study: tuple[Path, list[str]]) -> None:
    results, _ = study
    found = measured(
        results,
        "from rich.console import Console\n"
        "from bench import report\n"
        "lap('table', lambda: report.show_table(results, format='markdown', console=Console(quiet=True)))\n",
    )
    assert found["peak_mb"] < LIMIT_MB
