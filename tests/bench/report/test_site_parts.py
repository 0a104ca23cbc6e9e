"""Parts of the report page: swept settings of the audit, costs and line of the classical pipeline, marks, names."""

from __future__ import annotations

from typing import Any

import pandas as pd
from fabricated import record, run

from bench.grid import CLASSICAL
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.report.section import Section, sections
from bench.report.site import heatmaps, runs
from bench.report.site.charts import chart_text, trade_off
from bench.report.site.costs import cost_block
from bench.report.site.headline import headline
from bench.results.record import RunRecord


def swept(ranks: tuple[int, ...] = (4, 8)) -> list[RunRecord]:
    rows = [
        record(run("mobile_sam", "lora_qv", fold, n_splits=2, options={"rank": rank}), pq=0.4, official=False)
        for rank in ranks
        for fold in (1, 2)
    ]
    return rows + [record(run(CLASSICAL, CLASSICAL, fold, n_splits=2), pq=0.6, official=False) for fold in (1, 2)]


def section_of(records: list[RunRecord]) -> Section:
    (section,) = sections(leaderboard_frame(pooled(record_frame(records))), baseline_frame())
    return section


def traces(section: Section, view: str) -> dict[str, dict[str, Any]]:
    chart = trade_off(section, "trade-off")
    assert chart is not None
    return {trace["name"]: trace for trace in chart.views[view]["data"]}


def test_the_audit_has_a_column_for_each_swept_setting() -> None:
    block = runs.audit_table(swept(), {})
    assert "strategy.rank" in str(block)
    assert "train.epochs" not in str(block)
    assert "strategy.rank" not in str(runs.audit_table(swept((4,)), {}))


def test_the_classical_row_trains_as_many_parameters_as_in_the_leaderboard() -> None:
    section = section_of(swept())
    columns = {column.title: column.cells for column in cost_block(section).columns}
    place = next(place for place, name in enumerate(columns["row"]) if name.startswith("classical"))
    row = section.rows[section.rows["backbone"] == CLASSICAL].iloc[0]
    assert columns["trainable total"][place] == ("–" if pd.isna(row["parameters_trainable"]) else "0")


def test_one_row_lacks_folds_and_two_lack_them() -> None:
    assert "1 of 3 rows lacks folds and is not ranked." in headline(section_of(swept()[1:]), "s1").cautions
    records = swept()
    assert (
        "2 of 3 rows lack folds and are not ranked." in headline(section_of(records[1:3] + records[4:]), "s1").cautions
    )


def test_the_chart_has_the_classical_line_and_no_front_without_rows_on_it() -> None:
    view = "PQ against latency, ms"
    section = section_of(swept())
    assert set(traces(section, view)["classical pipeline"]["y"]) == {60.0}
    assert "Pareto front" in traces(section, view)
    busy = section.rows.assign(latency_busy=True)
    section.rows.loc[:, "latency_busy"] = busy["latency_busy"]
    assert "Pareto front" not in traces(section, view)


def test_rows_of_busy_machines_keep_their_colour_and_have_another_sign_than_missing_folds() -> None:
    section = section_of(swept()[1:])  # one row lacks a fold
    complete = section.rows["complete"] & (section.rows["backbone"] != CLASSICAL)
    section.rows["latency_busy"] = complete
    marker = traces(section, "PQ against latency, ms")["lora_qv"]["marker"]
    assert sorted(name.partition("-")[2] for name in marker["symbol"]) == ["open", "open-dot"]
    assert isinstance(marker["color"], str)
    assert min(marker["line"]["width"]) >= 2


def test_names_of_rows_differ_on_a_map() -> None:
    section = section_of(swept())
    images = pd.DataFrame([{"cell": cell, "organ": "liver", "pq": 0.5} for cell in section.rows["cell"]])
    chart = heatmaps.organs(section, images, "organs")
    assert chart is not None
    names = chart.views["PQ"]["layout"]["yaxis"]["ticktext"]
    assert {"mobile_sam lora_qv strategy.rank=4", "mobile_sam lora_qv strategy.rank=8"} <= set(names)


def test_a_long_name_keeps_its_end() -> None:
    assert chart_text("a" * 80 + " rank=4", 20) == "aaaaaaaaa…aaa rank=4"
