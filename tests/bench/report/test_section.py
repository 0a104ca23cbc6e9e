"""What may be compared, in which order, and which settings a reader must see."""

from __future__ import annotations

from typing import Any

import pytest
from fabricated import record, run

from bench.grid import CLASSICAL
from bench.report.frame import baseline_frame, leaderboard_frame, record_frame
from bench.report.section import Section, row_name, sections
from bench.results.record import RunRecord


def cell(pq: float, *, official: bool = True, n_splits: int = 5, **asked: Any) -> list[RunRecord]:
    """All folds of one row."""
    folds = range(1, n_splits + 1)
    return [record(run(fold=fold, n_splits=n_splits, **asked), pq=pq, official=official) for fold in folds]


def classical(pq: float, **asked: Any) -> list[RunRecord]:
    return cell(pq, backbone=CLASSICAL, strategy=CLASSICAL, **asked)


def found(*records: list[RunRecord]) -> list[Section]:
    flat = [one for group in records for one in group]
    return sections(leaderboard_frame(record_frame(flat)), baseline_frame())


def test_rows_of_other_images_or_folds_make_another_section() -> None:
    split = found(
        cell(0.5), cell(0.6, dataset_digest="ffff", official=False), cell(0.4, n_splits=2), cell(0.4, fold_seed=1)
    )
    assert len(split) == 4
    assert [section.official for section in split] == [True, False, False, False]


def test_runs_share_ranks_with_published_rows_on_the_official_folds_only() -> None:
    (official,) = found(cell(0.55), cell(0.40, strategy="adapter"))
    # CellViT .5644 | ours .55 | HoVer-NeXt .5417, HoVer-Net .534, dual decoder .513, two-stage .472,
    # shallow .427, deep .404 | ours .40 | residual .369, attention .364
    assert official.rows["rank"].tolist() == [2, 9]
    assert official.published.set_index("model")["rank"].dropna().to_dict() == {
        "CellViT-256": 1,
        "HoVer-NeXt": 3,
        "HoVer-Net": 4,
        "Dual decoder U-Net": 5,
        "Two-stage U-Net": 6,
        "Shallow U-Net": 7,
        "Deep U-Net": 8,
        "Residual attention U-Net": 10,
        "Attention U-Net": 11,
    }
    (other,) = found(cell(0.55, official=False), cell(0.40, strategy="adapter", official=False))
    assert other.rows["rank"].tolist() == [1, 2]
    assert other.published["rank"].isna().all()


def test_incomplete_rows_come_last_and_have_no_rank() -> None:
    (section,) = found(cell(0.9)[:4], cell(0.3, strategy="adapter"), cell(0.4, strategy="full"))
    assert section.rows["strategy"].tolist() == ["full", "adapter", "lora_qv"]
    assert section.rows["complete"].tolist() == [True, True, False]
    assert section.rows["rank"].isna().tolist() == [False, False, True]


def test_the_classical_row_is_a_reference_without_rank() -> None:
    (section,) = found(cell(0.5, official=False), classical(0.45, official=False))
    assert section.rows["backbone"].tolist() == ["mobile_sam", CLASSICAL]
    assert section.rows["rank"].isna().tolist() == [False, True]
    assert section.classical_pq == pytest.approx(0.45)


def test_trained_rows_below_the_classical_one_are_found() -> None:
    (section,) = found(
        classical(0.45),
        cell(0.44),
        cell(0.46, strategy="full"),
        cell(0.2, strategy="zero_shot"),
        cell(0.1, strategy="adapter")[:3],
    )
    assert section.below_classical["strategy"].tolist() == ["lora_qv"]  # not what is untrained or incomplete
    (without,) = found(cell(0.1))
    assert without.below_classical.empty
    assert without.classical_pq is None


def test_equal_settings_are_not_shown() -> None:
    (section,) = found(cell(0.5), cell(0.4, strategy="adapter"), cell(0.2, strategy="zero_shot"), classical(0.4))
    assert section.settings == ()  # nor the head that zero_shot brings, nor the rank that only LoRA has


def test_settings_that_differ_are_shown() -> None:
    (ranks,) = found(cell(0.5), cell(0.6, options={"rank": 8}))
    assert ranks.settings == ("strategy.rank",)
    assert row_name(ranks.rows.iloc[0], ranks.settings) == "mobile_sam lora_qv strategy.rank=8"
    (sizes,) = found(cell(0.5), cell(0.4, strategy="adapter", image_size=256))
    assert sizes.settings == ("image_size",)
    (scales,) = found(cell(0.5), cell(0.4, scale=2.0))
    assert scales.settings == ("scale",)
    assert [row_name(row, scales.settings) for _, row in scales.rows.iterrows()] == [
        "mobile_sam lora_qv scale=fit",
        "mobile_sam lora_qv scale=2",
    ]


def test_learning_rates_differ_by_design_between_strategies() -> None:
    (between,) = found(cell(0.5, train={"lr": 5e-3}), cell(0.4, strategy="full", train={"lr": 1e-4}))
    assert between.settings == ()
    (within,) = found(cell(0.5, train={"lr": 5e-3}), cell(0.4, train={"lr": 1e-4}))
    assert within.settings == ("train.lr",)


def test_the_title_tells_what_was_segmented() -> None:
    (official,) = found(cell(0.5))
    assert official.title == ("nuinsseg: 665 images, official release, digest 0123456789ab, 5 folds (seed 19)")
    (other,) = found(cell(0.5, official=False, n_splits=2))
    assert other.title == "images (layout of nuinsseg): 19 images, digest 0123456789ab, 2 folds (seed 19)"
