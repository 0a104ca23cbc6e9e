"""Intervals and ranks of rows, from scores of images that are chosen by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fabricated import record, run
from rich.console import Console

from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, pooled, record_frame
from bench.report.image_scores import ImageScores, interval_scores
from bench.report.intervals import Resampled
from bench.report.section import Section, sections
from bench.report.table import terminal
from bench.results.record import folder

EASY = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def study(results: Path, rows: dict[str, np.ndarray], *, organs: int = 6, **changes: object) -> list[Section]:
    """Return sections of strategies with these PQ of the images of each of two folds."""
    records = []
    for strategy, pq in rows.items():
        for fold in (1, 2):
            one = record(run(strategy=strategy, fold=fold, n_splits=2, **changes), pq=float(pq.mean()), official=False)
            names = [f"organ {place % organs}" for place in range(len(pq))]
            stems = [f"{fold}_{place}" for place in range(len(pq))]
            path = folder(results, one.id) / "scores.parquet"
            path.parent.mkdir(parents=True)
            pd.DataFrame({"stem": stems, "organ": names, "pq": pq, "aji": pq, "dice": pq}).to_parquet(path)
            records.append(one)
    frame = pooled(record_frame(records))
    return sections(leaderboard_frame(frame), baseline_frame(), interval_scores(results, frame))


def test_rows_that_cannot_be_told_apart_share_a_rank(tmp_path: Path) -> None:
    flipped = EASY + np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1]) - 0.001
    (section,) = study(tmp_path, {"lora_qv": EASY, "adapter": flipped, "full": EASY - 0.15})
    assert section.rows["strategy"].tolist() == ["lora_qv", "adapter", "full"]
    assert section.rows[["rank", "rank_low", "rank_high"]].values.tolist() == [[1, 1, 2], [2, 1, 2], [3, 3, 3]]
    assert section.uncertainty[-1] == "No decisive order among the first two."
    block = leaderboard.blocks([section])[0]
    assert block.columns[0].cells == ["1–2", "1–2", "3"]
    narrow = io.StringIO()
    Console(file=narrow, width=40).print(terminal([block], width=40))
    starts = [line.split()[0] for line in narrow.getvalue().splitlines() if "mobile_sam" in line]
    assert starts == ["1–2", "1–2", "3"]  # 1 would be the rank of a decisive first
    assert not any(column.bold for column in block.columns)


def test_a_difference_that_every_image_shows_is_decisive_though_the_intervals_overlap(tmp_path: Path) -> None:
    (section,) = study(tmp_path, {"lora_qv": EASY, "adapter": EASY - 0.01})
    best, second = (row for _, row in section.rows.iterrows())
    assert best["pq_low"] < second["pq_high"]
    assert section.rows[["rank_low", "rank_high"]].values.tolist() == [[1, 1], [2, 2]]
    assert section.uncertainty[-1] == "The first is decisively better on PQ than every other row."
    bold = {column.title: column.bold for column in leaderboard.blocks([section])[0].columns}
    assert bold["PQ"] == frozenset({0})
    assert bold["AJI"] == frozenset({0})


def test_equal_scores_share_the_rank(tmp_path: Path) -> None:
    (section,) = study(tmp_path, {"lora_qv": EASY, "adapter": EASY.copy(), "full": EASY.copy()})
    assert section.rows[["rank_low", "rank_high"]].values.tolist() == [[1, 3]] * 3


def test_the_interval_is_that_of_a_bootstrap_of_whole_organs(tmp_path: Path) -> None:
    (section,) = study(tmp_path, {"lora_qv": EASY})
    draws = np.random.default_rng(0).choice(EASY, (20_000, 6)).mean(axis=1)  # one organ, one value here
    expected = np.percentile(draws, [2.5, 97.5])
    assert section.rows.loc[0, ["pq_low", "pq_high"]].tolist() == pytest.approx(expected.tolist(), abs=0.01)
    assert "of the 6 organs, each with all its images" in section.uncertainty[0]


def test_images_are_drawn_one_by_one_where_organs_are_few(tmp_path: Path) -> None:
    (section,) = study(tmp_path, {"lora_qv": EASY}, organs=2)
    assert "of the images one by one, as there are few organs" in section.uncertainty[0]
    low, high = section.rows.loc[0, ["pq_low", "pq_high"]]
    assert 0.3 < low < 0.45 < high < 0.6


def test_the_same_scores_give_the_same_intervals_in_any_order(tmp_path: Path) -> None:
    (one,) = study(tmp_path / "a", {"lora_qv": EASY, "adapter": EASY[::-1]})
    (two,) = study(tmp_path / "b", {"adapter": EASY[::-1], "lora_qv": EASY})
    names = ["strategy", "pq_low", "pq_high", "dice_low", "dice_high", "rank_low", "rank_high"]
    assert one.rows[names].values.tolist() == two.rows[names].values.tolist()


def test_a_row_without_its_file_is_compared_by_its_mean_and_named(tmp_path: Path) -> None:
    rows = {"lora_qv": EASY, "adapter": EASY - 0.1}
    study(tmp_path, rows)
    lost = folder(tmp_path, record(run(strategy="adapter", fold=2, n_splits=2)).id) / "scores.parquet"
    lost.unlink()
    records = [
        record(run(strategy=s, fold=f, n_splits=2), pq=0.5 - (s == "adapter") / 10) for s in rows for f in (1, 2)
    ]
    frame = record_frame(records)
    (section,) = sections(leaderboard_frame(frame), baseline_frame(), interval_scores(tmp_path, frame))
    assert section.rows["pq_low"].notna().tolist() == [True, False]
    assert section.rows["rank_low"].tolist() == [1, 2]
    assert section.uncertainty[1] == (
        f"Without intervals, and compared by their means alone: 1 rows ({lost} is missing)."
    )
    assert section.decided["pq"] is False


def test_damaged_files_leave_no_intervals_and_say_so(tmp_path: Path) -> None:
    one = record(run(n_splits=1), official=False)
    path = folder(tmp_path, one.id) / "scores.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 torn")
    frame = record_frame([one])
    (section,) = sections(leaderboard_frame(frame), baseline_frame(), interval_scores(tmp_path, frame))
    assert section.uncertainty[0].startswith(f"No confidence intervals: {path} can't be read (")
    assert section.rows["pq_low"].isna().all()


def test_one_image_has_no_interval() -> None:
    images = pd.DataFrame(
        {
            "cell": ["a"],
            "organ": ["liver"],
            "stem": ["x"],
            "fold": [1],
            "weight": [1.0],
            "pq": 0.5,
            "aji": 0.5,
            "dice": 0.5,
        }
    )
    assert Resampled.of(images, ["a"]) is None


def test_more_runs_than_can_be_read_quickly_have_no_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.image_scores.MOST_RUNS", 1)
    scores: ImageScores = interval_scores(tmp_path, record_frame([record(run(fold=f)) for f in (1, 2)]))
    assert scores.left_out == "No confidence intervals: more than 1 runs. Narrow with --only."


def test_seeds_of_one_setting_are_pooled() -> None:
    values = {(0, 1): 0.4, (0, 2): 0.5, (1, 1): 0.6, (1, 2): 0.7}
    records = [record(run(fold=f, n_splits=2, seed=s), pq=pq, official=False) for (s, f), pq in values.items()]
    frame = record_frame(records)
    board = leaderboard_frame(pooled(frame))
    assert len(board) == 1 and len(leaderboard_frame(frame)) == 2
    row = board.iloc[0]
    assert (row["seeds"], row["n_seeds"], row["n_ok"], row["n_expected"], row["complete"]) == ("0 1", 2, 4, 4, True)
    assert row["pq_mean"] == pytest.approx(0.55)
    assert row["pq_sd"] == pytest.approx(np.std(list(values.values()), ddof=1))
    block = leaderboard.blocks(sections(board, baseline_frame()))[0]
    assert block.caption == (
        "The same in all rows: weights official, images at 1024 px, epochs 60, folds 2/2 of each seed, seeds 0, 1."
    )
    assert block.notes[0] == "Mean ± sd over folds × seeds, in percent; ranked by PQ."
    missing = leaderboard_frame(pooled(record_frame(records[:3]))).iloc[0]
    assert missing["reasons"] == ("seed 1, fold 2: no record",) and not missing["complete"]


def test_a_row_with_one_seed_keeps_its_id() -> None:
    frame = record_frame([record(run(fold=f, n_splits=2)) for f in (1, 2)])
    assert pooled(frame)["cell"].tolist() == frame["cell"].tolist()


def test_a_swept_number_is_a_column_of_numbers() -> None:
    records = [record(run(n_splits=1, options={"rank": rank}), official=False) for rank in (4, 16)]
    block = leaderboard.blocks(sections(leaderboard_frame(record_frame(records)), baseline_frame()))[0]
    assert next(column for column in block.columns if column.title == "strategy.rank").right


def test_images_of_the_user_are_called_by_their_folder() -> None:
    (section,) = sections(leaderboard_frame(record_frame([record(run(n_splits=1), official=False)])), baseline_frame())
    assert (section.name, section.file_stem) == ("images", "images_0123456789ab_1-folds-19")
    assert "images: images of the user, in the layout of NuInsSeg." in leaderboard.blocks([section])[0].notes
    table = pd.read_csv(io.StringIO(leaderboard.csv([section])))
    assert table["images"].dropna().tolist() == ["images"]
