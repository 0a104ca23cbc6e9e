"""Comparison of all rows of a section, against ranks and p-values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compared import FOLDS, add, add_fold, frame, page, shifted
from fabricated import record, run
from scipy import stats

from bench.errors import BenchError
from bench.results.record import write


@pytest.fixture
def three_rows(tmp_path: Path) -> Path:
    add(tmp_path, "mobile_sam", "adapter", shifted(*[0.1, 0.11, 0.12, 0.13, 0.14, 0.15]))
    add(tmp_path, "mobile_sam", "full", shifted(0.05, -0.06, 0.07, 0.08, 0.04, 0.03))
    add(tmp_path, "mobile_sam", "lora_qv")
    return tmp_path


def test_mean_ranks_and_friedman_by_hand(three_rows: Path):
    table = frame(three_rows)
    pq = table[table["score"] == "pq"]
    ranks = pq[pq["kind"] == "rank"].set_index("a")["mean_rank"]
    # adapter is first on all six images, full second on five and third on one
    assert ranks.to_dict() == pytest.approx(
        {"mobile_sam/adapter": 1, "mobile_sam/full": 13 / 6, "mobile_sam/lora_qv": 17 / 6}
    )
    friedman = pq[pq["kind"] == "friedman"].iloc[0]
    # 12 / (6 * 3 * 4) * (6² + 13² + 17²) - 3 * 6 * 4
    assert friedman["statistic"] == pytest.approx((36 + 169 + 289) / 6 - 72)
    assert friedman["p"] == pytest.approx(np.exp(-friedman["statistic"] / 2))


def test_every_two_rows_are_tested_with_holm(three_rows: Path):
    table = frame(three_rows)
    pairs = table[(table["score"] == "pq") & (table["kind"] == "pair")].reset_index(drop=True)
    assert pairs["a"].tolist() == ["mobile_sam/adapter"] * 2 + ["mobile_sam/full"]
    # full against lora_qv: -.06 has rank 4 of .03 … .08; sums 4 and 17
    raw = [2 / 64, 2 / 64, stats.wilcoxon([0.05, -0.06, 0.07, 0.08, 0.04, 0.03]).pvalue]
    assert pairs["p"].tolist() == pytest.approx(raw)
    assert pairs["p_holm"].tolist() == pytest.approx([6 / 64, 6 / 64, max(6 / 64, raw[2])])
    assert pairs["rank_biserial"].tolist() == pytest.approx([1, 1, 13 / 21])


def test_page_has_ranks_and_matrix(three_rows: Path):
    text = page(three_rows)
    assert "PQ: Friedman's chi-squared = 10.3 with 2 degrees of freedom, p = 0.006." in text
    assert "1 mobile_sam/adapter 1.00" in text
    assert "1 mobile_sam/adapter 0.094 0.094" in text


def test_a_narrow_terminal_shows_signs(tmp_path: Path):
    names = [f"organ {i % 7}/image {i}" for i in range(30)]
    strategies = ("adapter", "full", "lora_qv", "lora_all_linear", "decoder", "bitfit", "zero_shot")
    for place, strategy in enumerate(strategies):
        values = {name: 0.9 - place / 10 - i / 1000 * (place + 1) for i, name in enumerate(names)}
        add(tmp_path, "mobile_sam", strategy, tuple({n: values[n] for n in names[start::2]} for start in (0, 1)))
    text = page(tmp_path, width=60)
    assert "3 mobile_sam/lora_qv − − + + + +" in text
    assert "+: the row is above the column" in text


def test_incomplete_rows_and_the_classical_one_are_left_out_by_name(three_rows: Path):
    add(three_rows, "tiny_sam", "full", FOLDS[:1])
    add(three_rows, "classical", "classical")
    text = page(three_rows)
    assert "Left out: tiny_sam/full, without fold 2. Give its name to compare it." in text
    assert "classical: the reference, not ranked; `bench compare classical NAME` compares it." in text
    assert "1 mobile_sam/adapter 1.00" in text


def test_rows_with_several_settings_have_names_that_compare_takes(tmp_path: Path):
    for rank, shift in ((4, 0.1), (8, 0.3)):
        add(tmp_path, "mobile_sam", "lora_qv", shifted(*[shift] * 6), options={"rank": rank})
    table = frame(tmp_path)
    names = table.loc[(table["kind"] == "rank") & (table["score"] == "pq"), "a"].tolist()
    assert names == ["mobile_sam/lora_qv,strategy.rank=4", "mobile_sam/lora_qv,strategy.rank=8"]
    assert frame(tmp_path, *names).iloc[0]["difference"] == pytest.approx(-0.2)
    assert "PQ: Friedman's test says nothing (two rows only)." in page(tmp_path)


def test_seeds_of_a_row_are_pooled(tmp_path: Path):
    for seed, shift in ((0, 0.1), (1, 0.3)):
        add(tmp_path, "mobile_sam", "adapter", shifted(*[shift] * 6), seed=seed)
    add(tmp_path, "mobile_sam", "full")
    pair = frame(tmp_path).query("kind == 'pair' and score == 'pq'").iloc[0]
    assert pair["mean"] == pytest.approx(0.2)


def test_images_that_a_row_lacks_are_named(three_rows: Path):
    add(three_rows, "tiny_sam", "full", ({"liver/a": 0.5, "brain/c": float("nan")}, FOLDS[1]))
    text = page(three_rows, width=200)
    assert "Left out, because a row has no scores of it: b (liver)." in text
    assert "Left out, because a score is not a number: c (brain)." in text


def test_equal_rows_have_equal_ranks(tmp_path: Path):
    for strategy in ("adapter", "full", "lora_qv"):
        add(tmp_path, "mobile_sam", strategy)
    text = page(tmp_path)
    assert "Friedman's test says nothing (all rows are equal on every image)." in text
    assert "1 mobile_sam/adapter 2.00" in text


def test_one_row_cannot_be_compared(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter")
    add(tmp_path, "mobile_sam", "full", FOLDS[:1])
    write(tmp_path, record(run("tiny_sam", "full", 1, n_splits=2), status="failed", reason="diverged"))
    expected = (
        r"only mobile_sam/adapter has all folds, so no two rows can be compared\. Left out: mobile_sam/full, witho"
    )
    with pytest.raises(BenchError, match=expected):
        page(tmp_path)


def test_sections_are_compared_apart(three_rows: Path):
    for strategy in ("adapter", "full"):
        add(three_rows, "tiny_sam", strategy, dataset_digest="bbbb")
    add(three_rows, "sam_vit_b", "full", dataset_digest="cccc")  # alone: nothing is said of it
    table = frame(three_rows)
    assert table.groupby("dataset_digest")["a"].nunique().to_dict() == {"0123456789ab": 3, "bbbb": 2}


def test_too_many_rows_are_refused_before_their_scores_are_read(tmp_path: Path):
    for seed in range(101):
        write(tmp_path, record(run("mobile_sam", "full", 1, n_splits=2, image_size=16 * seed + 16)))
    with pytest.raises(
        BenchError, match=r"101 rows are too many to compare every two; 100 are the most\. Give the names"
    ):
        page(tmp_path)


def test_seeds_that_have_all_folds_only_together_are_no_complete_row(three_rows: Path):
    for seed in (0, 1):
        add_fold(three_rows, "tiny_sam", "full", seed + 1, FOLDS[seed], seed=seed)
    assert "Left out: tiny_sam/full, without fold 1 (seed 1) and 2 (seed 0)." in page(three_rows)


def test_a_seed_that_lacks_folds_is_left_out_by_name(three_rows: Path):
    add(three_rows, "mobile_sam", "full", FOLDS[:1], seed=1)
    text = page(three_rows)
    assert "† mobile_sam/full: without seed 1, which lacks folds; `bench table` does not rank it." in text
    assert text.count("mobile_sam/full † ") == 2  # in the list and in the matrix


def test_what_means_and_decisive_mean_is_said_without_names_as_with_them(three_rows: Path):
    for names in ((), ("adapter", "full")):
        text = page(three_rows, *names)
        assert "Means are over images, each counted once; `bench table` averages the means of folds" in text
        assert "Decisive here: after Holm's adjustment for all tests." in text


def test_a_row_whose_pretraining_may_have_seen_the_images_has_no_rank_beside_others(three_rows: Path):
    unmarked = frame(three_rows)
    add(three_rows, "lite_medsam", "full", shifted(*[0.2] * 6))
    assert frame(three_rows).equals(unmarked)
    assert (
        "§ lite_medsam/full: the pre-training may have seen images of this dataset (nobody has shown that it did not) "
        "(LiteMedSAM), so it has no rank beside other rows; give its name to compare it."
    ) in page(three_rows)


def test_marked_rows_alone_are_ranked_among_themselves(tmp_path: Path):
    add(tmp_path, "lite_medsam", "full", shifted(*[0.2] * 6))
    add(tmp_path, "lite_medsam", "lora_qv")
    assert set(frame(tmp_path)["a"].dropna()) == {"lite_medsam/full", "lite_medsam/lora_qv"}
    assert page(tmp_path).count("so it is ranked among such rows only.") == 2
