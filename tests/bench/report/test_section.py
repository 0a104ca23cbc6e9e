"""Sections: rows that may be compared, their order, and the settings that a reader must see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fabricated import record, run

from bench.grid import CLASSICAL
from bench.report.baselines import baseline_frame
from bench.report.frame import leaderboard_frame, record_frame
from bench.report.section import Section, row_name, sections
from bench.results.record import RunRecord
from registry import datasets
from registry.release import Release


def row(
    pq: float, *, official: bool = True, n_splits: int = 5, verified: str | None = None, **settings: Any
) -> list[RunRecord]:
    """Return records of all folds of one row."""
    runs = [run(fold=fold, n_splits=n_splits, **settings) for fold in range(1, n_splits + 1)]
    return [record(values, pq=pq, official=official, verified=verified) for values in runs]


def classical(pq: float, **settings: Any) -> list[RunRecord]:
    return row(pq, backbone=CLASSICAL, strategy=CLASSICAL, **settings)


def sections_of(*rows: list[RunRecord], baselines: pd.DataFrame | None = None) -> list[Section]:
    records = [record for records in rows for record in records]
    published = baseline_frame() if baselines is None else baselines
    return sections(leaderboard_frame(record_frame(records)), published)


def test_rows_of_other_images_or_folds_make_another_section() -> None:
    split = sections_of(
        row(0.5), row(0.6, dataset_digest="ffff", official=False), row(0.4, n_splits=2), row(0.4, fold_seed=1)
    )
    assert len(split) == 4
    assert [section.official for section in split] == [True, False, False, False]


def test_no_shipped_row_is_ranked_with_runs_because_none_is_known_to_agree() -> None:
    (official,) = sections_of(row(0.55), row(0.40, strategy="adapter"))
    assert official.rows["rank"].tolist() == [1, 2]
    assert official.published["rank"].isna().all() and len(official.published) == 13
    assert official.published_here and not official.shares_ranks


def agreeing() -> pd.DataFrame:
    """The rows of the paper and of NucEval as if their protocol were known to be this one."""
    rows = baseline_frame()
    known = rows["source"].str.startswith(("Mahbod", "NucEval"))
    return rows.assign(comparable=known)


def test_runs_share_ranks_with_published_rows_that_are_known_to_agree_on_the_official_folds_only() -> None:
    (official,) = sections_of(row(0.55), row(0.40, strategy="adapter"), baselines=agreeing())
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
    (other,) = sections_of(
        row(0.55, official=False), row(0.40, strategy="adapter", official=False), baselines=agreeing()
    )
    assert other.rows["rank"].tolist() == [1, 2]
    assert other.published["rank"].isna().all()


def test_incomplete_rows_come_last_and_have_no_rank() -> None:
    (section,) = sections_of(row(0.9)[:4], row(0.3, strategy="adapter"), row(0.4, strategy="full"))
    assert section.rows["strategy"].tolist() == ["full", "adapter", "lora_qv"]
    assert section.rows["complete"].tolist() == [True, True, False]
    assert section.rows["rank"].isna().tolist() == [False, False, True]


def test_the_classical_row_is_a_reference_without_rank() -> None:
    (section,) = sections_of(row(0.5, official=False), classical(0.45, official=False))
    assert section.rows["backbone"].tolist() == ["mobile_sam", CLASSICAL]
    assert section.rows["rank"].isna().tolist() == [False, True]
    assert section.classical_pq == pytest.approx(0.45)


def test_trained_rows_below_the_classical_one_are_found() -> None:
    (section,) = sections_of(
        classical(0.45),
        row(0.44),
        row(0.46, strategy="full"),
        row(0.2, strategy="zero_shot"),
        row(0.1, strategy="adapter")[:3],
    )
    assert section.below_classical["strategy"].tolist() == ["lora_qv"]  # not what is untrained or incomplete
    (without,) = sections_of(row(0.1))
    assert without.below_classical.empty
    assert without.classical_pq is None


def test_equal_settings_are_not_shown() -> None:
    (section,) = sections_of(row(0.5), row(0.4, strategy="adapter"), row(0.2, strategy="zero_shot"), classical(0.4))
    assert section.settings == ()  # nor the head that zero_shot brings, nor the rank that only LoRA has


def test_settings_that_differ_are_shown() -> None:
    (ranks,) = sections_of(row(0.5), row(0.6, options={"rank": 8}))
    assert ranks.settings == ("strategy.rank",)
    assert row_name(ranks.rows.iloc[0], ranks.settings) == "mobile_sam lora_qv strategy.rank=8"
    (sizes,) = sections_of(row(0.5), row(0.4, strategy="adapter", image_size=256))
    assert sizes.settings == ("image_size",)
    (scales,) = sections_of(row(0.5), row(0.4, scale=2.0))
    assert scales.settings == ("scale",)
    assert [row_name(values, scales.settings) for _, values in scales.rows.iterrows()] == [
        "mobile_sam lora_qv scale=fit",
        "mobile_sam lora_qv scale=2",
    ]


def test_learning_rates_differ_by_design_between_strategies() -> None:
    (between,) = sections_of(row(0.5, train={"lr": 5e-3}), row(0.4, strategy="full", train={"lr": 1e-4}))
    assert between.settings == ()
    (within,) = sections_of(row(0.5, train={"lr": 5e-3}), row(0.4, train={"lr": 1e-4}))
    assert within.settings == ("train.lr",)


@pytest.fixture
def other_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset with a release, and with the same number of official folds as NuInsSeg."""
    dataset = SimpleNamespace(name="a-release", release=Release(n_splits=5, fold_seed=19, real_tissue=False))
    known = datasets.get
    monkeypatch.setattr(datasets, "get", lambda name: dataset if name == "a-release" else known(name))


