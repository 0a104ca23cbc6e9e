"""Ten thousand records without scores of images: summarising and tabulating them.

The records are generated (20 s), of the size that a training of 60 epochs leaves. Every measurement is of a process of
its own, from its start to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fabricated
import processes
import pytest
import ratios


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A results folder with the records of 2,000 cells of five folds, and their ids."""
    results = tmp_path_factory.mktemp("study")
    yield results, fabricated.write_many(results)


def test_summary_of_all_records(study: tuple[Path, list[str]]) -> None:
    results, ids = study
    found = processes.measured(
        "from pathlib import Path\n"
        "from bench.results.index import Index\n"
        "index = Index(Path(sys.argv[1]))\n"
        "laps['n'] = len(lap('cold', index.refresh))\n"
        "laps['n_again'] = len(lap('again', index.refresh))\n"
        "lap('by_id', lambda: index.refresh(list(index.entries)))\n",
        results,
    )
    assert (found["n"], found["n_again"]) == (len(ids), 0)
    ratios.report("summary of 9,897 records", found["process"], 3, "s", "lower", "a new process, all read")
    ratios.report("summary of 9,897 records: memory", found["peak_mb"], 500, "MB", "lower", "VmHWM of the process")
    again = found["cold"] / found["again"]
    ratios.report("summary again, nothing changed", again, 5, detail="faster than the first one")


def test_leaderboard_of_all_records(study: tuple[Path, list[str]]) -> None:
    results, _ = study
    found = processes.measured(
        "from pathlib import Path\n"
        "from bench.report import baselines, frame, section\n"
        "from bench.results import record\n"
        "records = lap('read', lambda: list(record.read_all(Path(sys.argv[1]))))\n"
        "runs = lap('frame', lambda: frame.record_frame(records))\n"
        "board = lap('leaderboard', lambda: frame.leaderboard_frame(runs))\n"
        "parts = lap('sections', lambda: section.sections(board, baselines.baseline_frame()))\n"
        "laps['rows'] = sum(len(part.rows) for part in parts)\n",
        results,
    )
    assert found["rows"] == 2_000
    seconds = found["frame"] + found["leaderboard"] + found["sections"]
    ratios.report("leaderboard of 2,000 rows", seconds, 3, "s", "lower", "9,897 records that are read already")
