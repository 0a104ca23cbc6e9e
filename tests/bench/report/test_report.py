"""From a results folder to tables and figures."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fabricated import record, run
from rich.console import Console

from bench import report
from bench.errors import BenchError
from bench.results.record import folder, write


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for fold in (1, 2):
        one = record(run(fold=fold, n_splits=2), pq=0.5, official=False)
        write(tmp_path, one)
        scores = pd.DataFrame({"stem": ["a"], "organ": ["liver"], "fold": fold, "pq": 0.5, "n_true": 9})
        scores.to_parquet(folder(tmp_path, one.id) / "scores.parquet")
    return tmp_path


def test_the_table_is_printed_within_the_terminal(results: Path) -> None:
    file = io.StringIO()
    assert report.show_table(results, console=Console(file=file, width=80)) is None
    lines = file.getvalue().splitlines()
    assert lines[0] == "images (layout of nuinsseg): 19 images, digest 0123456789ab, 2 folds (seed 19)"
    assert any(line.startswith("1  mobile_sam  lora_qv") and "50.0 ± 0.0" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert not (results / "tables").exists()


@pytest.mark.parametrize(("format", "suffix"), [("markdown", "md"), ("csv", "csv")])
def test_files_go_to_the_results_folder(results: Path, format: str, suffix: str) -> None:
    file = io.StringIO()
    path = report.show_table(results, format=format, console=Console(file=file, width=80))
    assert path == results / "tables" / f"leaderboard.{suffix}"
    assert file.getvalue().strip() == str(path)
    assert "mobile_sam" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_by_organ(results: Path) -> None:
    path = report.show_table(results, format="csv", by_organ=True, output=results / "mine.csv")
    table = pd.read_csv(path)
    assert table[["organ", "n_images", "n_true", "pq"]].values.tolist() == [["liver", 2, 18, 0.5]]
    file = io.StringIO()
    report.show_table(results, by_organ=True, console=Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("PQ per organ. images (layout of nuinsseg): 19 images")
    assert [line.split() for line in lines if "liver" in line] == [["liver", "2", "18", "50.0"]]


def test_plots_go_to_the_results_folder(results: Path) -> None:
    paths = report.draw_plots(results, x="latency")
    stem = "accuracy_by_latency_nuinsseg_0123456789ab_2-folds-19"
    assert paths == [results / "figures" / f"{stem}.{suffix}" for suffix in ("png", "svg")]


def test_nothing_to_report_says_what_to_do(tmp_path: Path) -> None:
    for show in (report.table, report.plot):
        with pytest.raises(BenchError, match=r"no records below .*runs; run `bench run --grid quick` first\."):
            show(tmp_path)


def test_wrong_requests_are_refused(results: Path) -> None:
    with pytest.raises(BenchError, match="unknown format 'html'; known: terminal, markdown, csv"):
        report.show_table(results, format="html")
    with pytest.raises(BenchError, match=r"takes no file \(x\.md\); add --format markdown or csv"):
        report.show_table(results, output=Path("x.md"))


def test_reporting_starts_without_torch_and_matplotlib() -> None:
    code = "import bench.report, sys; print(sorted({'torch', 'matplotlib', 'seaborn'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
