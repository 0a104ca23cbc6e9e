"""The published numbers, as their sources give them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench.errors import BenchError
from bench.report import baselines as baselines_module
from bench.report.baselines import baseline_frame
from registry.modules.kfold import shuffled_folds
from registry.modules.nuinsseg_folds import official_folds

SHIPPED = Path(__file__).parents[3] / "results" / "baselines" / "nuinsseg.csv"
PUBLISHED = {
    "Shallow U-Net": (78.8, 50.5, 42.7),
    "Deep U-Net": (79.7, 49.4, 40.4),
    "Attention U-Net": (80.5, 45.7, 36.4),
    "Residual attention U-Net": (81.4, 46.2, 36.9),
    "Two-stage U-Net": (76.6, 52.8, 47.2),
    "Dual decoder U-Net": (79.4, 55.9, 51.3),
    "HoVer-Net": (80.29, 57.50, 53.40),
    "HoVer-NeXt": (82.59, 58.45, 54.17),
    "CellViT-256": (81.92, 60.03, 56.44),
    "MobileSAM + LoRA + watershed (10 epochs)": (66.11, 41.14, 39.59),
    "MobileSAM + LoRA + watershed (5 epochs)": (61.22, 36.60, 30.14),
    "MobileSAM + LoRA q/v rank 8 + conv head": (79.7, 51.8, 35.8),
    "SAM (no working LoRA)": (67.1, 48.4, 44.5),
}


@pytest.fixture(scope="module")
def baselines() -> pd.DataFrame:
    return baseline_frame().set_index("model")


def test_every_published_row_is_there_with_its_numbers(baselines: pd.DataFrame) -> None:
    assert {name: tuple(row) for name, row in baselines[["dice", "aji", "pq"]].iterrows()} == PUBLISHED
    assert set(zip(baselines["dataset"], baselines["dataset_title"], strict=True)) == {("nuinsseg", "NuInsSeg")}


def test_what_is_known_of_the_protocols_makes_no_row_comparable(baselines: pd.DataFrame) -> None:
    assert not baselines["comparable"].any()
    known = baselines[["folds", "selected_on_test", "trained_on_folds"]]
    assert known.loc["HoVer-Net"].tolist() == known.loc["HoVer-NeXt"].tolist() == ["other", "yes", 4]
    assert known.loc["CellViT-256"].tolist() == ["unknown", "unknown", 4]
    paper = known[baselines["source"].str.startswith("Mahbod")]
    assert len(paper) == 6 and set(paper["folds"]) | set(paper["selected_on_test"]) == {"unknown"}
    assert baselines[["folds_note", "selected_on_test_note", "note"]].notna().all(axis=None)


@pytest.mark.parametrize(("model", "seed"), [("HoVer-Net", 19), ("HoVer-NeXt", 42)])
def test_images_in_other_folds_are_counted_as_the_scripts_split_them(
    baselines: pd.DataFrame, model: str, seed: int
) -> None:
    official = official_folds()
    names = sorted(official)  # plainly, in one folder
    split = dict(zip(names, shuffled_folds(len(names), 5, seed), strict=True))
    n_elsewhere = sum(split[name] != fold for name, fold in official.items())
    assert baselines.loc[model, "folds_note"].startswith(f"{n_elsewhere} of 665 images are tested in another fold")


def test_a_row_is_comparable_where_everything_is_known_to_agree(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    agreeing = {"folds": "official", "selected_on_test": "no", "scoring": "same"}
    rows = baseline_frame(SHIPPED)[list(baselines_module.COLUMNS)].head(4).assign(**agreeing)
    for place, (name, value) in enumerate((("folds", "other"), ("selected_on_test", "unknown"), ("scoring", "other"))):
        rows.loc[place, name] = value
    rows.to_csv(path, index=False)
    assert baseline_frame(path)["comparable"].tolist() == [False, False, False, True]


def test_values_without_a_meaning_and_a_typed_verdict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = baseline_frame(SHIPPED)
    rows.to_csv(path, index=False)
    with pytest.raises(BenchError, match=r"give 'comparable', which follows from folds = official, .*; remove that"):
        baseline_frame(path)
    rows.drop(columns="comparable").assign(folds="mine").to_csv(path, index=False)
    with pytest.raises(BenchError, match="folds is mine; known: official, other, unknown"):
        baseline_frame(path)


def test_corrected_pq_stands_apart(baselines: pd.DataFrame) -> None:
    assert baselines["pq_corrected"].dropna().to_dict() == {
        "HoVer-Net": 64.07,
        "HoVer-NeXt": 64.92,
        "CellViT-256": 68.44,
    }


def test_parameters_from_memory_are_marked_unverified(baselines: pd.DataFrame) -> None:
    assert not baselines["parameters_verified"].any()
    assert baselines.loc["Dual decoder U-Net", "parameters_millions"] == 3.5
    row = baselines.loc["MobileSAM + LoRA + watershed (10 epochs)"]
    assert (row["trainable_millions"], row["parameters_millions"]) == (4.18, 10.25)


def test_a_row_without_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    baseline_frame().assign(source=None).head(1).to_csv(path, index=False)
    with pytest.raises(BenchError, match="no source for Shallow U-Net; add one or remove the row"):
        baseline_frame(path)


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("model,dice\nx,80\n")
    with pytest.raises(BenchError, match=r"lack the columns parameters_millions, .*; all are: model, "):
        baseline_frame(path)


def test_every_file_of_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines_module, "_shipped_folder", lambda: tmp_path)
    with pytest.raises(BenchError, match=r"there are no baselines \(\*\.csv\) in "):
        baseline_frame()
    rows = baseline_frame(SHIPPED)[list(baselines_module.COLUMNS)]
    rows.assign(dataset="other").head(1).to_csv(tmp_path / "a.csv", index=False)
    rows.head(2).to_csv(tmp_path / "b.csv", index=False)
    assert baseline_frame()["dataset"].tolist() == ["other", "nuinsseg", "nuinsseg"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"none\.csv can't be read"):
        baseline_frame(tmp_path / "none.csv")
