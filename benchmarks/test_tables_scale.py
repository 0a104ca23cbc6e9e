"""Every table of `bench table` and `bench compare` of up to 10,000 runs with 133 test images each.

The records and scores are generated (a minute for the largest study). Every table is made in a process of its own,
whose time counts from its start to its end.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fabricated
import processes
import pytest
import ratios

from bench.results.record import folder

TABLES = {
    "terminal": "report.show_table(results, console=quiet)",
    "markdown": "report.show_table(results, format='markdown', output=out / 'a.md', console=quiet)",
    "csv": "report.show_table(results, format='csv', output=out / 'a.csv', console=quiet)",
    "latex": "report.show_table(results, format='latex', output=out / 'a.tex', console=quiet)",
    "html": "report.show_table(results, format='html', output=out / 'a.html', console=quiet)",
    "by seed": "report.show_table(results, by='seed', format='csv', output=out / 's.csv', console=quiet)",
    "by organ": "report.show_table(results, by='organ', format='csv', output=out / 'o.csv', console=quiet)",
    "by image": "report.show_table(results, by='image', format='csv', output=out / 'i.csv', console=quiet)",
    "compare": "compare.show_comparison(results, format='csv', output=out / 'c.csv', console=quiet)",
}
PROGRAM = """
from pathlib import Path
from rich.console import Console
from bench import report
from bench.report import compare
results, out, quiet = Path(sys.argv[1]), Path(sys.argv[2]), Console(quiet=True)
{call}
"""
TARGET_S, TARGET_MB = 30, 2_000


def made(results: Path, out: Path, table: str) -> dict[str, float]:
    return processes.measured(PROGRAM.format(call=TABLES[table]), results, out)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 cells of five folds."""
    results = tmp_path_factory.mktemp("study")
    fabricated.write_many(results)
    fabricated.write_scores(results)
    return results


def test_every_table_of_ten_thousand_runs(large: Path, tmp_path: Path) -> None:
    found = {table: made(large, tmp_path, table) for table in TABLES}
    assert sum(1 for _ in (tmp_path / "i.csv").open()) == 1 + 49 * 665 and (tmp_path / "c.csv").exists()
    slowest = max(found, key=lambda table: found[table]["process"])
    seconds = ", ".join(f"{table} {one['process']:.1f}" for table, one in found.items())
    name = f"slowest table of 10,000 runs × 133 images: {slowest}"
    ratios.report(name, found[slowest]["process"], TARGET_S, "s", "lower", f"seconds: {seconds}")
    memory = max(one["peak_mb"] for one in found.values())
    ratios.report("tables of 10,000 runs: memory", memory, TARGET_MB, "MB", "lower", "the largest peak of a process")


def test_time_grows_no_faster_than_the_number_of_runs(large: Path, tmp_path: Path) -> None:
    times = {10_000: made(large, tmp_path, "by organ")["cpu_s"]}
    for runs in (1_000, 3_000):
        results = tmp_path / str(runs)
        for one in fabricated.many(runs // 5):  # a part of the large study; its files are not written again
            shutil.copytree(folder(large, one.id), folder(results, one.id), copy_function=os.link)
        times[runs] = made(results, tmp_path, "by organ")["cpu_s"]
    detail = "by organ, processor time: " + ", ".join(f"{runs:,} runs {times[runs]:.1f} s" for runs in sorted(times))
    growth = times[10_000] / times[1_000]
    ratios.report("tables: time of 10,000 runs against 1,000", growth, 11, better="lower", detail=detail)
