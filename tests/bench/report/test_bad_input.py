"""`bench table` and `bench compare` on bad input: a clear sentence or an honest table, in every format."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import many, record, run
from rich.console import Console

from bench import report
from bench.errors import BenchError
from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.compare import show_comparison
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.latex import latex
from bench.report.section import sections
from bench.report.table import markdown
from bench.report.web import html
from bench.results.record import FILENAME, folder, write

HOSTILE = "<script>alert(1)</script>|_%&$~^\\{}\"' 核 ü " + "long" * 50
Images = Mapping[tuple[str, str], float]
"""PQ of images by organ and stem."""


def add(results: Path, strategy: str, *folds: Images, **changes: object) -> list[Path]:
    """Write a row with a fold for each of `folds`; return the files of scores. AJI and Dice equal PQ."""
    paths = []
    for fold, images in enumerate(folds, 1):
        settings = run(strategy=strategy, fold=fold, n_splits=len(folds), **changes)
        pq = float(np.mean(list(images.values())))
        one = record(settings, dice=pq, aji=pq, pq=pq, official=False)
        write(results, one)
        table = pd.DataFrame([{"organ": o, "stem": s, "pq": pq} for (o, s), pq in images.items()])
        errors = dict.fromkeys(("n_missed", "n_spurious", "n_merged", "n_split"), 1)
        table = table.assign(aji=table["pq"], dice=table["pq"], n_true=5.0, n_pred=5.0, **errors)
        paths.append(folder(results, one.id) / "scores.parquet")
        table.to_parquet(paths[-1])
    return paths


def organs(*values: float, organ: str = "organ") -> Images:
    return {(f"{organ} {place}", f"s{place}"): value for place, value in enumerate(values)}


def shown(results: Path, format: str, by: str | None = None) -> str:
    """`bench table`, as text."""
    if format == "terminal":
        file = io.StringIO()
        report.show_table(results, by=by, console=Console(file=file, width=100))
        return file.getvalue()
    path = results / "out"
    report.show_table(results, format=format, by=by, output=path, console=Console(quiet=True))
    return path.read_text(encoding="utf-8")


def compared(results: Path, *names: str, format: str = "markdown") -> str:
    """`bench compare`, as text."""
    path = results / "compared"
    show_comparison(results, names, format=format, output=path, console=Console(quiet=True))
    return path.read_text(encoding="utf-8")


def everything(results: Path) -> str:
    """Table, images and comparison of a folder in one text."""
    texts = [shown(results, "markdown"), shown(results, "csv"), shown(results, "markdown", "image")]
    return "\n".join([*texts, compared(results), compared(results, "adapter", "full")])


def test_one_row_with_one_fold_has_a_table_and_nothing_to_compare(tmp_path: Path) -> None:
    add(tmp_path, "adapter", organs(0.4, 0.5))
    text = shown(tmp_path, "markdown")
    assert "| 45.0 |" in " ".join(text.split()) and "±" not in text.split("\n- ")[0]  # one fold: no spread
    assert "No decisive order" not in text
    with pytest.raises(BenchError, match="only mobile_sam/adapter has all folds, so no two rows can be compared"):
        compared(tmp_path)


def test_one_fold_has_no_test_over_folds(tmp_path: Path) -> None:
    add(tmp_path, "adapter", organs(0.4, 0.5, 0.6))
    add(tmp_path, "full", organs(0.3, 0.2, 0.1))
    assert "- One fold only: there is no test over folds." in compared(tmp_path, "adapter", "full")
    assert "nan" not in everything(tmp_path).lower()


def test_scores_that_are_no_numbers_are_dashes_and_no_interval_comes_of_them(tmp_path: Path) -> None:
    nan = float("nan")
    for strategy in ("adapter", "full"):
        add(tmp_path, strategy, organs(0.4, 0.6), organs(0.4, 0.5, organ="b"))
    (path, _) = add(tmp_path, "lora_qv", organs(0.4, 0.6), organs(0.4, 0.5, organ="b"))
    pd.read_parquet(path).assign(pq=nan, aji=nan).to_parquet(path)
    (path, _) = add(tmp_path, "decoder_only", organs(0.5, 0.5), organs(0.4, 0.5, organ="b"))
    content = (path.parent / FILENAME).read_text()
    assert '"pq": 0.5,' in content
    (path.parent / FILENAME).write_text(content.replace('"pq": 0.5,', '"pq": null,'))
    text = everything(tmp_path)
    assert "nan" not in text.lower()
    page = compared(tmp_path, "adapter", "lora_qv")
    assert "Left out, because a score is not a number: s0 (organ 0), s1 (organ 1)." in page


def test_one_image_has_neither_interval_nor_test(tmp_path: Path) -> None:
    add(tmp_path, "adapter", {("liver", "a"): 0.5})
    add(tmp_path, "full", {("liver", "a"): 0.4})
    assert "No confidence intervals: fewer than two images." in shown(tmp_path, "markdown")
    assert "- One image only: no test can tell anything." in compared(tmp_path, "adapter", "full")
    assert "nan" not in everything(tmp_path).lower()


def test_an_organ_with_one_image_is_an_organ(tmp_path: Path) -> None:
    values: dict[tuple[str, str], float] = {("rare", "x"): 0.9}
    values |= {(f"organ {n % 6}", f"s{n}"): 0.3 + n / 100 for n in range(12)}
    add(tmp_path, "adapter", values)
    add(tmp_path, "full", {key: pq - 0.1 for key, pq in values.items()})
    assert "of the 7 organs, each with all its images" in shown(tmp_path, "markdown")
    table = pd.read_csv(io.StringIO(shown(tmp_path, "csv", "organ"))).set_index(["strategy", "organ"])
    assert table.loc[("adapter", "rare"), ["n_images", "pq"]].tolist() == [1, 0.9]
    assert "A is above B on 7 of 7 organs." in compared(tmp_path, "adapter", "full")


def test_equal_scores_share_every_rank_and_are_said_to_be_equal(tmp_path: Path) -> None:
    for strategy in ("adapter", "full", "lora_qv"):
        add(tmp_path, strategy, organs(0.5, 0.5, 0.5), organs(0.5, 0.5, 0.5, organ="b"))
    text = shown(tmp_path, "markdown")
    assert text.count("| 1–3 |") == 3 and "**" not in text
    assert "No decisive order among the first three." in text
    assert "PQ: equal on every image." in compared(tmp_path, "adapter", "full")
    assert "PQ: Friedman's test says nothing (all rows are equal on every image)." in compared(tmp_path)


def test_hostile_names_mean_nothing_in_any_format(tmp_path: Path) -> None:
    names = {(f"{HOSTILE}{n}", f"{n}{HOSTILE}"): 0.3 + n / 10 for n in range(3)}
    for strategy in ("adapter", "full"):
        add(tmp_path, strategy, names, {("other", "y"): 0.2}, options={HOSTILE: HOSTILE})
    for path in tmp_path.glob(f"runs/*/{FILENAME}"):
        path.write_text(path.read_text().replace("/data/images", "/data/a|b <script>_%&核"))
    for by in (None, "organ", "image"):
        page, tex, md = (shown(tmp_path, format, by) for format in ("html", "latex", "markdown"))
        assert "<script>" not in page and "a|b &lt;script&gt;_%&amp;核" in page
        body = tex[tex.index(r"\begin{document}") :]
        assert "<" not in body and "核" not in tex[: tex.index(r"\begin{document}")]
        assert r"a\textbar{}b \textless{}script\textgreater{}\_\%\&" in body
        assert "<script>" not in md.replace(r"\<", "")
        assert max(map(len, shown(tmp_path, "terminal", by).splitlines())) <= 100 or by == "organ"
    assert "<script>" not in compared(tmp_path, "adapter", "full", format="html")
    assert "<script>" not in compared(tmp_path, "adapter", "full").replace(r"\<", "")
    (path,) = [Path(name).name for name in [sections_of(tmp_path)[0].file_stem]]
    assert path.startswith("a_b_script_")


def sections_of(results: Path) -> list[report.Section]:
    return sections(leaderboard_frame(report.read_records(results)), baseline_frame())


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"<html>"])
def test_damaged_scores_are_named_by_what_needs_them(tmp_path: Path, content: bytes) -> None:
    add(tmp_path, "adapter", organs(0.4, 0.5), organs(0.4, 0.6, organ="b"))
    (path, _) = add(tmp_path, "full", organs(0.2, 0.3), organs(0.2, 0.3, organ="b"))
    path.write_bytes(content)
    text = " ".join(shown(tmp_path, "markdown").split())
    assert f"Without intervals, and compared by their means alone: 1 rows ({path} can't be read (" in text
    calls: list[Callable[[], object]] = [
        lambda: shown(tmp_path, "csv", "organ"),
        lambda: shown(tmp_path, "csv", "image"),
        lambda: compared(tmp_path, "adapter", "full"),
    ]
    for call in calls:
        with pytest.raises(BenchError, match=r"scores\.parquet can't be read .*; copy it again, or move the record"):
            call()


@pytest.mark.parametrize("command", ["table", "compare"])
def test_a_read_only_folder_is_named_with_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    add(tmp_path, "adapter", organs(0.4, 0.5))
    add(tmp_path, "full", organs(0.2, 0.3))

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BenchError, match=r"nothing can be written to .*tables \(Read-only file system\); .* -o FILE"):
        if command == "table":
            report.show_table(tmp_path, format="csv", console=Console(quiet=True))
        else:
            show_comparison(tmp_path, format="csv", console=Console(quiet=True))


@pytest.mark.parametrize("n_rows", [200, pytest.param(10_000, marks=pytest.mark.release)])
def test_thousands_of_rows_are_all_shown(n_rows: int) -> None:
    records = [one for one in many(n_rows, 1) if one.status == "ok"]
    parts = sections(leaderboard_frame(record_frame(records)), baseline_frame())
    blocks = leaderboard.blocks(parts)
    rows = sum(len(part.rows) for part in parts)
    assert rows == len(records)
    assert leaderboard.csv(parts).count("\nrun,") == rows
    assert html(blocks).count("<tr>") >= rows
    assert sum(line.startswith("| ") for line in markdown(blocks).splitlines()) >= rows
    assert r"\begin{longtable}" in latex(blocks) and latex(blocks).count(r" \\") >= rows
