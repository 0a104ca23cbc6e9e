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
from PIL import Image

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report import canvas, plot
from bench.report.axis import cost_axis
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.section import Section, sections
from bench.results.record import RunRecord, write

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


def sections_of(rows: list[RunRecord]) -> list[Section]:
    return sections(leaderboard_frame(record_frame(rows)), baseline_frame())


def points(panel: object) -> dict[str, tuple[float, float]]:
    """Return the position of the marker of each row, by its id."""
    return {
        container.get_label(): tuple(float(v[0]) for v in container.lines[0].get_data())
        for container in panel.containers  # type: ignore[attr-defined]
    }


def test_both_formats_are_written_under_a_name_with_dataset_and_digest(tmp_path: Path) -> None:
    paths = plot.pareto(sections_of(records()), tmp_path / "figures" / "pareto")
    name = "pareto_images_0123456789ab_2-folds-19"
    assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg"]
    assert Image.open(paths[0]).size == (4200, 1860)
    assert ElementTree.parse(paths[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in plot.pareto(sections_of(records()), tmp_path / "a")]
    again = [path.read_bytes() for path in plot.pareto(sections_of(records()), tmp_path / "a")]
    assert first == again


ENVIRONMENTS = {
    "notebook backend that is not installed": {"MPLBACKEND": "module://no_such_package.backend_inline"},
    "unknown backend": {"MPLBACKEND": "nonsense"},
    "settings that can't be written": {"MPLCONFIGDIR": os.devnull},
    "home that can't be written": {"HOME": f"{os.devnull}/home"},
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
    assert [path.suffix for path in paths] == [".png", ".svg"]
    expected = plot.pareto(sections_of(records()), tmp_path / "expected")
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


def test_no_published_lines_beside_made_up_images() -> None:
    (section,) = sections_of(records(dataset="synthetic"))
    assert "Dual decoder U-Net" not in {line.get_label() for line in plot.draw(section).axes[0].lines}
    texts = "\n".join(text.get_text() for text in plot.draw(section).texts)
    assert "Grey lines" not in texts


def test_points_stand_at_their_values() -> None:
    (section,) = sections_of(records())
    panels = plot.draw(section).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["PQ, %", "AJI, %", "Dice, %"]
    drawn = points(panels[0])
    assert len(drawn) == 5  # the classical row is a line
    rows = section.rows.set_index("cell")
    for row, (x, y) in drawn.items():
        assert y == pytest.approx(100 * rows.loc[row, "pq_mean"])
        if rows.loc[row, "strategy"] not in ("zero_shot", "decoder_only"):
            assert x == rows.loc[row, "parameters_trainable_encoder"]
    assert {y for _, y in points(panels[2]).values()} == {80.0}


def test_zero_trainable_parameters_stand_left_of_a_marked_break() -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section).axes[0]
    x, _ = points(panel)[section.rows.set_index("strategy").loc["zero_shot", "cell"]]
    assert x == panel.get_xticks()[0]
    assert panel.get_xticklabels()[0].get_text() == "0"
    left, right = panel.get_xlim()
    assert left < x < 15_163
    assert right > 6_065_532
    assert "//" in [text.get_text() for text in panel.texts]


def test_error_bars_are_one_sd() -> None:
    (section,) = sections_of(records())
    container = plot.draw(section).axes[0].containers[0]
    ((low, high),) = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
    sd = 100 * np.std([0.59, 0.61], ddof=1)
    assert (high - low) / 2 == pytest.approx(sd)


def test_reference_lines_are_the_comparable_baselines_and_the_classical_row() -> None:
    (section,) = sections_of(records())
    lines = {line.get_label(): line.get_ydata() for line in plot.draw(section).axes[0].lines}
    assert set(lines["Dual decoder U-Net"]) == {51.3}
    assert set(lines[CLASSICAL]) == {45.0}
    assert not any("LoRA" in str(name) for name in lines)


def test_the_front_leaves_out_rows_that_a_cheaper_one_beats() -> None:
    rows = pd.DataFrame(
        {
            "x": [0, 10, 10, 20, 30, 40],
            "pq_mean": [0.3, 0.5, 0.45, 0.4, 0.9, 0.6],
            "complete": [True, True, True, True, False, True],
        }
    )
    assert plot.front(rows, "pq").index.tolist() == [0, 1, 5]


def test_the_front_is_drawn_as_steps() -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section).axes[0]
    (front,) = [line for line in panel.lines if line.get_label() == "Pareto front"]
    # adapter costs more than lora_qv and scores less; zero_shot trains as few of the encoder as decoder_only
    assert [round(y, 6) for y in front.get_ydata()] == [40, 52, 60, 60]
    assert front.get_drawstyle() == "steps-post"


