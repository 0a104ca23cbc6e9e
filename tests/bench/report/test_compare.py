"""`bench compare`: pairing, the numbers of a pair, and sentences on what can't be compared."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from compared import FOLDS, add, frame, page, shifted
from fabricated import record, run
from rich.console import Console
from scipy import stats

from bench.errors import BenchError, RecordError
from bench.report.compare import show_comparison
from bench.results.record import write

SHIFTS = (0.01, -0.02, 0.05, 0.03, 0.04, 0.06)


@pytest.fixture
def two_rows(tmp_path: Path) -> Path:
    add(tmp_path, "mobile_sam", "adapter", shifted(*SHIFTS))
    add(tmp_path, "mobile_sam", "full")
    return tmp_path


def test_numbers_of_a_pair(two_rows: Path):
    table = frame(two_rows, "mobile_sam/adapter", "mobile_sam/full")
    row = table[(table["score"] == "pq") & table["organ"].isna()].iloc[0]
    assert (row["n_images"], row["n_folds"]) == (6, 2)
    assert row["mean_b"] == pytest.approx(2.45 / 6)
    assert row["difference"] == pytest.approx(0.17 / 6)
    # Ranks of |d| are 1 … 6, and the negative difference has rank 2. Rank sums up to 2: {}, {1}, {2} of 64.
    assert row["wilcoxon"] == 2
    assert row["wilcoxon_p"] == pytest.approx(2 * 3 / 64)
    assert row["wilcoxon_p"] == pytest.approx(stats.wilcoxon(SHIFTS).pvalue)
    assert row["rank_biserial"] == pytest.approx((19 - 2) / 21)
    # All three scores have the same differences: 3 tests, each times 3 by Holm.
    assert row["wilcoxon_p_holm"] == pytest.approx(3 * 6 / 64)
    # Fold means .04 / 3 and .13 / 3, variance (.03)² / 2; test to train is 3 images by 19 - 3.
    assert row["test_to_train"] == pytest.approx(3 / 16)
    assert row["corrected_t"] == pytest.approx((0.085 / 3) / np.sqrt((1 / 2 + 3 / 16) * 0.03**2 / 2))
    assert row["corrected_t_df"] == 1
    assert row["corrected_t_p"] == pytest.approx(1 - 2 / np.pi * np.arctan(row["corrected_t"]))  # one df: Cauchy
    assert 0.9 < row["p_above"] <= 1
    assert row["low"] < row["difference"] < row["high"]


def test_organs_are_listed_with_the_largest_difference_first(two_rows: Path):
    table = frame(two_rows, "mobile_sam/adapter", "mobile_sam/full")
    organs = table[(table["score"] == "pq") & table["organ"].notna()]
    assert organs["organ"].tolist() == ["brain", "liver"]
    assert organs["difference"].tolist() == pytest.approx([0.15 / 3, 0.02 / 3])
    assert organs["n_images"].tolist() == [3, 3]


def test_exchanged_names_change_the_sign_alone(two_rows: Path):
    one = frame(two_rows, "mobile_sam/adapter", "mobile_sam/full").iloc[0]
    other = frame(two_rows, "mobile_sam/full", "mobile_sam/adapter").iloc[0]
    assert one["difference"] == pytest.approx(-other["difference"])
    assert (one["wilcoxon_p"], one["corrected_t_p"]) == pytest.approx((other["wilcoxon_p"], other["corrected_t_p"]))
    assert one["p_above"] == pytest.approx(1 - other["p_above"])


def test_strategies_alone_are_paired_per_backbone_and_averaged_per_image(tmp_path: Path):
    for backbone, shift in (("mobile_sam", 0.1), ("tiny_sam", 0.3)):
        add(tmp_path, backbone, "adapter", shifted(*[shift] * 6))
        add(tmp_path, backbone, "full")
    add(tmp_path, "sam_vit_b", "full")  # without a partner
    row = frame(tmp_path, "adapter", "full").iloc[0]
    assert row["n_images"] == 6  # not 12: an image counts once
    assert row["difference"] == pytest.approx(0.2)
    assert "Only full has runs with sam_vit_b." in row["notes"]
    assert "each averaged over mobile_sam and tiny_sam" in page(tmp_path, "adapter", "full")


def test_backbones_alone_are_paired_per_strategy(tmp_path: Path):
    for strategy, shift in (("adapter", 0.1), ("full", 0.2)):
        add(tmp_path, "mobile_sam", strategy, shifted(*[shift] * 6))
        add(tmp_path, "tiny_sam", strategy)
    assert frame(tmp_path, "mobile_sam", "tiny_sam").iloc[0]["difference"] == pytest.approx(0.15)


def test_a_strategy_against_a_row_uses_the_backbone_of_the_row(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", shifted(*[0.1] * 6))
    add(tmp_path, "tiny_sam", "adapter", shifted(*[0.3] * 6))
    add(tmp_path, "tiny_sam", "full")
    assert frame(tmp_path, "adapter", "tiny_sam/full").iloc[0]["difference"] == pytest.approx(0.3)


def test_seeds_are_paired_and_those_of_one_side_left_out(tmp_path: Path):
    for seed, shift in ((0, 0.1), (1, 0.2), (2, 0.9)):
        add(tmp_path, "mobile_sam", "adapter", shifted(*[shift] * 6), seed=seed)
    for seed in (0, 1):
        add(tmp_path, "mobile_sam", "full", seed=seed)
    row = frame(tmp_path, "mobile_sam/adapter", "mobile_sam/full").iloc[0]
    assert (row["n_images"], row["difference"]) == (6, pytest.approx(0.15))
    assert "Only mobile_sam/adapter has seed 2: left out." in row["notes"]


def test_a_method_without_training_needs_no_common_seed(tmp_path: Path):
    for seed, shift in ((0, 0.1), (1, 0.2)):
        add(tmp_path, "mobile_sam", "adapter", shifted(*[shift] * 6), seed=seed)
    add(tmp_path, "mobile_sam", "zero_shot")
    assert frame(tmp_path, "adapter", "zero_shot").iloc[0]["difference"] == pytest.approx(0.15)


def test_classical_is_paired_with_every_backbone(tmp_path: Path):
    for backbone, shift in (("mobile_sam", 0.1), ("tiny_sam", 0.3)):
        add(tmp_path, backbone, "adapter", shifted(*[shift] * 6))
    add(tmp_path, "classical", "classical")
    assert frame(tmp_path, "adapter", "classical").iloc[0]["difference"] == pytest.approx(0.2)
    assert frame(tmp_path, "classical", "tiny_sam/adapter").iloc[0]["difference"] == pytest.approx(-0.3)


def test_a_swept_setting_must_be_chosen(tmp_path: Path):
    for rank, shift in ((4, 0.1), (8, 0.3)):
        add(tmp_path, "mobile_sam", "lora_qv", shifted(*[shift] * 6), options={"rank": rank})
    add(tmp_path, "mobile_sam", "full")
    expected = r"'lora_qv' has runs with several values of strategy.rank; choose with lora_qv,strategy.rank=VALUE, "
    with pytest.raises(BenchError, match=expected + "where VALUE is 4 or 8."):
        page(tmp_path, "lora_qv", "full")
    assert frame(tmp_path, "lora_qv,strategy.rank=8", "full").iloc[0]["difference"] == pytest.approx(0.3)
    ranks = frame(tmp_path, "lora_qv,strategy.rank=4", "lora_qv,strategy.rank=8").iloc[0]
    assert ranks["difference"] == pytest.approx(-0.2)
    with pytest.raises(BenchError, match=r"unknown value of strategy.rank '16'. Known: 4, 8."):
        page(tmp_path, "lora_qv,strategy.rank=16", "full")
    with pytest.raises(BenchError, match=r"unknown setting 'strategy.rnk'. Did you mean 'strategy.rank'\?"):
        page(tmp_path, "lora_qv,strategy.rnk=8", "full")


def test_a_setting_that_both_have_is_paired(tmp_path: Path):
    for size, shift in ((512, 0.1), (1024, 0.3)):
        add(tmp_path, "mobile_sam", "adapter", shifted(*[shift] * 6), image_size=size)
        add(tmp_path, "mobile_sam", "full", image_size=size)
    assert frame(tmp_path, "adapter", "full").iloc[0]["difference"] == pytest.approx(0.2)


def test_images_of_one_side_alone_are_named(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", shifted(*SHIFTS))
    add(tmp_path, "mobile_sam", "full", ({"liver/a": 0.5, "brain/c": 0.3}, FOLDS[1]))
    row = frame(tmp_path, "mobile_sam/adapter", "mobile_sam/full").iloc[0]
    assert row["n_images"] == 5
    assert row["notes"] == "Left out, because mobile_sam/full has no scores of it: b (liver)."


def test_images_that_one_backbone_lacks_are_left_out_of_all(tmp_path: Path):
    for backbone, folds in (("mobile_sam", FOLDS), ("tiny_sam", (FOLDS[0], {"liver/d": 0.6}))):
        add(tmp_path, backbone, "adapter", folds)
        add(tmp_path, backbone, "full", folds)
    row = frame(tmp_path, "adapter", "full").iloc[0]
    expected = "Left out, because not all of mobile_sam and tiny_sam have it: e (brain), f (brain)."
    assert (row["n_images"], row["notes"]) == (4, expected)


def test_scores_that_are_no_numbers_are_left_out_by_name(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", shifted(float("nan"), *SHIFTS[1:]))
    add(tmp_path, "mobile_sam", "full")
    row = frame(tmp_path, "mobile_sam/adapter", "mobile_sam/full").iloc[0]
    assert (row["n_images"], row["notes"]) == (5, "Left out, because a score is not a number: a (liver).")


def test_an_incomplete_row_is_compared_on_the_folds_that_both_have(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", shifted(*SHIFTS))
    add(tmp_path, "mobile_sam", "full", FOLDS[:1])
    settings = run("mobile_sam", "full", 2, n_splits=2)
    write(tmp_path, record(settings, status="failed", reason="out of memory"))
    row = frame(tmp_path, "mobile_sam/adapter", "mobile_sam/full").iloc[0]
    assert (row["n_images"], row["n_folds"]) == (3, 1)
    assert row["notes"] == "Compared on fold 1 of 2: mobile_sam/full has fold 2 failed (out of memory)."
    assert np.isnan(row["corrected_t_p"])
    text = page(tmp_path, "mobile_sam/adapter", "mobile_sam/full")
    assert "One fold only: there is no test over folds." in text


def test_no_common_fold_is_said(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", FOLDS[:1])
    add(tmp_path, "mobile_sam", "full", n_splits=2)
    for path in (tmp_path / "runs").glob("*/record.json"):
        text = path.read_text()
        if '"full"' in text and '"fold": 1' in text:
            path.unlink()
    expected = (
        r"'adapter' and 'full' have scores of no image in common\. Compared on no fold: adapter \(mobile_sam\) has "
        r"fold 2 not run; full \(mobile_sam\) has fold 1 not run\."
    )
    with pytest.raises(BenchError, match=expected):
        page(tmp_path, "adapter", "full")


def test_one_image_is_too_few(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", ({"liver/a": 0.5},))
    add(tmp_path, "mobile_sam", "full", ({"liver/a": 0.4},))
    text = page(tmp_path, "adapter", "full")
    assert "PQ: no decisive order (p = 1.000 on the images)." in text
    assert "One image only: no test can tell anything." in text


def test_few_organs_are_said(two_rows: Path):
    assert "2 organs are too few to draw from, so the images were drawn one by one." in page(
        two_rows, "adapter", "full"
    )


def test_equal_scores_are_said_to_be_equal(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter")
    add(tmp_path, "mobile_sam", "full")
    row = frame(tmp_path, "adapter", "full").iloc[0]
    assert (row["difference"], row["wilcoxon_p_holm"], row["rank_biserial"], row["p_above"]) == (0, 1, 0, 0.5)
    assert "PQ: equal on every image." in page(tmp_path, "adapter", "full")


def many_images(results: Path, shift: Callable[[int], float]) -> None:
    names = [f"organ {i % 7}/image {i}" for i in range(40)]
    for strategy, shifts in (("adapter", shift), ("full", lambda i: 0.0)):
        values = {name: 0.3 + i / 200 + shifts(i) for i, name in enumerate(names)}
        add(results, "mobile_sam", strategy, tuple({n: values[n] for n in names[start::2]} for start in (0, 1)))


def test_a_clear_difference_is_said_with_what_the_folds_say(tmp_path: Path):
    many_images(tmp_path, lambda i: 0.05 + i / 10_000)
    text = page(tmp_path, "adapter", "full")
    assert "PQ: adapter is above full by 5.2 points (p < 0.001 on the images); over folds too (p < 0.001)" in text or (
        "PQ: adapter is above full by 5.2 points (p < 0.001 on the images); over folds too (p = 0.0" in text
    )
    assert "A is above B on 7 of 7 organs." in text


def test_holm_counts_all_pairs_and_scores_shown(two_rows: Path):
    add(two_rows, "mobile_sam", "lora_qv", shifted(*[0.1 + 0.01 * i for i in range(6)]))
    table = frame(two_rows, "adapter", "full", "lora_qv")
    tests = table[table["organ"].isna()]
    assert list(zip(tests["a"], tests["b"], strict=True))[::3] == [
        ("adapter", "full"),
        ("adapter", "lora_qv"),
        ("full", "lora_qv"),
    ]
    assert len(tests) == 9
    # p: three times 6/64 (adapter, full) and six times 2/64; the smallest counts nine times, and 6/64 three times.
    assert tests["wilcoxon_p"].tolist() == pytest.approx([6 / 64] * 3 + [2 / 64] * 6)
    assert tests["wilcoxon_p_holm"].tolist() == pytest.approx([18 / 64] * 9)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ("adapter", "ful"),
            r"unknown row, strategy or backbone 'ful'\. Did you mean 'full'\? Known: adapter, full, mob",
        ),
        (
            ("mobile_sam/adaptr", "full"),
            r"Did you mean 'mobile_sam/adapter'\? Known: mobile_sam/adapter, mobile_sam/ful",
        ),
        (("full", "full"), r"'full' is given twice; a comparison is of different runs\."),
        (
            ("full", "mobile_sam/full"),
            r"'mobile_sam/full' shares runs with 'full'; a comparison is of different runs\.",
        ),
        (("full",), r"'full' alone can't be compared; give a second name, or none to compare all rows\."),
        (
            ("adapter", "mobile_sam"),
            r"'adapter' is a strategy and 'mobile_sam' a backbone: nothing pairs them\. Compare",
        ),
    ],
)
def test_names_that_cannot_be_compared(two_rows: Path, names: tuple[str, ...], expected: str):
    with pytest.raises(BenchError, match=expected):
        page(two_rows, *names)


def test_rows_of_different_images_are_not_compared(tmp_path: Path):
    add(tmp_path, "mobile_sam", "adapter", dataset_digest="aaaa")
    add(tmp_path, "mobile_sam", "full", dataset_digest="bbbb")
    with pytest.raises(
        BenchError, match=r"no two of these have runs on the same images and folds\. adapter: .*aaaa.*bbbb"
    ):
        page(tmp_path, "adapter", "full")


def test_rows_without_a_run_that_is_ok_are_said(two_rows: Path):
    for fold in (1, 2):
        settings = run("mobile_sam", "lora_qv", fold, n_splits=2)
        write(two_rows, record(settings, status="failed", reason="diverged"))
    expected = r"no run of 'lora_qv' is ok, .*: fold 1 failed \(diverged\), fold 2 failed \(diverged\)\."
    with pytest.raises(BenchError, match=expected):
        page(two_rows, "lora_qv", "full")


def test_missing_and_damaged_scores_are_named(two_rows: Path):
    path = next((two_rows / "runs").glob("*/scores.parquet"))
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(RecordError, match=rf"{path.parent.name}.scores\.parquet can't be read .* can't be compared;"):
        page(two_rows, "adapter", "full")
    path.unlink()
    with pytest.raises(RecordError, match=r"scores\.parquet is missing, so its images can't be compared; copy it "):
        page(two_rows, "adapter", "full")
    pd.DataFrame({"stem": ["a"], "organ": ["liver"], "pq": [0.1], "n_true": [1.0]}).to_parquet(path)
    with pytest.raises(RecordError, match=r"scores\.parquet lacks aji, dice"):
        page(two_rows, "adapter", "full")


def test_no_records(tmp_path: Path):
    with pytest.raises(BenchError, match=r"no records below .*runs; run `bench run --grid quick` first"):
        page(tmp_path, "adapter", "full")


def test_endings_choose_the_format(two_rows: Path):
    quiet = Console(file=io.StringIO())
    starts = {
        "md": "## A = adapter, B = full\n",
        "csv": "dataset,dataset_digest,n_splits,fold_seed,rules_version,a,b,score,organ,",
        "html": "<!DOCTYPE html>",
        "tex": r"\documentclass",
    }
    for ending, start in starts.items():
        path = show_comparison(two_rows, ("adapter", "full"), output=two_rows / f"x.{ending}", console=quiet)
        assert path is not None
        assert start in path.read_text(encoding="utf-8")
    default = show_comparison(two_rows, ("adapter", "full"), format="csv", console=quiet)
    assert default == two_rows / "tables/comparison.csv"
    with pytest.raises(BenchError, match=r"x\.doc doesn't tell the format; let it end in \.md, .*\.pdf, or add"):
        show_comparison(two_rows, ("adapter", "full"), output=Path("x.doc"), console=quiet)
    with pytest.raises(BenchError, match=r"x\.md is of the format markdown by its ending, and --format is csv"):
        show_comparison(two_rows, ("adapter", "full"), format="csv", output=Path("x.md"), console=quiet)
    with pytest.raises(BenchError, match=r"unknown format 'word'; known: terminal, markdown, csv, latex, html\."):
        show_comparison(two_rows, ("adapter", "full"), format="word", console=quiet)


def test_a_page_is_called_a_comparison(two_rows: Path):
    for names, title in ((("adapter", "full"), "Comparison of adapter and full"), ((), "Comparison of all rows")):
        path = show_comparison(two_rows, names, output=two_rows / "x.html", console=Console(file=io.StringIO()))
        assert path is not None
        assert f"<title>{title}</title>" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("score", ["aji", "dice"])
def test_score_of_organs_order_and_matrix_is_chosen(two_rows: Path, score: str):
    title = {"aji": "AJI", "dice": "Dice"}[score]
    shown = io.StringIO()
    for names in (("adapter", "full"), ()):
        show_comparison(two_rows, names, score=score, console=Console(file=shown, width=150))
    text = " ".join(shown.getvalue().split())
    assert f"{title} of adapter and full: the organs where they differ most" in text
    assert f"{title} of every two rows: p-value" in text
    assert f"number of rows whose {title} differs from this row's" in text
    with pytest.raises(BenchError, match=r"unknown score 'f1'; known: pq, aji, dice\."):
        show_comparison(two_rows, score="f1")


@pytest.mark.parametrize("names", [("adapter", "full"), ()])
@pytest.mark.parametrize("ending", ["md", "csv", "tex", "html"])
def test_files_are_the_same_twice(two_rows: Path, names: tuple[str, ...], ending: str):
    contents = []
    for number in (1, 2):
        path = show_comparison(
            two_rows, names, output=two_rows / f"{number}.{ending}", console=Console(file=io.StringIO())
        )
        assert path is not None
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_names_that_mean_something_to_markdown_are_shown_as_they_are(tmp_path: Path):
    odd = ({"a|b <script>/x": 0.5, "leber_ü %&/y": 0.4}, {"a|b <script>/z": 0.3})
    add(tmp_path, "mobile_sam", "adapter", odd)
    add(tmp_path, "mobile_sam", "full", odd[:1])
    path = show_comparison(tmp_path, ("adapter", "full"), output=tmp_path / "x.md", console=Console(file=io.StringIO()))
    assert path is not None
    text = path.read_text(encoding="utf-8")
    assert "| a\\|b \\<script> |" in text
    assert "| leber_ü %& " in text


def test_a_row_whose_pretraining_may_have_seen_the_images_is_named(tmp_path: Path):
    for backbone in ("lite_medsam", "mobile_sam"):
        add(tmp_path, backbone, "full", shifted(*[0.01 * place for place in range(6)]))
    note = "§ lite_medsam/full: the pre-training may have seen images of this dataset"
    names = ("lite_medsam/full", "mobile_sam/full")
    assert note in page(tmp_path, *names) and note in frame(tmp_path, *names)["notes"].iloc[0]
    assert "§ mobile_sam" not in page(tmp_path, *names)
