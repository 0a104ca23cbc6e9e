"""`bench report` over 2,000 runs with 133 test images each, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import fabricated
import processes
import ratios

PROGRAM = """
from pathlib import Path
from bench.report.site import write_report
lap("report", lambda: write_report(Path(sys.argv[1]), output=Path(sys.argv[2])))
"""


def test_report_over_two_thousand_runs(tmp_path: Path) -> None:
    results, folder = tmp_path / "results", tmp_path / "report"
    fabricated.write_many(results, 400)
    fabricated.write_scores(results, 400)
    found = processes.measured(PROGRAM, results, folder)
    assert (folder / "index.html").stat().st_size > 100_000
    ratios.report("bench report over 2,000 runs", found["process"], 60, "s", "lower", "× 133 images, a new process")
    ratios.report("bench report over 2,000 runs: memory", found["peak_mb"], 2_000, "MB", "lower", "VmHWM")
