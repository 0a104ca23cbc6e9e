"""From a results folder to tables and figures."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fabricated import record, run
from rich.console import Console
from typer.testing import CliRunner

from bench import report
from bench.cli import app
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
    assert lines[0] == "images: 19 images, digest 0123456789ab, 2 folds (seed 19)"
    assert any(line.split()[:3] == ["1", "mobile_sam", "lora_qv"] and "50.0" in line for line in lines)
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
    path = report.show_table(results, format="csv", by="organ", output=results / "mine.csv")
    table = pd.read_csv(path)
    assert table[["organ", "n_images", "n_true", "pq"]].values.tolist() == [["liver", 2, 18, 0.5]]
    file = io.StringIO()
    report.show_table(results, by="organ", console=Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("PQ per organ. images: 19 images")
    assert [line.split() for line in lines if "liver" in line] == [["liver", "2", "18", "50.0"]]


def test_plots_go_to_the_results_folder(results: Path) -> None:
    paths = report.draw_plots(results, x="latency")
    stem = "accuracy_by_latency_images_0123456789ab_2-folds-19"
    assert paths == [results / "figures" / f"{stem}.{suffix}" for suffix in ("png", "svg", "pdf")]


def test_nothing_to_report_says_what_to_do(tmp_path: Path) -> None:
    for show in (report.show_table, report.draw_plots):
        with pytest.raises(BenchError, match=r"no records below .*runs; run `bench run --grid quick` first\."):
            show(tmp_path)


def bench(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "bench.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **options)


def csv_bytes(results: Path) -> str:
    path = report.show_table(results, format="csv", output=results / "reference.csv", console=Console(quiet=True))
    assert path is not None
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_a_table_on_standard_output_is_all_that_is_printed_there(results: Path, tmp_path: Path, target: str) -> None:
    done = bench("table", "--results", results, "--format", "csv", "-o", target, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, csv_bytes(results), "")
    assert not (tmp_path / "-").exists()


def test_a_table_on_standard_output_is_utf_8_whatever_the_terminal(results: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = bench("table", "--results", results, "--format", "markdown", "-o", "-", env=environment)
    assert "50.0 ± 0.0" in done.stdout


def test_a_table_is_written_into_a_fifo(results: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    file = io.StringIO()
    with ThreadPoolExecutor() as pool:
        text = pool.submit(fifo.read_text, encoding="utf-8")
        report.show_table(results, format="csv", output=fifo, console=Console(file=file))
        assert text.result(timeout=30) == csv_bytes(results)
    assert fifo.is_fifo() and file.getvalue() == ""


def test_a_link_is_followed_and_stays(results: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    report.show_table(results, format="csv", output=tmp_path / "link.csv", console=Console(quiet=True))
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text(encoding="utf-8") == csv_bytes(results)


def test_a_folder_for_a_table_is_refused(results: Path, tmp_path: Path) -> None:
    done = bench("table", "--results", results, "--format", "csv", "-o", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path} is a folder; give the name of a file.\n"


@pytest.fixture
def read_only(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder on a file system that can't be written; a mode would not keep root from writing."""

    def refuse(path: Path, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    return results


def test_a_table_in_a_read_only_results_folder_names_the_folder_and_the_option(read_only: Path) -> None:
    with pytest.raises(BenchError) as error:
        report.show_table(read_only, format="csv")
    assert str(error.value) == (
        f"nothing can be written to {read_only / 'tables'} (Read-only file system); choose another place with -o FILE."
    )


def test_a_plot_in_a_read_only_results_folder_names_the_folder_and_the_option(read_only: Path) -> None:
    with pytest.raises(BenchError) as error:
        report.draw_plots(read_only)
    assert str(error.value) == (
        f"nothing can be written to {read_only / 'figures'} (Read-only file system); choose another place with -o STEM."
    )


def test_a_plot_goes_into_a_folder_that_exists(results: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    paths = report.draw_plots(results, output=tmp_path / "there")
    stem = "accuracy_by_parameters_images_0123456789ab_2-folds-19"
    assert paths == [tmp_path / "there" / f"{stem}.{suffix}" for suffix in ("png", "svg", "pdf")]


@pytest.mark.parametrize("target", ["-", "/dev/null"])
def test_a_plot_on_standard_output_or_a_device_is_refused(results: Path, target: str) -> None:
    with pytest.raises(BenchError, match=rf"written as several files, so it can't go to {target}; give the start of"):
        report.draw_plots(results, output=Path(target))


def test_a_damaged_record_is_reported_in_one_plain_line(results: Path) -> None:
    damaged = folder(results, "0123456789abcdef") / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{", encoding="utf-8")
    done = bench("table", "--results", results, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0 and "mobile_sam" in done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(str(damaged))
    assert "Warning" not in done.stderr and ".py" not in done.stderr


def test_wrong_requests_are_refused(results: Path) -> None:
    with pytest.raises(BenchError, match="unknown format 'pdf'; known: terminal, markdown, csv, latex, html"):
        report.show_table(results, format="pdf")
    with pytest.raises(BenchError, match=r"takes no file \(x\.md\); add --format markdown, csv"):
        report.show_table(results, format="terminal", output=Path("x.md"))
    with pytest.raises(BenchError, match=r"x\.doc doesn't tell the format; let it end in \.md, \.csv, \.tex, \.html"):
        report.show_table(results, output=Path("x.doc"))
    with pytest.raises(BenchError, match=r"x\.tex is of the format latex by its ending, and --format is csv"):
        report.show_table(results, format="csv", output=Path("x.tex"))


def test_a_zip_file_for_the_page_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "--results", str(tmp_path), "-o", str(tmp_path / "r.zip")])
    assert isinstance(done.exception, BenchError)
    assert "the page is a folder; give one, or add --pack for a zip file." in str(done.exception)
    assert not (tmp_path / "r.zip").exists()


def test_reporting_starts_without_torch_and_matplotlib() -> None:
    code = "import bench.report, sys; print(sorted({'torch', 'matplotlib', 'seaborn'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
