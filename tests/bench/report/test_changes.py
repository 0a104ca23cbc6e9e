"""`bench ablation`: rows that differ from a base row in one setting, their paired differences, and the verdict."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from compared import FOLDS, Scores, add, shifted
from fabricated import TRAIN
from rich.console import Console

from bench.errors import BenchError
from bench.report.changes_page import show_ablation

FALLING = (-0.10, -0.12, -0.09, -0.11, -0.08, -0.10)
RISING = tuple(-value for value in FALLING)
UNSURE = (0.01, -0.02, 0.02, -0.01, 0.015, -0.015)


def train(**changes: object) -> dict[str, object]:
    """Settings of a base row as a current version records them, with changes."""
    return {**TRAIN, "ema": 0.0, "refit": False, **changes}


def rows(results: Path, folds: tuple[Scores, ...] = FOLDS, seed: int = 0, **changes: object) -> None:
    add(results, "mobile_sam", "adapter", folds, train=train(**changes), seed=seed)


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    rows(tmp_path)
    rows(tmp_path, shifted(*RISING), ema=0.99)
    rows(tmp_path, shifted(*FALLING), refit=True)
    rows(tmp_path, shifted(*UNSURE), lr=0.001)
    return tmp_path


def csv(results: Path, *base: str) -> pd.DataFrame:
    path = show_ablation(results, base, output=results / "out.csv", console=Console(file=io.StringIO()))
    assert path is not None
    return pd.read_csv(path)


def page(results: Path, *base: str) -> str:
    path = show_ablation(results, base, output=results / "out.md", console=Console(file=io.StringIO()))
    assert path is not None
    return path.read_text(encoding="utf-8")


def test_every_single_change_has_its_paired_difference_and_a_verdict_by_the_rule(trials: Path):
    table = csv(trials).set_index("setting")
    assert table.index.tolist() == ["train.ema", "train.lr", "train.refit"]  # the largest difference in PQ first
    assert table["verdict"].tolist() == ["better", "not shown", "worse"]
    ema = table.loc["train.ema"]
    assert (ema["before"], ema["after"]) == ("0", "0.99")
    assert ema["pq_difference"] == pytest.approx(0.6 / 6) and ema["aji_difference"] == pytest.approx(0.6 / 6)
    assert 0.08 <= ema["pq_low"] < ema["pq_difference"] < ema["pq_high"] <= 0.12
    assert (ema["seeds"], ema["folds"], ema["images"]) == (1, 2, 6)
    assert table.loc["train.lr", "pq_low"] < 0 < table.loc["train.lr", "pq_high"]


def test_page_tells_what_helped_what_did_not_and_the_settings_of_the_base(trials: Path):
    text = page(trials)
    base, helped, others = (text.index(part) for part in (": base", ": what helped", ": what did not help"))
    assert base < helped < text.index("train.ema |", helped) < others < text.index("train.refit", others)
    assert "+10.00 [" in text[helped:others] and "better: kept" in text[helped:others]
    assert "−10.00 [" in text[others:] and "not shown" in text[others:]
    assert "train.ema=0," in text[base:helped] and "nothing is typed by hand" in text
    assert "With one seed, an interval is about these trained models" in text


def test_seeds_are_averaged_for_each_image(trials: Path):
    rows(trials, seed=1)
    rows(trials, shifted(*(0.2 + value for value in RISING)), ema=0.99, seed=1)
    table = csv(trials).set_index("setting")
    assert table.loc["train.ema", "pq_difference"] == pytest.approx(0.1 + 0.1)
    assert table["seeds"].tolist() == [2, 1, 1]


def test_score_that_falls_while_pq_rises_is_no_improvement(tmp_path: Path):
    rows(tmp_path)
    rows(tmp_path, shifted(*UNSURE), lr=0.001)
    rows(tmp_path, shifted(*RISING), ema=0.99)
    for path in (tmp_path / "runs").glob("*/scores.parquet"):
        scores = pd.read_parquet(path)
        if '"ema": 0.99' in (path.parent / "record.json").read_text():
            scores.assign(dice=scores["dice"] - 0.3).to_parquet(path)
    assert csv(tmp_path).set_index("setting").loc["train.ema", "verdict"] == "mixed"


def test_rows_that_differ_in_several_settings_are_named_and_left_out(trials: Path):
    rows(trials, ema=0.99, lr=0.001, refit=True)
    text = page(trials, "train.ema=0.0", "train.lr=0.005", "train.refit=false")
    assert "several settings differ from the base: train.lr=0.001, train.ema=0.99, train.refit=True" in text
    assert len(csv(trials)) == 3


def test_runs_of_an_earlier_version_have_the_neutral_value_of_a_later_setting(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", train=dict(TRAIN))
    rows(tmp_path, shifted(*RISING), ema=0.99)
    table = csv(tmp_path, "train.ema=0.0")
    assert table["setting"].tolist() == ["train.ema"] and table["verdict"].tolist() == ["better"]


def test_base_that_could_be_either_of_two_rows_is_asked_for(tmp_path: Path):
    rows(tmp_path)
    rows(tmp_path, shifted(*RISING), ema=0.99)
    with pytest.raises(BenchError, match=r"2 rows .* \(train\.ema is 0 and 0\.99\); choose with --base train\.ema"):
        csv(tmp_path)
    assert csv(tmp_path, "train.ema=0.99")["verdict"].tolist() == ["worse"]
    with pytest.raises(BenchError, match=r"--base 'train\.emma=1': unknown setting 'train\.emma'"):
        csv(tmp_path, "train.emma=1")


def test_without_a_single_change_the_error_says_how_to_plan_some(tmp_path: Path):
    rows(tmp_path)
    with pytest.raises(BenchError, match=r"no row differs from another in one setting alone.*--grid ablations"):
        csv(tmp_path)
