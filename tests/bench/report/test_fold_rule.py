"""A part of a release on its official folds: four folds that hold images make a complete row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from compared import page
from fabricated import record, run

from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.fold_rule import folds_text
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.reading import read_records
from bench.report.section import Section, sections
from bench.results.record import RunRecord, write

STRATEGIES = ("adapter", "full", "lora_qv")
FACTS = {"folds": [1, 2, 3, 4], "folds_rule": "official"}


def scored(strategy: str, fold: int, pq: float) -> RunRecord:
    one = record(run(strategy=strategy, fold=fold), pq=pq, aji=pq + 0.1, dice=pq + 0.2, official=False)
    data = {**(one.provenance or {})["dataset"], "n_images": 23, "root": "/data/spleen"}
    return replace(one, provenance={**(one.provenance or {}), **FACTS, "dataset": data})


def empty(strategy: str, fold: int = 5) -> RunRecord:
    settings = run(strategy=strategy, fold=fold)
    return replace(record(settings, status="skipped", reason="no image of the official fold 5"), provenance=None)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows on folds 1 to 4 with image scores; their runs of fold 5 are skipped."""
    results = tmp_path_factory.mktemp("part")
    for place, strategy in enumerate(STRATEGIES):
        write(results, empty(strategy))
        for fold in range(1, 5):
            pq = 0.5 - 0.1 * place + 0.01 * fold
            one = scored(strategy, fold, pq)
            write(results, one)
            scores = {"pq": pq, "aji": pq + 0.1, "dice": pq + 0.2, "n_true": 10.0}
            rows = [{"organ": "spleen", "stem": f"{fold}_{i}", **scores} for i in range(3)]
            pd.DataFrame(rows).to_parquet(results / "runs" / one.id / "scores.parquet")
    return results


def section_of(records: list[RunRecord]) -> Section:
    (section,) = sections(leaderboard_frame(record_frame(records)), baseline_frame())
    return section


def test_rows_with_all_folds_that_hold_images_are_complete_and_ranked(part: Path) -> None:
    (section,) = sections(leaderboard_frame(read_records(part)), baseline_frame())
    assert section.rows[["n_ok", "n_expected", "n_skipped"]].values.tolist() == [[4, 4, 0]] * 3
    assert section.rows["complete"].all() and section.rows["rank"].tolist() == [1, 2, 3]
    assert section.rows["reasons"].tolist() == [()] * 3
    assert section.title == (
        "spleen: 23 images, digest 0123456789ab, official folds of NuInsSeg, 23 of 665 images, in folds 1, 2, 3 and 4 "
        "of 5"
    )
    assert "folds 4/4, " in leaderboard.blocks([section])[0].caption


def test_a_fold_that_holds_images_and_has_no_run_makes_a_row_incomplete() -> None:
    records = [scored("full", fold, 0.5) for fold in (1, 2, 4)] + [empty("full"), empty("adapter")]
    section = section_of(records)
    assert section.rows["strategy"].tolist() == ["full"]  # the adapter has nothing but a fold without images
    (row,) = section.rows.to_dict("records")
    assert (row["n_ok"], row["n_expected"], row["complete"], row["reasons"]) == (3, 4, False, ("fold 3: no record",))


def test_folds_are_all_expected_where_no_record_knows_which_hold_images() -> None:
    records = [replace(scored("full", fold, 0.5), provenance=None) for fold in range(1, 5)] + [empty("full")]
    section = section_of(records)
    assert section.folds == (1, 2, 3, 4, 5) and not section.rows["complete"].any()
    assert "folds (seed 19)" in section.title and "official" not in section.title


def test_comparisons_expect_no_fold_without_images(part: Path) -> None:
    assert "Left out" not in page(part) and "1 mobile_sam/adapter 1.00" in page(part)
    pair = page(part, "mobile_sam/adapter", "mobile_sam/full")
    assert "Compared on fold" not in pair and "12 images" in pair


@pytest.mark.parametrize(
    ("rule", "folds", "n_images", "text"),
    [
        ("official", (1, 2, 3, 4, 5), 665, "5 official folds"),
        ("official", (1, 2, 3, 4, 5), 300, "official folds of NuInsSeg, 300 of 665 images"),
        ("official", (2,), 3, "official folds of NuInsSeg, 3 of 665 images, in fold 2 of 5"),
        ("seeded", (1, 2, 3, 4, 5), 300, "5 seeded folds (seed 19)"),
        (None, (1, 2, 3, 4, 5), None, "5 folds (seed 19)"),
    ],
)
def test_the_rule_in_words(rule: str | None, folds: tuple[int, ...], n_images: int | None, text: str) -> None:
    words = folds_text(rule, folds, n_splits=5, fold_seed=19, dataset="nuinsseg", title="NuInsSeg", n_images=n_images)
    assert words == text
