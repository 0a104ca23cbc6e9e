"""Ablations: a line per method over a swept setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import TRAIN, record, run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report import ablation, draw_plots
from bench.report.appearance import backbone_marker, strategy_colour, strategy_line
from bench.report.figure_rows import RANDOM_NOTE
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.results.record import RunRecord, write

RANKS = (1, 4, 16)


def one(backbone: str, strategy: str, pq: float, fold: int = 1, **changes: object) -> RunRecord:
    return record(run(backbone, strategy, fold, n_splits=2, **changes), pq=pq, official=False)


def sweep(ranks: tuple[int, ...] = RANKS, **changes: object) -> list[RunRecord]:
    """Return both LoRA strategies on one backbone, a row without ranks, and the classical one."""
    records = [
        one("mobile_sam", strategy, start + rank / 100, fold, options={"rank": rank}, **changes)
        for strategy, start in (("lora_qv", 0.4), ("lora_all_linear", 0.5))
        for rank in ranks
        for fold in (1, 2)
    ]
    records += [one("mobile_sam", "full", 0.6, fold) for fold in (1, 2)]
    return records + [one(CLASSICAL, CLASSICAL, 0.45, fold) for fold in (1, 2)]


def rows_of(records: list[RunRecord]) -> pd.DataFrame:
    return leaderboard_frame(pooled(record_frame(records)))


def lines(panel: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the positions of each line by backbone and strategy."""
    return {
        str(line.get_label()): (list(line.get_xdata()), [round(y, 6) for y in line.get_ydata()])
        for line in panel.lines
        if " " in str(line.get_label())
    }


