"""Figures of records that are few, odd, hostile or many: each is drawn, or refused in a sentence."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from fabricated import many, record, run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.cli.options import Kind
from bench.errors import BenchError
from bench.report import ablation, draw_plots, plot, plot_kinds
from bench.report.canvas import DPI, save
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.look_alikes import telling_texts
from bench.results.record import RunRecord, write

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b_c%d&e $x^2$ \\frac{",
    "核分割",
    "x" * 300,
    "two\nlines\t",
    "\u202eabc",
    "{0}",
)


def frame(records: list[RunRecord]) -> pd.DataFrame:
    return leaderboard_frame(record_frame(records))


def two_ranks(name: str) -> list[RunRecord]:
    known = record(run(n_splits=1), official=False)
    return [
        replace(known, id=f"{name}{rank}", run={**known.run, "strategy": name, "options": {"rank": rank}})
        for rank in (1, 4)
    ]


def texts_within(figure: Figure) -> bool:
    """Return whether every text stands within the figure, as it is saved."""
    figure.set_dpi(DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    extents = [text.get_window_extent(renderer) for text in figure.texts]
    extents += [legend.get_window_extent(renderer) for legend in figure.legends]
    return all(e.x0 >= 0 and e.x1 <= figure.bbox.x1 + 1 and e.y0 >= -1 and e.y1 <= figure.bbox.y1 + 1 for e in extents)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("columns", [1, 2])
def test_hostile_names_are_text_and_stay_within_the_figure(tmp_path: Path, columns: int) -> None:
    rows = frame([one for name in HOSTILE for one in two_ranks(name)])
    figure = plot.draw(rows, columns=columns, title=" ".join(HOSTILE), notes=list(HOSTILE))
    assert texts_within(figure)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(shown)) == len(HOSTILE)
    assert {"<script>alert(1)</script>", "a|b_c%d&e $x^2$ \\frac{", "[U+6838][U+5206][U+5272]"} <= set(shown)
    assert max(map(len, shown)) <= 30
    svg = ElementTree.parse(save(figure, tmp_path / "fig.svg"))
    assert not [element for element in svg.iter() if "script" in element.tag]
    assert texts_within(ablation.draw(rows, x="strategy.rank", columns=columns, title=HOSTILE[3]))


def test_a_file_name_holds_nothing_that_a_folder_name_may(tmp_path: Path) -> None:
    one = record(run(n_splits=1), official=False)
    data = {**dict(one.provenance or {})["dataset"], "root": "/data/a<b>|& 核"}
    write(tmp_path, replace(one, provenance={**dict(one.provenance or {}), "dataset": data}))
    path = draw_plots(tmp_path)[0]
    assert path.name == "accuracy_by_parameters_a_b_核_0123456789ab_1-folds-19.png"


@pytest.mark.parametrize("n_splits", [1, 5])
def test_one_row_with_one_fold_is_drawn(n_splits: int) -> None:
    figure = plot.draw(frame([record(run(n_splits=n_splits), official=False)]))
    (container,) = figure.axes[0].containers
    assert (container.lines[0].get_markerfacecolor() == "white") == (n_splits > 1)


def test_nan_scores_leave_a_row_out_of_their_panel() -> None:
    rows = frame([record(run(strategy=name, n_splits=1), official=False) for name in ("full", "lora_qv")])
    rows.loc[rows["strategy"] == "full", ["pq_mean", "pq_sd"]] = np.nan
    panels = plot.draw(rows).axes
    assert [len(panel.containers) for panel in panels] == [1, 2, 2]
    figure = plot.draw(rows.assign(pq_mean=np.nan))
    assert figure.axes[0].get_ylim() == (-4, 104)
    with pytest.raises(BenchError, match="no row has both scores and parameters"):
        plot.draw(rows.assign(pq_mean=np.nan, aji_mean=np.nan, dice_mean=np.nan))


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_equal_scores_get_an_axis_with_room(score: float) -> None:
    rows = [
        record(run(strategy=name, n_splits=1), pq=score, aji=score, dice=score, official=False)
        for name in ("full", "lora_qv", "zero_shot")
    ]
    low, high = plot.draw(frame(rows)).axes[0].get_ylim()
    assert low < 100 * score < high


@pytest.mark.parametrize("value", [float("inf"), -5.0, 1e300, 1e-300, None])
def test_costs_that_no_axis_has_room_for_are_left_out(value: float | None) -> None:
    rows = frame([record(run(strategy=name, n_splits=1), official=False) for name in ("full", "lora_qv")])
    rows.loc[rows["strategy"] == "full", "latency_ms"] = value
    figure = plot.draw(rows, x="latency")
    assert len(figure.axes[0].containers) == 1
    assert "Not drawn, without scores or latency: mobile_sam full." in " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.release)])
def test_ten_thousand_rows_are_drawn_in_seconds(tmp_path: Path, times: int) -> None:
    head = list(many(200, 1))
    rows = pd.concat([frame(head)] * times, ignore_index=True)
    rows["cell"] = [f"{place:012d}" for place in range(len(rows))]
    start = time.process_time()
    figure = plot.draw(rows)
    path = save(figure, tmp_path / "fig.svg")
    assert time.process_time() - start < 60
    assert len(rows) > 190 * times
    assert path.stat().st_size < 10_000_000


def test_names_whose_digests_choose_one_look_are_told_apart() -> None:
    rows = pd.DataFrame({"backbone": "mobile_sam", "strategy": ["m10", "m28", "full", "full"], "strategy.rank": 4})
    rows.loc[3, "strategy.rank"] = 8
    assert telling_texts(rows, ["strategy.rank"]) == {0: "m10", 1: "m28", 2: "rank=4", 3: "rank=8"}


def test_kinds_and_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    assert {kind.value for kind in Kind} == set(plot_kinds.MODULES)
    with pytest.raises(BenchError, match="unknown kind of figure 'pie'; known: cost, "):
        draw_plots(tmp_path, kind="pie")
    with pytest.raises(BenchError, match="leave them out with --kind folds"):
        draw_plots(tmp_path, kind="folds", x="latency")
    with pytest.raises(BenchError, match="leave them out with --kind organs"):
        draw_plots(tmp_path, kind="organs", published=True)


def test_several_figures_do_not_go_into_one_file(tmp_path: Path) -> None:
    for digest in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        write(tmp_path, record(run(n_splits=1, dataset_digest=digest), official=False))
    with pytest.raises(BenchError, match=r"there are 2 figures \(images_a+_1-folds-19, .* is one file; give the start"):
        draw_plots(tmp_path, output=tmp_path / "fig.pdf")
    paths = draw_plots(tmp_path, output=tmp_path / "v1.2")
    assert [path.name for path in paths[:3:2]] == [f"v1.2_images_aaaaaaaaaaaa_1-folds-19{s}" for s in (".png", ".pdf")]
    with pytest.raises(BenchError, match=r"figures are written as .png, .svg, .pdf, not as fig.jpg"):
        draw_plots(tmp_path, output=tmp_path / "fig.jpg")
