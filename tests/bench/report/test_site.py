"""Report page: its content, hostile names, data that is not there, and the same bytes twice."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import galleries
import pandas as pd
import pytest
from compared import add
from fabricated import ENCODERS, record, run
from hostile_study import EXPECTED, HOME, HOST
from plotly import graph_objects
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.site import architectures, citation, parts, write_report
from bench.report.site import galleries as site_galleries
from bench.results.record import write
from registry.errors import RegistryError


@pytest.fixture(scope="module")
def page(study_report: Path) -> str:
    return study_report.read_text(encoding="utf-8")


def test_the_headline_names_the_best_row_its_interval_and_that_it_is_decisive(page: str) -> None:
    headline = page[page.index('class="headline"') : page.index('class="facts"')]
    assert re.search(r"<strong>mobile_sam lora_qv</strong> PQ 67.6 % \(95 % CI 6\d.\d–\d\d.\d\), AJI 77.6 %", headline)
    assert "The first is decisively better on PQ than every other row." in headline
    assert "images: 19 images, digest 0123456789ab, 2 folds (seed 19)." in headline


def test_every_part_of_the_page_is_there_and_in_its_contents(page: str) -> None:
    names = ["leaderboard", "trade-off", "organs", "significance", "curves", "costs"]
    for name in [*(f"s1-{name}" for name in names), "audit", "failures", "cite"]:
        assert f'id="{name}"' in page
        assert f'href="#{name}"' in page


def test_failures_have_their_kind_reason_and_traceback(page: str) -> None:
    failures = unescape(page[page.index('id="failures"') : page.index('id="cite"')])
    assert "out_of_memory" in failures
    assert f"</script>{EXPECTED}" in failures
    assert 'File "…/run.py", line 1\nOutOfMemoryError on host-1</pre>' in failures


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert {"audit", "audit-table", "failures", "failures-table"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_report_that_is_sent_has_no_paths_and_hosts_in_it(study_results: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(study_results / "runs", results / "runs")
    damaged = results / "runs" / "abc" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    next(path for path in sorted(results.glob("runs/*/scores.parquet"))).write_text("damaged")
    lost = "node failed: job 7 on gpu-07 ended with it"
    write(results, record(run("sam_vit_l", "full"), status="failed", reason=lost, official=False))
    folder = write_report(results).parent
    texts = {path.name: path.read_text() for path in folder.rglob("*") if path.suffix in (".html", ".csv", ".svg")}
    for name in texts:
        for secret in (HOST, HOME, "jdoe", "gpu-07", str(tmp_path)):
            assert secret not in texts[name], name
    assert "results/runs/abc/record.json can&#39;t be read as a record" in texts["index.html"]
    assert "job 7 on host-" in texts["leaderboard.csv"]


def test_names_are_text_and_never_markup(page: str) -> None:
    assert "<script>alert" not in page
    assert "<b>brain" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page
    assert set(re.findall(r"<script[^>]*>", page)) == {
        '<script defer src="files/tables.js">',
        '<script defer src="files/page.js">',
        '<script type="application/json">',
    }


def test_charts_are_figures_of_plotly(page: str) -> None:
    views = [
        view
        for text in re.findall(r'<script type="application/json">(.*?)</script>', page)
        for view in json.loads(text)
    ]
    assert len(views) == 2 * (3 * 5 + 1) + 1  # sections × (scores × costs, organs), pairs
    for view in views:
        graph_objects.Figure(view)  # raises on a name or value that plotly does not know
    (trace,) = [trace for trace in views[0]["data"] if trace["name"] == "lora_qv"]
    assert trace["y"] == [pytest.approx(67.565)]
    assert "&lt;script&gt;" in json.dumps(views[0])


def test_numbers_are_sorted_by_their_value_and_units() -> None:
    texts = ("8.4 ± 1.1", "29.7 k", "4.06 M", "1–3", "−2.5", "1,024")
    numbers = [parts.number_in(text) for text in texts]
    assert numbers == pytest.approx([8.4, 29_700, 4_060_000, 1, -2.5, 1024])
    assert parts.number_in("–") == ""


def test_the_command_prints_the_page_and_the_same_records_give_the_same_bytes(
    study_report: Path, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "s9-ranks.svg").write_text("of an earlier report")
    (tmp_path / "files" / "manifest.json").write_text('{"files": ["s9-ranks.svg", "../own.txt", 1]}')
    (tmp_path / "files" / "chapter.docx").write_text("kept")
    (tmp_path / "own.txt").write_text("kept")
    done = CliRunner().invoke(app, ["report", "--results", str(study_report.parents[1]), "-o", str(tmp_path)])
    assert (done.exit_code, done.output.strip()) == (0, str(tmp_path / "index.html"))
    names = sorted(path.relative_to(study_report.parent) for path in study_report.parent.rglob("*") if path.is_file())
    assert {str(name) for name in names} >= {"index.html", "files/plotly.js", "files/s1-ranks.svg"}
    assert all((study_report.parent / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "index.html", "own.txt"]
    assert not (tmp_path / "files" / "s9-ranks.svg").exists()
    assert (tmp_path / "files" / "chapter.docx").read_text() == "kept"


def test_files_that_no_report_wrote_are_never_replaced(tmp_path: Path) -> None:
    write(tmp_path / "results", record(run(), status="failed", reason="x"))
    thesis = tmp_path / "thesis"
    (thesis / "files").mkdir(parents=True)
    (thesis / "files" / "page.css").write_text("own")
    with pytest.raises(BenchError, match=r"page.css was not written by a report and is kept; give another folder"):
        write_report(tmp_path / "results", output=thesis)
    (thesis / "index.html").write_text("own")
    with pytest.raises(BenchError, match=r"index.html is no report of this program and is kept; give another folder"):
        write_report(tmp_path / "results", output=thesis)
    assert {path.name: path.read_text() for path in thesis.rglob("*.*")} == {"index.html": "own", "page.css": "own"}


def test_a_study_of_one_row_says_what_it_cannot_show(tmp_path: Path) -> None:
    write(tmp_path, record(run("mobile_sam", "lora_qv", 1, n_splits=1), official=False))
    damaged = tmp_path / "runs" / "abc" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    text = unescape(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "One row is ranked, so there is nothing to compare it with." in text
    assert "No test of every two rows: " in text
    assert "No scores per organ: " in text
    assert "No run that is ok has a history: only trained runs have one." in text
    assert "No run that left a record failed or was skipped." in text
    assert "abc/record.json can't be read as a record" in text


def test_the_headline_has_the_classical_pipeline_and_the_best_published_score(tmp_path: Path) -> None:
    folds = {"n_splits": 5, "fold_seed": 19}
    for fold in range(1, 6):
        write(tmp_path, record(run("mobile_sam", "lora_qv", fold, **folds), pq=0.2))
        write(tmp_path, record(run(CLASSICAL, CLASSICAL, fold, **folds), pq=0.3))
    text = unescape(write_report(tmp_path).read_text(encoding="utf-8"))
    headline = text[text.index('class="headline"') : text.index('class="facts"')]
    sentence = "The best row stays 10.0 points below the classical pipeline, which learns nothing: PQ 30.0 %."
    assert sentence in headline
    assert "its protocol is not known to agree: CellViT-256, 56.4 %." in text


def test_one_image_of_one_organ(tmp_path: Path) -> None:
    for strategy in ("lora_qv", "full"):
        add(tmp_path, "mobile_sam", strategy, ({"liver/a": 0.5},), n_splits=1)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The images are of one organ (or group)" in text
    assert "The order is that of the mean scores; it was not tested." in text


def test_scores_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    for strategy in ("lora_qv", "full"):
        add(tmp_path, "mobile_sam", strategy)
    path = next(tmp_path.glob("runs/*/scores.parquet"))
    pd.read_parquet(path).assign(pq=float("nan")).to_parquet(path)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Left out, because a score is not a number" in text
    assert "NaN" not in text
    assert ">nan" not in text


def test_only_failed_runs(tmp_path: Path) -> None:
    write(tmp_path, record(run(), status="failed", reason="diverged: the loss became nan"))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No row has a score on all its folds, so none is ranked." in text
    assert "No row has both scores and a cost." in text
    assert "diverged: the loss became nan" in text


def test_no_records_and_places_that_are_no_folder_are_refused(study_report: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no records below .*; run `bench run --grid quick` first"):
        write_report(tmp_path)
    for name in ("-", "page.html"):
        with pytest.raises(BenchError, match="a report is a folder of several files"):
            write_report(study_report.parents[1], output=Path(name))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write(tmp_path / "results", record(run(), status="failed", reason="x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"nothing can be written to .*; choose another place with -o DIR"):
        write_report(tmp_path / "results", output=tmp_path / "file" / "report")


def test_architecture_figures_that_stand_in_the_folder_are_shown(tmp_path: Path) -> None:
    for strategy in ("lora_qv", "full"):
        write(tmp_path, record(run("mobile_sam", strategy), status="failed", reason="x"))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert (
        "No figure was drawn yet. Not drawn: 2 models (backbone, strategy, its options, image size). `bench report"
        in text
    )
    model = architectures.Model("mobile_sam", "lora_qv", {"rank": 4}, 1024)
    drawing = model.path(tmp_path)
    drawing.parent.mkdir()
    drawing.write_text('<svg height="72pt" version="1.1" width="144pt"></svg>')
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'alt="Architecture of mobile_sam/lora_qv (rank=4, 1024 px): ' in text
    assert 'width="192" height="96"' in text
    assert "Not drawn: 1 model (" in text
    assert (tmp_path / "report" / "files" / "architecture-1.svg").read_bytes() == drawing.read_bytes()


def test_a_figure_follows_from_options_plug_ins_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = architectures.Model("mobile_sam", "of_a_plug_in", {"rank": 4, "file": "/home/jdoe/a.txt"}, 1024, ("12",))
    paths = {model.path(tmp_path)}
    paths.add(replace(model, options={"rank": 8}).path(tmp_path))
    paths.add(replace(model, plugins=("34",)).path(tmp_path))
    paths.add(replace(model, image_size=128).path(tmp_path))
    monkeypatch.setattr(architectures, "_version", lambda: "9.9")
    paths.add(model.path(tmp_path))
    assert len(paths) == 5
    assert model.title == "mobile_sam/of_a_plug_in (file=a.txt, rank=4, 1024 px)"


def test_missing_architecture_figures_are_drawn_with_options_and_image_size_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def figure(backbone: str, strategy: str, options: object, *, image_size: int | None) -> Figure:
        if backbone == "of_a_plug_in":
            raise RegistryError("unknown backbone 'of_a_plug_in'")
        drawn.append((backbone, strategy, options, image_size))
        return Figure(figsize=(1, 1))

    drawn: list[object] = []
    monkeypatch.setattr("bench.architecture.figure", figure)
    for backbone, strategy in (("mobile_sam", "lora_qv"), ("mobile_sam", "full"), ("of_a_plug_in", "full")):
        write(tmp_path, record(run(backbone, strategy), status="failed", reason="x"))
    write(
        tmp_path,
        record(run("mobile_sam", "lora_qv", options={"rank": 16}, image_size=128), status="failed", reason="x"),
    )
    done = CliRunner().invoke(app, ["report", "--architecture", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert drawn == [
        ("mobile_sam", "full", {}, 1024),
        ("mobile_sam", "lora_qv", {"rank": 16}, 128),
        ("mobile_sam", "lora_qv", {"rank": 4}, 1024),
    ]
    assert "no architecture figure of of_a_plug_in with full: unknown backbone" in done.output
    assert architectures.draw_missing(tmp_path) == []
    assert len(drawn) == 3


def test_sections_and_figures_share_the_bytes_of_a_page(
    study_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in study_results.glob("runs/*/record.json"):
        settings = json.loads(path.read_bytes())["run"]
        if settings["backbone"] == "tiny_sam":  # whose predictions were kept
            shutil.copytree(path.parent, tmp_path / "results" / "runs" / path.parent.name)
            model = architectures.Model("tiny_sam", "full", settings["options"], settings["image_size"])
    shutil.copytree(study_results / "images", tmp_path / "results" / "images")
    path = model.path(tmp_path / "results")
    path.parent.mkdir()
    path.write_text("<svg></svg>")
    for module in (architectures, site_galleries):
        monkeypatch.setattr(module, "MOST_BYTES", 100)
    page = write_report(tmp_path / "results")
    assert not list(page.parent.glob("files/*-gallery-*.webp"))
    assert not list(page.parent.glob("files/architecture-*.svg"))
    text = page.read_text(encoding="utf-8")
    assert "No pictures; more would make the page large. `bench plot --gallery` draws each." in text
    assert "Left out, because together they are large: 1 figure, see results/figures." in text


@pytest.mark.release
def test_a_study_of_210_runs_takes_less_than_15_megabytes(tmp_path: Path) -> None:
    folds = [[galleries.image(f"tile_{fold}", shape=(512, 512), n=120)] for fold in range(5)]
    backbones, strategies = (
        list(ENCODERS)[:6],
        ("lora_qv", "lora_all_linear", "adapter", "full", "decoder", "zero_shot", "bitfit"),
    )
    for backbone, strategy in itertools.product(backbones, strategies):
        galleries.add(tmp_path, backbone, strategy, folds, galleries.with_errors)
    page = write_report(tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 210
    assert len(list(page.parent.glob("files/*-gallery-*.webp"))) > 15
    assert sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file()) < 15_000_000


def test_citations_are_those_of_the_file_and_of_what_is_shown(page: str) -> None:
    cite = page[page.index('id="cite"') :]
    assert "@software{nuclei-bench," in cite
    assert "title = {NuInsSeg: A fully annotated dataset" in cite
    assert "Mahbod, Amirreza and others" in cite
    assert "Mahbod et al., Scientific Data 11:295 (2024), Table 3" in cite
    assert "<b>mobile_sam</b>: " in cite


def test_without_citation_file_there_are_no_entries(tmp_path: Path) -> None:
    assert citation.citations([], path=tmp_path / "CITATION.cff").bibtex == ""