def notes(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_random_weights_are_in_title_and_notes_in_the_words_of_all_figures() -> None:
    figure = ablation.draw(rows_of(sweep(weights="random")), x="strategy.rank")
    assert figure.get_suptitle() == "RANDOM WEIGHTS"
    assert RANDOM_NOTE in notes(figure)


def test_a_line_joins_the_values_of_a_method() -> None:
    figure = ablation.draw(rows_of(sweep()), x="strategy.rank")
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["PQ, %", "AJI, %", "Dice, %"]
    assert lines(figure.axes[0]) == {
        "mobile_sam lora_qv": ([1, 4, 16], [41, 44, 56]),
        "mobile_sam lora_all_linear": ([1, 4, 16], [51, 54, 66]),
    }
    (dashed,) = {line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label() == CLASSICAL}
    assert dashed == 45
    assert "Along a line, all settings but strategy.rank are equal." in notes(figure)
    assert "Not drawn, because they have one value of strategy.rank or none: 1 rows." in notes(figure)
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == [
        *("lora_all_linear", "lora_qv", "mobile_sam", "classical pipeline")
    ]


def test_lines_have_the_colour_and_marker_of_every_figure() -> None:
    panel = ablation.draw(rows_of(sweep()), x="strategy.rank").axes[0]
    (line,) = [line for line in panel.lines if line.get_label() == "mobile_sam lora_qv"]
    assert line.get_color() == strategy_colour("lora_qv")
    assert line.get_linestyle() == ":" or strategy_line("lora_qv") != "solid"
    assert {line.get_marker() for line in panel.lines} == {backbone_marker("mobile_sam"), "None"}


def test_bands_are_the_confidence_intervals_within_0_and_100() -> None:
    rows = rows_of(sweep())
    names = {f"{score}_{end}": value for score in ("pq", "aji", "dice") for end, value in (("low", -1), ("high", 0.9))}
    figure = ablation.draw(rows.assign(**names), x="strategy.rank")
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (0, pytest.approx(90))
    assert "bands: 95 % confidence intervals" in notes(figure)
    assert "no confidence intervals" in notes(ablation.draw(rows, x="strategy.rank"))


def test_the_axis_is_logarithmic_beyond_a_decade_with_the_values_as_ticks() -> None:
    panel = ablation.draw(rows_of(sweep()), x="strategy.rank").axes[0]
    assert panel.get_xscale() == "log"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["1", "4", "16"]
    panel = ablation.draw(rows_of(sweep((2, 4, 8))), x="strategy.rank").axes[0]
    assert panel.get_xscale() == "linear"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["2", "4", "8"]


def test_a_swept_zero_stands_left_of_a_break() -> None:
    records = [
        one("mobile_sam", "full", 0.5, fold, train={**TRAIN, "weight_decay": value})
        for value in (0.0, 0.001, 0.1)
        for fold in (1, 2)
    ]
    panel = ablation.draw(rows_of(records), x="train.weight_decay").axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["0", "0.001", "0.1"]
    assert "//" in [text.get_text() for text in panel.texts]


def test_other_settings_than_numbers_are_categories() -> None:
    records = [
        one("mobile_sam", "full", 0.4 + place / 10, fold, head=head)
        for place, head in enumerate(("watershed", "distance", "<b>$a$"))
        for fold in (1, 2)
    ]
    panel = ablation.draw(rows_of(records), x="head").axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["<b>$a$", "distance", "watershed"]
    assert lines(panel)["mobile_sam full"] == ([0, 1, 2], [60, 50, 40])


def test_lines_of_one_method_that_differ_in_another_setting_are_named() -> None:
    records = sweep() + sweep(train={**TRAIN, "lr": 0.1})
    panel = ablation.draw(rows_of(records), x="strategy.rank").axes[0]
    assert len([line for line in panel.lines if line.get_label() == "mobile_sam lora_qv"]) == 2
    assert {"lr=0.1", "lr=0.005"} <= {text.get_text() for text in panel.texts}


def test_seeds_are_pooled_and_missing_folds_are_hollow() -> None:
    records = sweep() + sweep(seed=1)
    rows = rows_of(records[:-5] + records[-4:])  # one fold of the largest rank of lora_all_linear is missing
    figure = ablation.draw(rows, x="strategy.rank")
    assert "Means over folds and seeds" in notes(figure)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [line.get_markeredgecolor() for line in hollow] == [strategy_colour("lora_all_linear")]
    assert [list(line.get_xdata()) for line in hollow] == [[16]]
    (joined,) = [line for line in figure.axes[0].lines if line.get_label() == "mobile_sam lora_all_linear"]
    assert np.isnan(joined.get_ydata()).tolist() == [False, False, True]


@pytest.mark.parametrize(("pq", "drawn"), [(0.6, True), (0.95, False)])
def test_a_classical_score_far_from_the_methods_is_in_the_caption(pq: float, drawn: bool) -> None:
    records = [*sweep()[:-2], *(one(CLASSICAL, CLASSICAL, pq, fold) for fold in (1, 2))]
    figure = ablation.draw(rows_of(records), x="strategy.rank", columns=1)
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert ("classical" in {line.get_label() for line in figure.axes[0].lines}) == drawn
    assert ("classical pipeline" in texts) == drawn
    assert (f"Classical pipeline, outside the panel: PQ {100 * pq:.1f} %." in notes(figure)) != drawn


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("rank", "unknown cost or setting 'rank'. Did you mean 'strategy.rank'"),
        ("strategy.rnk", "unknown cost or setting 'strategy.rnk'. Did you mean 'strategy.rank'"),
        ("train.lr", r"train.lr has one value \(0.005\) in all rows. Settings with several values: strategy.rank."),
        ("seed", "seed is no axis: scores are means over folds and seeds."),
    ],
)
def test_a_setting_that_does_not_vary_is_refused_with_those_that_do(x: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        ablation.draw(rows_of(sweep()), x=x)


def test_values_that_only_vary_with_other_settings_are_refused() -> None:
    records = [one("mobile_sam", "lora_qv", 0.5, options={"rank": rank}, image_size=64 * rank) for rank in (1, 2)]
    with pytest.raises(BenchError, match="but no method has two of them with all other settings equal"):
        ablation.draw(rows_of(records), x="strategy.rank")
    with pytest.raises(BenchError, match="No setting has several values; plan a sweep"):
        ablation.draw(rows_of(records[:1]), x="strategy.rank")


def test_files_are_named_after_the_setting_and_the_same_twice(tmp_path: Path) -> None:
    for each in sweep():
        write(tmp_path, each)
    paths = draw_plots(tmp_path, x="strategy.rank")
    stem = "accuracy_by_strategy.rank_images_0123456789ab_2-folds-19"
    assert [path.name for path in paths] == [f"{stem}.png", f"{stem}.svg", f"{stem}.pdf"]
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in draw_plots(tmp_path, x="strategy.rank")]
    with pytest.raises(BenchError, match=r"published scores have no strategy.rank; leave --published out"):
        draw_plots(tmp_path, x="strategy.rank", published=True)


def test_scores_that_are_nan_are_left_out_of_their_panel() -> None:
    rows = rows_of(sweep())
    rows.loc[rows["strategy.rank"] == 4, "pq_mean"] = np.nan
    panels = ablation.draw(rows, x="strategy.rank").axes
    assert lines(panels[0])["mobile_sam lora_qv"][0] == [1, 16]
    assert lines(panels[1])["mobile_sam lora_qv"][0] == [1, 4, 16]