def test_incomplete_rows_are_hollow() -> None:
    (section,) = sections_of(records()[:-3])  # without the classical row and the last fold of full
    container = {c.get_label(): c for c in plot.draw(section).axes[0].containers}
    for _, row in section.rows.iterrows():
        if row["n_ok"]:
            face = container[row["cell"]].lines[0].get_markerfacecolor()
            assert (str(face) == "white") == (not row["complete"])


def test_random_weights_are_in_the_title() -> None:
    (section,) = sections_of(records(weights="random"))
    assert plot.draw(section).get_suptitle().endswith("· RANDOM WEIGHTS")
    (section,) = sections_of(records())
    assert "RANDOM" not in plot.draw(section).get_suptitle()


@pytest.mark.parametrize(("x", "label"), [("latency", "latency, ms"), ("memory", "peak memory, GiB")])
def test_other_costs(x: str, label: str) -> None:
    (section,) = sections_of(records())
    panel = plot.draw(section, x=x).axes[0]
    assert panel.get_xlabel().startswith(label)
    row = section.rows.set_index("strategy").loc["full"]
    expected = {"latency": row["latency_ms"], "memory": row["peak_bytes"] / 2**30}[x]
    assert points(panel)[row["cell"]][0] == pytest.approx(expected)


def test_records_without_the_parts_are_drawn_over_all_trainable_parameters() -> None:
    older = [without_parts(one) for one in records()]
    (section,) = sections_of(older)
    figure = plot.draw(section)
    assert figure.axes[0].get_xlabel() == "trainable parameters in all"
    assert "don't tell the trainable parameters of encoder and decoder apart" in figure.texts[-1].get_text()
    assert plot.draw(sections_of(records())[0], x="total").axes[0].get_xlabel() == "trainable parameters in all"


def test_rows_that_cannot_be_drawn_are_named() -> None:
    lost = [record(run(strategy="lora_all_linear", n_splits=2), status="failed", reason="x", official=False)]
    (section,) = sections_of(records() + lost)
    texts = "\n".join(text.get_text() for text in plot.draw(section).texts)
    assert "Not drawn, without scores or parameters: mobile_sam lora_all_linear." in texts
    assert "on other images: for orientation only" in texts


def test_points_that_look_alike_get_their_settings_written() -> None:
    twins = [
        record(run(fold=fold, n_splits=2, options={"rank": rank}), official=False) for rank in (4, 8) for fold in (1, 2)
    ]
    (section,) = sections_of(twins)
    texts = [text.get_text() for text in plot.draw(section).axes[0].texts]
    assert {"strategy.rank=4", "strategy.rank=8"} <= set(texts)


def test_an_unknown_cost_and_no_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown cost 'time'; known: parameters, total, latency, memory"):
        plot.pareto(sections_of(records()), tmp_path / "a", x="time")
    lost = [record(run(n_splits=1), status="failed", reason="x")]
    with pytest.raises(BenchError, match="no record has both scores and parameters"):
        plot.pareto(sections_of(lost), tmp_path / "a")


def test_labels_are_spread_evenly_and_stay_below_the_top() -> None:
    assert plot.spread([10.0, 20.0], gap=2, top=100) == [10, 20]
    assert plot.spread([10.0, 10.0], gap=2, top=100) == [9, 11]
    assert plot.spread([10.0, 10.0], gap=2, top=10) == [8, 10]


def test_axis_ticks_are_round_numbers() -> None:
    axis = cost_axis(pd.Series([4e6, 10e6]))
    assert axis.zero is None
    assert axis.labels == ("4 M", "6 M", "8 M", "10 M")
    wide = cost_axis(pd.Series([0, 4_058_340, 641_090_588]))
    assert wide.labels == ("0", "3 M", "10 M", "30 M", "100 M", "300 M")
    assert wide.place(pd.Series([0, 5.0])).tolist() == [wide.zero, 5.0]