@pytest.mark.usefixtures("other_release")
def test_published_scores_share_ranks_with_runs_on_their_own_dataset_only() -> None:
    rows = (row(0.55, dataset="a-release"), row(0.55))
    own, other = sections_of(*rows, baselines=agreeing())  # own first, though "a" is before "n"
    assert (other.dataset, other.official, other.shares_ranks, other.real_tissue) == ("a-release", True, False, False)
    assert other.rows["rank"].tolist() == [1] and other.published["rank"].isna().all()
    assert (own.dataset, own.official, own.shares_ranks, own.real_tissue) == ("nuinsseg", True, True, True)
    assert own.rows["rank"].tolist() == [2]


def test_rows_of_a_dataset_that_is_not_registered_are_shown_and_compared_with_nothing() -> None:
    (section,) = sections_of(row(0.55, dataset="gone"), row(0.5, dataset="gone", strategy="full"))
    assert section.rows["rank"].tolist() == [1, 2] and section.published["rank"].isna().all()
    assert section.title == "images: 665 images, digest 0123456789ab, 5 folds (seed 19)"


def test_the_title_says_how_the_images_were_compared_with_the_release() -> None:
    (section,) = sections_of(row(0.5, verified="names as released, content not verified"))
    assert section.title == (
        "nuinsseg: 665 images, official release (names as released, content not verified), digest 0123456789ab, "
        "5 folds (seed 19)"
    )


def test_the_title_names_the_images() -> None:
    (official,) = sections_of(row(0.5))
    assert official.title == ("nuinsseg: 665 images, official release, digest 0123456789ab, 5 folds (seed 19)")
    (other,) = sections_of(row(0.5, official=False, n_splits=2))
    assert other.title == "images: 19 images, digest 0123456789ab, 2 folds (seed 19)"


def test_one_scored_run_on_changed_labels_makes_its_section_another_dataset():
    by_name, changed = row(0.5), row(0.5, official=False)
    (section,) = sections_of([*by_name[:3], *changed[3:]])
    assert not section.official and section.published["rank"].isna().all()
    (section,) = sections_of(by_name, row(0.4, strategy="adapter", official=False))
    assert not section.official
    (section,) = sections_of(by_name)
    assert section.official
