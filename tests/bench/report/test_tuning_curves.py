"""Figure and table of tuning, in `bench plot --kind tuning` and on the report page."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from compared import add
from fabricated import TRAIN

from bench.errors import BenchError
from bench.report import draw_plots, tuning_curves
from bench.report.figure_rows import run_frames
from bench.report.site import write_report
from bench.results.record import read_all, write

RATES = (1.58e-4, 5e-4, 1.58e-3)


def candidate(rate: float, pq: float | None) -> dict[str, Any]:
    scores = {"pq": pq, "aji": pq and pq + 0.1, "dice": pq and pq + 0.3}
    return {"encoder_lr": rate, **scores, "seconds": 40.0, "status": "ok" if pq else "diverged", "reason": None}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two tuned rows and one that is not."""
    results = tmp_path_factory.mktemp("results")
    tuned = {**TRAIN, "encoder_lr": 5e-4, "tune": 3, "tune_epochs": 10}
    add(results, "mobile_sam", "lora_qv", train=tuned)
    add(results, "mobile_sam", "adapter", train=tuned)
    add(results, "mobile_sam", "decoder_only")
    scores = {"lora_qv": (0.3, 0.4, None), "adapter": (0.2, 0.25, 0.35)}
    for one in list(read_all(results)):
        name = one.run["strategy"]
        if name in scores:
            candidates = [candidate(rate, pq) for rate, pq in zip(RATES, scores[name], strict=True)]
            best = max(candidates, key=lambda own: own["pq"] or 0)
            block = {"id": name, "fold": 1, "epochs": 10, "candidates": candidates, "chosen": best["encoder_lr"]}
            write(results, replace(one, tuning=block))
    return results


def test_frame_has_each_rate_of_each_tuning_once(results):
    (drawable,) = tuning_curves.frames(results)
    frame = drawable.frame
    assert frame["encoder_lr"].tolist() == [*RATES, *RATES]  # two folds each
    assert frame.loc[frame["chosen"], ["strategy", "encoder_lr"]].to_numpy().tolist() == [
        ["adapter", 1.58e-3],
        ["lora_qv", 5e-4],
    ]
    block = tuning_curves.table(frame)
    cells = {column.title: column.cells for column in block.columns}
    assert cells["PQ"] == ["20.0", "25.0", "35.0", "30.0", "40.0", "–"]
    assert cells[""] == ["", "", "chosen", "", "chosen", "diverged"]


def test_figure_has_a_line_for_each_tuning_and_a_ring_around_each_chosen_rate(results):
    (drawable,) = tuning_curves.frames(results)
    axes = tuning_curves.draw(drawable.frame, title=drawable.title).axes[0]
    lines = {str(line.get_label()): line for line in axes.lines if line.get_label() != "_ring"}
    assert list(lines) == ["mobile_sam adapter", "mobile_sam lora_qv"]
    assert lines["mobile_sam lora_qv"].get_xydata().tolist() == [[1.58e-4, 30.0], [5e-4, 40.0]]  # the third diverged
    rings = [line.get_xydata().tolist() for line in axes.lines if line.get_label() == "_ring"]
    assert rings == [[[1.58e-3, 35.0]], [[5e-4, 40.0]]]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("suffix", [".png", pytest.param(".svg", marks=pytest.mark.release)])
def test_a_figure_drawn_twice_is_the_same(results, tmp_path, suffix):
    outputs = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for output in outputs:
        assert draw_plots(results, output=output, columns=1, kind="tuning") == [output]
    first, second = (output.read_bytes() for output in outputs)
    assert first == second


def test_report_page_shows_curve_and_table_of_tuning(results):
    page = write_report(results)
    text = unescape(page.read_text(encoding="utf-8"))
    part = text[text.index('id="s1-tuning"') : text.index('id="s1-costs"')]
    assert re.search(r'src="files/s1-tuning\.(svg|webp)"', part)
    assert part.count("<tr") == 7 and "diverged" in part
    assert (page.parent / "files").glob("s1-tuning.*")


def test_without_tuning_there_is_nothing_to_draw_and_no_part_of_the_page(tmp_path):
    add(tmp_path, "mobile_sam", "adapter")
    assert tuning_curves.of_records(run_frames(tmp_path), read_all(tmp_path)) == []
    with pytest.raises(BenchError, match=r"no tuning to draw; `bench run --tune N` tries encoder rates\."):
        tuning_curves.figures(tmp_path)
    with pytest.raises(BenchError, match="no tuning to draw"):
        tuning_curves.draw(pd.DataFrame({"pq": [None]}))
