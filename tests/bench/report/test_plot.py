"""Plots: positions of points and lines, and files that are the same in every environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from fabricated import record, run
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report import canvas, cost_panel, draw_plots, plot
from bench.report.appearance import backbone_marker, strategy_colour
from bench.report.axis import cost_axis
from bench.report.baselines import baseline_frame
from bench.report.cost_panel import front, spread
from bench.report.figure_rows import RANDOM_NOTE
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.report.image_scores import ImageScores, interval_scores
from bench.report.reading import read_records
from bench.report.score_panels import interval_notes
from bench.report.section import Section, sections
from bench.report.site.charts import trade_off
from bench.report.site.costs import AGAIN, cost_block
from bench.results.record import SCORES_FILENAME, RunRecord, folder, write
from bench.units import SCORE_TITLES

PQ = {"zero_shot": 0.30, "decoder_only": 0.40, "lora_qv": 0.52, "adapter": 0.50, "full": 0.60}


def records(**changes: object) -> list[RunRecord]:
    n = {"n_splits": 2, **changes}
    rows = [
        record(run(strategy=strategy, fold=fold, **n), pq=pq + (fold - 1.5) / 50, official=False)
        for strategy, pq in PQ.items()
        for fold in (1, 2)
    ]
    rows += [record(run(CLASSICAL, CLASSICAL, fold, **n), pq=0.45, official=False) for fold in (1, 2)]
    return rows


def without_parts(one: RunRecord) -> RunRecord:
    """Return the record as it was written before encoder and decoder were counted apart."""
    parts = {"parameters_trainable_encoder", "parameters_trainable_decoder"}
    return replace(one, cost={key: value for key, value in (one.cost or {}).items() if key not in parts})


def sections_of(rows: list[RunRecord], images: ImageScores | None = None) -> list[Section]:
    return sections(leaderboard_frame(record_frame(rows)), baseline_frame(), images)


def stored(folder: Path, rows: list[RunRecord]) -> Path:
    for one in rows:
        write(folder, one)
    return folder


def points(panel: Axes) -> dict[str, tuple[float, float]]:
    """Return the position of the marker of each row, by backbone and strategy."""
    return {
        container.get_label(): tuple(float(v[0]) for v in container.lines[0].get_data())
        for container in panel.containers
    }


def notes(figure: Figure) -> str:
    """Return the sentences below a figure in one line."""
    return " ".join(figure.get_supxlabel().split())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def with_intervals(rows: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    names = [f"{score}_{end}" for score in SCORE_TITLES for end in ("low", "high")]
    return rows.assign(**{name: low if name.endswith("low") else high for name in names})


def test_three_formats_are_written_under_a_name_with_dataset_and_digest(tmp_path: Path) -> None:
    paths = draw_plots(stored(tmp_path, records()), output=tmp_path / "figures" / "pareto")
    name = "pareto_images_0123456789ab_2-folds-19"
    assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg", f"{name}.pdf"]
    assert Image.open(paths[0]).width == 7.2 * 300
    assert ElementTree.parse(paths[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert paths[2].read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    results = stored(tmp_path, records())
    first = [path.read_bytes() for path in draw_plots(results)]
    assert first == [path.read_bytes() for path in draw_plots(results)]
    # Another process has another order of sets.
    command = [sys.executable, "-m", "bench.cli", "plot", "--results", str(results), "-o", str(tmp_path / "again")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert first == [Path(line).read_bytes() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PDF"])
def test_a_named_file_is_written_alone_at_the_width_of_a_column(tmp_path: Path, suffix: str) -> None:
    results, path = stored(tmp_path / "results", records()), tmp_path / "out" / f"fig{suffix}"
    assert draw_plots(results, columns=1, output=path) == [path]
    assert list(path.parent.iterdir()) == [path]
    if suffix == ".png":
        assert Image.open(path).width == 3.5 * 300
    if suffix == ".svg":
        assert ElementTree.parse(path).getroot().get("width") == "252pt"
    if suffix == ".pdf":
        assert b"/MediaBox [ 0 0 252 " in path.read_bytes()


def test_one_column_shows_pq_alone() -> None:
    (section,) = sections_of(records())
    figure = plot.draw(section.rows, columns=1)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["PQ, %"]
    with pytest.raises(BenchError, match="the width of 1 or 2 columns of a paper, not of 3"):
        plot.draw(section.rows, columns=3)


ENVIRONMENTS = {
    "notebook backend that is not installed, home that can't be written": {
        "MPLBACKEND": "module://no_such_package.backend_inline",
        "HOME": f"{os.devnull}/home",
    },
    "unknown backend, settings that can't be written": {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": os.devnull},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_plots_are_drawn_the_same_whatever_the_environment_says(tmp_path: Path, environment: dict[str, str]) -> None:
    for one in records():
        write(tmp_path, one)
    # A matplotlibrc in the current folder would change how every figure looks.
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: red\nsvg.fonttype: none\nbackend: QtAgg\n")
    command = [sys.executable, "-m", "bench.cli", "plot", "--results", str(tmp_path)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG"))}
    variables = {**inherited, **environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
    expected = draw_plots(tmp_path, output=tmp_path / "expected")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in expected]


def test_matplotlib_starts_without_home_and_passwd_entry() -> None:
    script = """
import pwd

def no_entry(uid):
    raise KeyError(uid)

pwd.getpwuid = no_entry
from bench.report import canvas

print(canvas.load_seaborn().__name__)
"""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG", "HOME"))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=variables)
    assert (done.stdout, done.stderr) == ("seaborn\n", "")


def test_the_variable_of_the_backend_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "svg")
    canvas.load_seaborn()
    assert os.environ["MPLBACKEND"] == "svg"
    monkeypatch.delenv("MPLBACKEND")
    canvas.load_seaborn()
    assert "MPLBACKEND" not in os.environ


def release(**changes: object) -> list[RunRecord]:
    """Return records on the images and folds of the release."""
    return [
        record(run(strategy=strategy, fold=fold, **changes), pq=PQ[strategy])
        for strategy in ("lora_qv", "full")
        for fold in range(1, 6)
    ]


def published(figure: Figure) -> set[str]:
    return {str(line.get_label()) for line in figure.axes[0].lines} & {"Dual decoder U-Net", "CellViT-256"}


def test_published_points_stand_beside_the_panel_where_the_images_are_the_releases(tmp_path: Path) -> None:
    ((_, figure),) = plot.figures(stored(tmp_path, release()))
    assert published(figure) == {"Dual decoder U-Net", "CellViT-256"}
    (point,) = (line for line in figure.axes[0].lines if line.get_label() == "Dual decoder U-Net")
    assert list(point.get_ydata()) == [51.3] and min(point.get_xdata()) > 1  # a share of the panel's width
    assert {"a  CellViT-256 56.4", "d  Dual decoder U-Net 51.3"} <= set(legend(figure))
    assert {"a", "d"} <= {text.get_text() for text in figure.axes[2].texts}
    said = "Grey diamonds: published on NuInsSeg, the same images; folds, choice of checkpoint and scoring are other"
    assert said in notes(figure) and "not ranked with the runs." in notes(figure)


@pytest.mark.parametrize("dataset", ["nuinsseg", "synthetic"])
def test_beside_other_images_published_points_are_drawn_when_they_are_asked_for(tmp_path: Path, dataset: str) -> None:
    results = stored(tmp_path, records(dataset=dataset))
    ((_, figure),) = plot.figures(results)
    assert published(figure) == set()
    assert "Grey diamonds" not in notes(figure)
    ((_, figure),) = plot.figures(results, published=True)
    assert published(figure) == {"Dual decoder U-Net", "CellViT-256"}
    assert "on other images: for orientation only" in notes(figure)


def test_points_stand_at_their_values() -> None:
    (section,) = sections_of(records())
    panels = plot.draw(section.rows).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["PQ, %", "AJI, %", "Dice, %"]
    drawn = points(panels[0])
    assert len(drawn) == 5  # the classical row is a line
    rows = section.rows.set_index("strategy")
    for name, (x, y) in drawn.items():
        strategy = name.split()[1]
        assert y == pytest.approx(100 * rows.loc[strategy, "pq_mean"])
        if strategy not in ("zero_shot", "decoder_only"):
            assert x == rows.loc[strategy, "parameters_trainable_encoder"]
    assert {y for _, y in points(panels[2]).values()} == {80.0}


def test_colours_and_markers_are_those_of_every_figure() -> None:
    (section,) = sections_of(records())
    for container in plot.draw(section.rows).axes[0].containers:
        backbone, strategy = container.get_label().split()
        marker = container.lines[0]
        assert (marker.get_marker(), marker.get_color()) == (backbone_marker(backbone), strategy_colour(strategy))


def test_zero_trainable_parameters_stand_left_of_a_marked_break() -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section.rows).axes[0]
    x, _ = points(panel)["mobile_sam zero_shot"]
    assert x == panel.get_xticks()[0]
    assert panel.get_xticklabels()[0].get_text() == "0"
    left, right = panel.get_xlim()
    assert left < x < 15_163
    assert right > 6_065_532
    assert "//" in [text.get_text() for text in panel.texts]


def bars(figure: Figure) -> dict[str, tuple[float, float]]:
    return {
        container.get_label(): tuple(container.lines[2][0].get_segments()[0][:, 1])
        for container in figure.axes[0].containers
    }


def test_bars_are_the_confidence_intervals_within_0_and_100() -> None:
    (section,) = sections_of(records())
    assert bars(plot.draw(with_intervals(section.rows, 0.25, 0.71)))["mobile_sam full"] == pytest.approx((25, 71))
    assert bars(plot.draw(with_intervals(section.rows, -0.5, 1.5)))["mobile_sam full"] == pytest.approx((0, 100))
    # An interval that leaves out its mean, as damage might have it, still has the mean in it.
    assert bars(plot.draw(with_intervals(section.rows, 0.1, 0.2)))["mobile_sam full"] == pytest.approx((10, 60))
    figure = plot.draw(section.rows)
    assert all(container.lines[2] == () for container in figure.axes[0].containers)
    assert "no confidence intervals" in notes(figure)


def test_intervals_come_from_the_scores_of_the_images(tmp_path: Path) -> None:
    ((_, figure),) = plot.figures(stored(tmp_path, records()))
    assert "No confidence intervals" in notes(figure)
    for number, one in enumerate(records()):
        scores = pd.DataFrame({"stem": [f"{number % 2}{i}" for i in range(9)], "organ": ["a"] * 9, "n_true": [3] * 9})
        scores = scores.assign(pq=(one.scores or {})["pq"] + np.linspace(-0.1, 0.1, 9), aji=0.5, dice=0.7)
        scores.to_parquet(folder(tmp_path, one.id) / SCORES_FILENAME)
    ((_, figure),) = plot.figures(tmp_path)
    low, high = bars(figure)["mobile_sam full"]
    rows = sections(*parts(tmp_path))[0].rows.set_index("strategy")
    assert (low, high) == pytest.approx((100 * rows.loc["full", "pq_low"], 100 * rows.loc["full", "pq_high"]))
    assert "bars: 95 % confidence intervals." in notes(figure)
    assert "95 % CI: bootstrap" in notes(figure)
    assert "#:" not in notes(figure)  # of the table


def test_a_path_with_the_sign_of_ranks_is_not_cut_in_the_sentence_on_intervals(tmp_path: Path) -> None:
    results = stored(tmp_path / "a #: b", records())
    (folder(results, records()[0].id) / SCORES_FILENAME).write_bytes(b"PAR1 torn")
    (section,) = sections(*parts(results))
    assert interval_notes(section) == list(section.uncertainty)
    assert "a #: b" in notes(plot.draw(section.rows, notes=interval_notes(section)))


def test_many_points_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    (section,) = sections_of(records())

    def size() -> float:
        return float(plot.draw(section.rows, columns=1).axes[0].containers[0].lines[0].get_markersize())

    before = size()
    monkeypatch.setattr(cost_panel, "CROWDED", 4)
    assert size() < before


def parts(results: Path) -> tuple[pd.DataFrame, pd.DataFrame, ImageScores]:
    frame = pooled(read_records(results))
    return leaderboard_frame(frame), baseline_frame(), interval_scores(results, frame)


def test_the_front_leaves_out_rows_that_a_cheaper_one_beats() -> None:
    rows = pd.DataFrame(
        {
            "x": [0, 10, 10, 20, 30, 40],
            "pq_mean": [0.3, 0.5, 0.45, 0.4, 0.9, 0.6],
            "complete": [True, True, True, True, False, True],
            "busy": False,
            "may_have_seen": False,
        }
    )
    assert front(rows, "pq").index.tolist() == [0, 1, 5]
    assert front(rows.assign(busy=rows.index == 1), "pq").index.tolist() == [0, 2, 5]
    assert front(rows.assign(pq_mean=rows["pq_mean"].where(rows.index != 1)), "pq").index.tolist() == [0, 2, 5]
    assert front(rows.assign(may_have_seen=rows.index == 1), "pq").index.tolist() == [0, 2, 5]
    assert front(rows.assign(may_have_seen=True), "pq").index.tolist() == [0, 1, 5]


def test_rows_whose_pretraining_may_have_seen_the_images_are_no_part_of_the_front_beside_others() -> None:
    seen = [record(run("lite_medsam", "lora_qv", fold, n_splits=2), pq=0.9, official=False) for fold in (1, 2)]
    (section,) = sections_of([*records(), *seen])
    figure = plot.draw(section.rows)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Pareto front"]
    assert max(line.get_ydata()) == 60
    assert "§ LiteMedSAM with official weights" in notes(figure)


def test_the_front_is_drawn_as_steps() -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section.rows).axes[0]
    (line,) = [line for line in panel.lines if line.get_label() == "Pareto front"]
    # adapter costs more than lora_qv and scores less; zero_shot trains as few of the encoder as decoder_only
    assert [round(y, 6) for y in line.get_ydata()] == [40, 52, 60, 60]
    assert line.get_drawstyle() == "steps-post"


def test_incomplete_rows_are_hollow() -> None:
    (section,) = sections_of(records()[:-3])  # without the classical row and the last fold of full
    faces = {
        container.get_label(): str(container.lines[0].get_markerfacecolor())
        for container in plot.draw(section.rows).axes[0].containers
    }
    assert [name for name, face in faces.items() if face == "white"] == ["mobile_sam full"]
    assert "folds missing" in legend(plot.draw(section.rows))


def test_rows_measured_on_a_busy_machine_are_pale_with_a_sign_and_no_part_of_the_front() -> None:
    (section,) = sections_of(records())
    rows = section.rows.assign(latency_busy=section.rows["strategy"] == "full")
    figure = plot.draw(rows, x="latency")
    marker = {c.get_label(): c.lines[0] for c in figure.axes[0].containers}["mobile_sam full"]
    colour = strategy_colour("full")
    assert marker.get_color() == colour
    assert marker.get_markerfacecolor() not in ("white", colour)
    (sign,) = [line for line in figure.axes[0].lines if line.get_label() == "_busy"]
    assert sign.get_xydata().tolist() == marker.get_xydata().tolist()
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Pareto front"]
    assert max(line.get_ydata()) == 52
    assert "busy machine" in legend(figure)
    # The mark is of the latency; a record that lacks it was not measured on a busy machine, as far as is known.
    for frame, x in ((rows, "parameters"), (rows.assign(latency_busy=None), "latency")):
        (line,) = [line for line in plot.draw(frame, x=x).axes[0].lines if line.get_label() == "Pareto front"]
        assert max(line.get_ydata()) == 60


def test_the_legend_has_no_front_where_every_machine_was_busy() -> None:
    (section,) = sections_of(records())
    names = legend(plot.draw(section.rows.assign(latency_busy=True), x="latency"))
    assert "busy machine" in names
    assert not {"Pareto front", "folds missing"} & set(names)


def test_names_on_one_column_hold_the_backbone_where_there_are_several() -> None:
    others = [record(run("tiny_sam", "full", fold, n_splits=2), pq=0.3, official=False) for fold in (1, 2)]
    (section,) = sections_of(twins((4, 8)) + others)
    for columns, name in ((1, "mobile_sam\nrank=8"), (2, "rank=8")):
        assert name in {text.get_text() for text in plot.draw(section.rows, columns=columns).axes[0].texts}


def test_random_weights_are_in_the_title() -> None:
    (section,) = sections_of(records(weights="random"))
    figure = plot.draw(section.rows, title="images")
    assert figure.get_suptitle() == "images · RANDOM WEIGHTS"
    assert RANDOM_NOTE in notes(figure)
    assert plot.draw(section.rows).get_suptitle() == "RANDOM WEIGHTS"
    (section,) = sections_of(records())
    assert plot.draw(section.rows, title="images").get_suptitle() == "images"


@pytest.mark.parametrize(
    ("x", "label"), [("latency", "latency, ms"), ("memory", "peak memory, GiB"), ("gpu-hours", "GPU-hours per run")]
)
def test_other_costs(x: str, label: str) -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section.rows, x=x).axes[0]
    assert panel.get_xlabel().startswith(label)
    row = section.rows.set_index("strategy").loc["full"]
    expected = {"latency": row["latency_ms"], "memory": row["peak_bytes"] / 2**30, "gpu-hours": 3060 / 3600}[x]
    assert points(panel)["mobile_sam full"][0] == pytest.approx(expected)


def test_a_repeated_row_has_the_gpu_hours_of_a_row_that_was_run_once() -> None:
    repeats = [("lora_qv", 0, 0.5), ("lora_qv", 1, 0.5), ("full", 0, 0.6)]
    rows = [
        record(run(strategy=name, fold=fold, n_splits=2, seed=seed), pq=pq, official=False)
        for name, seed, pq in repeats
        for fold in (1, 2)
    ]
    (section,) = sections(leaderboard_frame(pooled(record_frame(rows))), baseline_frame())
    assert {x for x, _ in points(plot.draw(section.rows, x="gpu-hours").axes[0]).values()} == {0.85}
    chart = trade_off(section, "trade-off")
    assert chart is not None
    data = chart.views["PQ against GPU-hours per run"]["data"]
    assert {x for trace in data if "hovertemplate" in trace for x in trace["x"]} == {0.85}


def measured_on(device: str, one: RunRecord) -> RunRecord:
    """Return the record of a run whose latencies were measured again."""
    return replace(one, cost={**(one.cost or {}), "measurement": {"gpu": device, "device": "cuda"}})


def test_the_figure_of_latencies_names_their_own_device_and_warns_of_several() -> None:
    rows = [measured_on("NVIDIA H100", one) for one in records()]  # the runs were on an A100
    (section,) = sections_of(rows)
    assert "Measured on NVIDIA H100." in notes(plot.draw(section.rows, x="latency"))
    assert "Measured on NVIDIA A100." in notes(plot.draw(section.rows, x="memory"))
    assert "Measured on" not in notes(plot.draw(section.rows))
    mixed = [measured_on("NVIDIA H100", one) if one.run["strategy"] == "full" else one for one in records()]
    (section,) = sections_of(mixed)
    warning = "Measured on NVIDIA A100 and NVIDIA H100: compare points of one device only; the front mixes them."
    assert warning in notes(plot.draw(section.rows, x="latency"))
    chart = trade_off(section, "trade-off")
    assert chart is not None
    assert f"Against latency: {warning}" in chart.notes
    table = cost_block(section)
    latency_on = {column.title: column.cells for column in table.columns}["latency on"]
    assert "NVIDIA H100" in latency_on and "NVIDIA A100" in latency_on
    assert AGAIN in table.notes
    (section,) = sections_of(records())
    table = cost_block(section)
    assert "latency on" not in [column.title for column in table.columns]
    assert AGAIN not in table.notes


def test_folds_that_were_measured_on_two_devices_are_warned_of() -> None:
    rows = [measured_on("NVIDIA H100", one) if one.run["fold"] == 1 else one for one in records()]
    (section,) = sections_of(rows)
    assert "NVIDIA A100 and NVIDIA H100: compare" in notes(plot.draw(section.rows, x="latency"))


def test_rows_measured_on_a_machine_of_unknown_load_are_counted_below_the_figure() -> None:
    (section,) = sections_of(records())
    sentence = "Whether the machine was busy is unknown for {} of 5 rows"
    rows = section.rows.assign(latency_busy=[None, None, False, True, False, False])
    unknown = int(rows.loc[rows["backbone"] != CLASSICAL, "latency_busy"].isna().sum())
    assert sentence.format(unknown) in notes(plot.draw(rows, x="latency"))
    assert "is unknown for" not in notes(plot.draw(rows.assign(latency_busy=False), x="latency"))
    assert "is unknown for" not in notes(plot.draw(rows, x="memory"))
    chart = trade_off(section, "trade-off")
    assert chart is not None
    assert any(note.startswith(f"Against latency: {sentence.format(5)}") for note in chart.notes)


def test_runs_on_a_cpu_have_no_gpu_hours(tmp_path: Path) -> None:
    rows = [replace(one, cost={**(one.cost or {}), "gpu_seconds": None}) for one in records()]
    message = "no record has both scores and gpu-hours; .* on a CPU there are none"
    with pytest.raises(BenchError, match=message):
        plot.figures(stored(tmp_path, rows), x="gpu-hours")
    on_cpu = [
        record(
            run("tiny_sam", "full", fold, n_splits=2), official=False, cost={**(one.cost or {}), "gpu_seconds": None}
        )
        for fold, one in enumerate(records()[-4:-2], 1)
    ]
    (section,) = sections_of([*records(), *on_cpu])
    figure = plot.draw(section.rows, x="gpu-hours")
    assert "Not drawn, without scores or gpu-hours: tiny_sam full" in notes(figure)
    assert "runs on a CPU have none" in notes(figure)


def test_records_without_the_parts_are_drawn_over_all_trainable_parameters() -> None:
    older = [without_parts(one) for one in records()]
    (section,) = sections_of(older)
    figure = plot.draw(section.rows)
    assert figure.axes[0].get_xlabel() == "trainable parameters in all"
    assert "don't tell the trainable parameters of encoder and decoder apart" in notes(figure)
    assert plot.draw(sections_of(records())[0].rows, x="total").axes[0].get_xlabel() == "trainable parameters in all"


def test_rows_that_cannot_be_drawn_are_named() -> None:
    lost = [record(run(strategy="lora_all_linear", n_splits=2), status="failed", reason="x", official=False)]
    (section,) = sections_of(records() + lost)
    figure = plot.draw(section.rows)
    assert "Not drawn, without scores or parameters: mobile_sam lora_all_linear." in notes(figure)


def twins(ranks: tuple[int, ...]) -> list[RunRecord]:
    return [
        record(run(fold=fold, n_splits=2, options={"rank": rank}), pq=0.4 + rank / 100, official=False)
        for rank in ranks
        for fold in (1, 2)
    ]


def test_points_that_look_alike_get_their_settings_written() -> None:
    (section,) = sections_of(twins((4, 8)))
    assert {"rank=4", "rank=8"} <= {text.get_text() for text in plot.draw(section.rows).axes[0].texts}
    # Third-party names whose digests choose the same colour.
    names = [name for name in (f"m{i}" for i in range(99)) if strategy_colour(name) == "#5aa5b4"][:2]
    rows = section.rows.assign(strategy=names, **{"strategy.rank": 4})
    assert set(names) <= {text.get_text() for text in plot.draw(rows).axes[0].texts}


def test_too_many_points_that_look_alike_get_a_sentence() -> None:
    (section,) = sections_of(twins(tuple(range(1, 43))))
    figure = plot.draw(section.rows)
    assert "`bench plot --x SETTING` draws a line over a setting" in notes(figure)
    assert not any("rank=" in text.get_text() for text in figure.axes[0].texts)


def test_an_unknown_cost_and_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown cost 'time'; known: parameters, total, latency, memory, gpu-hours"):
        plot.draw(sections_of(records())[0].rows, x="time")
    lost = [record(run(n_splits=1), status="failed", reason="x")]
    with pytest.raises(BenchError, match="no record has both scores and parameters"):
        plot.figures(stored(tmp_path, lost))
    with pytest.raises(BenchError, match="no row has both scores and parameters"):
        plot.draw(sections_of(lost)[0].rows)


def test_rows_of_several_sections_are_refused() -> None:
    frame = leaderboard_frame(record_frame([*records(), *release()]))
    with pytest.raises(BenchError, match="different images or folds"):
        plot.draw(frame)


def test_labels_are_spread_evenly_and_stay_below_the_top() -> None:
    assert spread([10.0, 20.0], gap=2, top=100) == [10, 20]
    assert spread([10.0, 10.0], gap=2, top=100) == [9, 11]
    assert spread([10.0, 10.0], gap=2, top=10) == [8, 10]


def test_axis_ticks_are_round_numbers_with_room_for_their_labels() -> None:
    axis = cost_axis(pd.Series([4e6, 10e6]), 1.9)
    assert axis.zero is None
    assert axis.labels == ("4 M", "6 M", "8 M", "10 M")
    wide = cost_axis(pd.Series([0, 4_058_340, 641_090_588]), 1.9)
    assert wide.labels == ("0", "10 M", "100 M")
    assert wide.place(pd.Series([0, 5.0])).tolist() == [wide.zero, 5.0]
    wider = cost_axis(pd.Series([0, 4_058_340, 641_090_588]), 3)
    assert wider.labels == ("0", "5 M", "10 M", "20 M", "50 M", "100 M", "200 M", "500 M")


@pytest.mark.parametrize("values", [[7], [7, 7], [0], [58, 62], [3, 3.05], [1e-9, 1e9], [0, 0.002, 5e14]])
@pytest.mark.parametrize("inches", [0.5, 1.9, 3])
def test_every_axis_has_two_ticks_and_holds_its_values(values: list[float], inches: float) -> None:
    axis = cost_axis(pd.Series(values, dtype=float), inches)
    assert 2 <= len(axis.ticks) <= 12
    assert len(set(axis.labels)) == len(axis.labels)
    places = axis.place(pd.Series(values, dtype=float))
    assert ((axis.left < places) & (places < axis.right)).all()
