"""Leaderboard: ranks, marks, lines around the table, and CSV."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest
from fabricated import record, run
from rich.console import Console

from bench.columns import Column
from bench.grid import CLASSICAL
from bench.report import leaderboard
from bench.report.baselines import baseline_frame
from bench.report.frame import busy, leaderboard_frame, pooled, record_frame
from bench.report.organs import organ_blocks
from bench.report.section import Section, sections
from bench.report.table import Block, markdown, terminal
from bench.results.record import RunRecord


def sections_of(records: list[RunRecord]) -> list[Section]:
    return sections(leaderboard_frame(record_frame(records)), baseline_frame())


def small(**changes: object) -> list[RunRecord]:
    """Two folds on other images: a complete row, the classical one, and a row with a failed fold."""
    n = {"n_splits": 2, **changes}
    return [
        record(run(fold=1, **n), dice=0.80, aji=0.55, pq=0.50, official=False),
        record(run(fold=2, **n), dice=0.82, aji=0.57, pq=0.54, official=False),
        record(run(CLASSICAL, CLASSICAL, 1, **n), dice=0.80, aji=0.48, pq=0.44, official=False),
        record(run(CLASSICAL, CLASSICAL, 2, **n), dice=0.84, aji=0.50, pq=0.46, official=False),
        record(run(strategy="full", fold=1, **n), dice=0.9, aji=0.7, pq=0.6, official=False),
        record(run(strategy="full", fold=2, **n), status="failed", reason="diverged: loss nan", official=False),
    ]


def columns(block: Block) -> dict[str, Column]:
    return {column.title: column for column in block.columns}


def test_small_leaderboard() -> None:
    own, published = leaderboard.blocks(sections_of(small()))
    shown = {title: column.cells for title, column in columns(own).items()}
    assert shown["#"] == ["1", "ref", "–"]
    assert shown["backbone"] == ["mobile_sam", "classical", "mobile_sam"]
    assert shown["strategy"] == ["lora_qv", "–", "full"]
    assert shown["PQ"] == ["52.0 ± 2.8", "45.0 ± 1.4", "60.0"]
    assert shown["AJI"] == ["56.0 ± 1.4", "49.0 ± 1.4", "70.0"]
    assert shown["Dice"] == ["81.0 ± 1.4", "82.0 ± 2.8", "90.0"]
    assert shown["folds"] == ["2/2", "2/2", "1/2 †"]
    assert shown["trainable encoder"] == ["15.2 k", "0", "6.07 M"]
    assert shown["trainable total"] == ["4.07 M", "0", "10.1 M"]
    assert shown["latency ms"] == ["42.1", "230.0", "42.1"]
    assert shown["GPU h"] == ["1.70", "–", "0.85"]
    assert "weights" not in shown
    failed = small()[-1].id
    assert (
        f"† mobile_sam full: 1 of 2 folds, not ranked. fold 2: failed (diverged: loss nan; run {failed})." in own.notes
    )
    assert published.title.endswith("on other images than above: for orientation only, not ranked")


def test_nothing_is_bold_without_scores_of_images() -> None:
    own, published = leaderboard.blocks(sections_of(small()))
    assert [columns(own)[title].bold for title in ("PQ", "AJI", "Dice")] == [frozenset()] * 3
    assert columns(published)["PQ"].bold == frozenset()


def test_published_rows_carry_source_and_protocol() -> None:
    published = leaderboard.blocks(sections_of(small()))[1]
    shown = columns(published)
    assert len(shown["model"].cells) == 13
    place = shown["model"].cells.index("Dual decoder U-Net")
    row = [shown[title].cells[place] for title in ("PQ", "AJI", "Dice", "trainable", "folds", "source")]
    assert row == ["51.3", "55.9", "79.4", "3.5 M?", "unknown", "[2]"]
    place = shown["model"].cells.index("HoVer-Net")
    facts = [shown[title].cells[place] for title in ("folds", "chosen on test", "folds trained on")]
    assert facts == ["other", "yes", "4"]
    assert any(
        note.startswith("HoVer-Net: folds: other (155 of 665 images are tested in another fold")
        and note.endswith("chosen on the test fold: yes (the checkpoint has the lowest loss on the test fold).")
        for note in published.notes
    )
    assert shown["trainable"].note == "?: not checked against the source."
    assert published.notes[1] == (
        "[2] Mahbod et al., Scientific Data 11:295 (2024), Table 3. Protocol: five folds, mean over folds."
    )
    assert "#" not in shown  # no row has a rank


def test_what_is_the_same_in_all_rows_stands_above_the_table() -> None:
    complete = small(weights="random")[:4]
    own = leaderboard.blocks(sections_of(complete))[0]
    assert own.caption == ("The same in all rows: weights random, images at 1024 px, epochs 60, folds 2/2, seed 0.")
    assert not {"weights", "folds"} & columns(own).keys()
    assert "random: no pre-trained weights. Such rows show that the harness works, nothing more." in own.notes
    assert leaderboard.blocks(sections_of(small()[:4]))[0].caption == (
        "The same in all rows: weights official, images at 1024 px, epochs 60, folds 2/2, seed 0."
    )


def test_settings_that_differ_are_not_in_the_caption() -> None:
    other = [
        record(run(fold=fold, n_splits=2, seed=1, image_size=512, train={"epochs": 20}), official=False)
        for fold in (1, 2)
    ]
    own = leaderboard.blocks(sections_of(small()[:4] + other))[0]
    assert own.caption == "The same in all rows: weights official, folds 2/2."
    assert {"seed", "image_size", "train.epochs"} <= columns(own).keys()


def timed(fold: int, strategy: str, **changes: object) -> RunRecord:
    """A run whose latency is 12 ms, with quartiles of 11 and 14 ms in all."""
    parts = {"encoder": (6.0, 5.5, 7.0), "decoder": (4.0, 3.5, 4.5), "postprocessing": (2.0, 2.0, 2.5)}
    names = ("median", "q1", "q3")
    cost = {f"{part}_latency_ms": dict(zip(names, values, strict=True)) for part, values in parts.items()}
    return record(
        run(strategy=strategy, fold=fold, n_splits=2), cost={**cost, "device": "cpu", **changes}, official=False
    )


def test_latency_has_its_quartiles_and_a_mark_where_a_fold_was_disturbed() -> None:
    records = [timed(1, "full", latency_busy=False), timed(2, "full", latency_busy=True)]
    records += [timed(fold, "lora_qv", latency_busy=False) for fold in (1, 2)]
    records += [timed(1, "adapter", latency_busy=False), timed(2, "adapter")]
    (section,) = sections_of(records)
    rows = section.rows.set_index("strategy")
    assert rows.loc["full", ["latency_ms", "latency_q1", "latency_q3", "latency_spread"]].tolist() == [12, 11, 14, 3]
    assert rows["latency_busy"].dropna().to_dict() == {"full": True, "lora_qv": False}  # adapter: unknown, not quiet
    assert busy(rows).to_dict() == {"full": True, "lora_qv": False, "adapter": False}
    shown = columns(leaderboard.blocks([section])[0])
    by_row = dict(zip(shown["strategy"].cells, shown["latency ms"].cells, strict=True))
    assert by_row == {"full": "12.0 ‡", "lora_qv": "12.0", "adapter": "12.0"}
    assert shown["latency IQR"].cells == ["11.0–14.0"] * 3
    assert shown["latency ms"].narrow is not None and "12.0‡" in shown["latency ms"].narrow.cells
    assert shown["latency ms"].note == (
        "‡: a latency that is not to be relied on: its interquartile range exceeds 20 % of the median, other processes "
        "took more than 10 % of the cores' time or 5 % of the GPU's, or the process got less than 90 % of a core. "
        "`bench measure` takes it again."
    )
    table = pd.read_csv(io.StringIO(leaderboard.csv([section])))
    table = table[table["kind"] == "run"].set_index("strategy")
    assert table.loc["full", "latency_busy"] in (True, "True")
    assert table["latency_spread"].tolist() == [3, 3, 3]


def test_records_without_quartiles_have_neither_spread_nor_mark() -> None:
    (section,) = sections_of(small())
    shown = columns(leaderboard.blocks([section])[0])
    assert "latency IQR" not in shown and shown["latency ms"].note == ""
    assert section.rows["latency_busy"].isna().all() and section.rows["latency_spread"].isna().all()


def test_latencies_of_another_device_are_said() -> None:
    place = {"gpu": "NVIDIA H100", "device": "cuda"}
    records = [replace(one, cost={**(one.cost or {}), "measurement": place}) for one in small()[:2]]
    notes = leaderboard.blocks(sections_of(records))[0].notes
    assert "Costs measured on NVIDIA A100; the peak is GPU memory." in notes
    assert "Latencies were measured again on NVIDIA H100." in notes
    assert not any("measured again" in note for note in leaderboard.blocks(sections_of(small()))[0].notes)
    # another row ran on the device on which these latencies were measured again
    other = [record(run(strategy="adapter", fold=fold, n_splits=2), official=False) for fold in (1, 2)]
    records += [replace(one, provenance={**(one.provenance or {}), "gpu": "NVIDIA H100"}) for one in other]
    notes = leaderboard.blocks(sections_of(records))[0].notes
    assert "Latencies of mobile_sam lora_qv were measured again on NVIDIA H100." in notes


def test_folds_keep_their_column_where_some_are_missing() -> None:
    own = leaderboard.blocks(sections_of(small(weights="random")))[0]
    assert own.caption == "The same in all rows: weights random, images at 1024 px, epochs 60, seed 0."
    assert columns(own)["folds"].cells == ["2/2", "2/2", "1/2 †"]
    alone = leaderboard.blocks(sections_of(small()[:1]))[0]  # the same in all rows, and marked
    assert "folds" not in alone.caption
    assert columns(alone)["folds"].cells == ["1/2 †"]


def test_weights_keep_their_column_where_they_differ() -> None:
    other = [record(run(fold=fold, n_splits=2, weights="random"), official=False) for fold in (1, 2)]
    own = leaderboard.blocks(sections_of(small()[:4] + other))[0]
    assert columns(own)["weights"].cells == ["official", "random", "–"]
    assert columns(own)["weights"].drop == 0


def test_80_columns_hold_scores_trainable_parameters_and_latency() -> None:
    # The longest shipped names have 16 and 15 characters; AJI and Dice are as wide as they get.
    runs = [run("efficient_sam_ti", "lora_all_linear", fold, n_splits=2, weights="random") for fold in (1, 2)]
    records = [record(runs[0], 0.1, 0.1, 0.2, official=False), record(runs[1], 0.4, 0.4, 0.3, official=False)]
    records += small(weights="random")[2:4]
    file = io.StringIO()
    Console(file=file, width=80).print(terminal(leaderboard.blocks(sections_of(records))[:1], width=80))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert lines[1:3] == ["The same in all rows: weights random, images at 1024 px, epochs 60, folds 2/2,", "seed 0."]
    assert lines[4:7] == [
        " " * 66 + "train-",
        " " * 66 + "  able latency",
        "  # backbone         strategy              PQ       AJI      Dice   enc.      ms",
    ]
    assert lines[8:10] == [
        "ref classical        –               45.0±1.4  49.0±1.4  82.0±2.8      0   230.0",
        "  1 efficient_sam_ti lora_all_linear 25.0±7.1 25.0±21.2 25.0±21.2 51.4 k    42.2",
    ]
    assert "No room for: trainable total, parameters, peak GiB, GFLOP, GPU h, pooled PQ, PQ by nuclei." in " ".join(
        lines
    )
    assert max(map(len, lines)) <= 80


def test_80_columns_hold_latency_and_trainable_parameters_of_a_sweep_too() -> None:
    records = [
        record(run("efficient_sam_ti", "lora_all_linear", fold, n_splits=2, options={"rank": rank}), official=False)
        for rank in (4, 16)
        for fold in (1, 2)
    ]
    records += [record(run(fold=1, n_splits=2), 0.1, 0.1, 0.1, official=False)]
    file = io.StringIO()
    Console(file=file, width=80).print(terminal(leaderboard.blocks(sections_of(records))[:1], width=80))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert " # method" in " ".join(lines) and "latency" in " ".join(lines) and "enc." in " ".join(lines)
    (place,) = [number for number, line in enumerate(lines) if "strategy.rank=16" in line]
    assert "efficient_sam_ti" in " ".join(lines[place - 1 : place + 1])
    assert any(line.startswith("– mobile_sam lora_qv") and "†" in line for line in lines)
    assert "No room for: folds" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_rows_that_tie_stand_in_the_order_of_their_settings_as_numbers() -> None:
    records = [record(run(n_splits=1, options={"rank": rank}), official=False) for rank in (16, 4, 128, 1, 32)]
    assert columns(leaderboard.blocks(sections_of(records))[0])["strategy.rank"].cells == ["1", "4", "16", "32", "128"]


def test_the_compact_table_knows_columns_by_their_keys() -> None:
    records = small()[:2] + small(seed=1)[:1] + [record(run("tiny_sam", n_splits=2), official=False)]
    (section,) = sections(leaderboard_frame(pooled(record_frame(records))), baseline_frame())
    block = leaderboard.blocks([section])[0]
    assert [column.key for column in block.columns][:5] == ["rank", "backbone", "strategy", "seeds", ""]
    assert [column.title for column in block.compact][:3] == ["#", "method", "seeds"]
    drops = {column.key: column.drop for column in block.compact}
    assert drops["seeds"] == drops["folds"] == leaderboard.MERELY_COUNTS


def test_names_of_settings_take_two_lines_where_there_is_no_room() -> None:
    records = [
        record(run(fold=f, n_splits=2, options={"rank": rank}), official=False) for rank in (4, 8) for f in (1, 2)
    ]
    column = columns(leaderboard.blocks(sections_of(records))[0])["strategy.rank"]
    assert column.narrow is not None and column.narrow.title == "strategy.\nrank"


def test_the_comparison_with_the_release_is_noted_for_other_images() -> None:
    sentence = "not the release: names as released, but other content: human_liver_01 (labels)"
    records = [record(run(fold=fold, n_splits=2), official=False, verified=sentence) for fold in (1, 2)]
    (section,) = sections_of(records)
    assert f"Images: {sentence}." in leaderboard.blocks([section])[0].notes
    assert "verification" not in leaderboard.csv([section])


def test_a_trained_row_below_the_classical_one_is_reported_as_a_fault() -> None:
    records = small()[:4] + [
        record(run(strategy="adapter", fold=f, n_splits=2), pq=0.3, official=False) for f in (1, 2)
    ]
    notes = leaderboard.blocks(sections_of(records))[0].notes
    assert [note.split(". ")[0] for note in notes if "Below" in note] == [
        "Below the classical row on PQ: mobile_sam adapter"
    ]
    assert any("`bench status RUN` shows the epochs of a run" in note for note in notes)


def test_records_without_the_parts_show_the_total_and_say_so() -> None:
    parts = {"parameters_trainable_encoder", "parameters_trainable_decoder"}
    older = [replace(r, cost=r.cost and {k: v for k, v in r.cost.items() if k not in parts}) for r in small()]
    own = leaderboard.blocks(sections_of(older))[0]
    assert "trainable encoder" not in columns(own)
    assert (
        columns(own)["trainable total"].cells == ["4.07 M", "0", "10.1 M"] and columns(own)["trainable total"].drop == 3
    )
    assert any("don't tell the trainable parameters of encoder and decoder apart" in note for note in own.notes)


def test_costs_of_different_devices_are_not_to_be_compared() -> None:
    records = small()
    other = record(run(strategy="adapter", n_splits=1), official=False)
    other = RunRecord(
        id=other.id,
        status="ok",
        run=other.run,
        scores=other.scores,
        cost=other.cost,
        provenance={**(other.provenance or {}), "gpu": "NVIDIA H200"},
    )
    same_section = [RunRecord(**{**vars(other), "run": run(strategy="adapter", n_splits=2)})]
    notes = leaderboard.blocks(sections_of(records + same_section))[0].notes
    assert "Costs were measured on NVIDIA A100, NVIDIA H200: compare them within one device only." in notes


def test_published_rows_stand_once() -> None:
    records = small() + [record(run(fold=f), pq=0.5) for f in range(1, 6)]
    blocks = leaderboard.blocks(sections_of(records))
    assert [block.title.split(":")[0].split(",")[0] for block in blocks] == [
        "nuinsseg",
        "Published on NuInsSeg",
        "images",
    ]
    assert blocks[1].title.endswith("no row is known to agree in protocol: not ranked with the above")


def test_markdown_of_a_row() -> None:
    text = markdown(leaderboard.blocks(sections_of(small())))
    row = next(line for line in text.splitlines() if "lora_qv" in line)
    assert [cell.strip() for cell in row.split("|")[1:7]] == [
        "1",
        "mobile_sam",
        "lora_qv",
        "52.0 ± 2.8",
        "56.0 ± 1.4",
        "81.0 ± 1.4",
    ]


def test_the_caption_names_the_convention_for_empty_images_where_there_are_some() -> None:
    assert "Empty" not in leaderboard.blocks(sections_of(small()))[0].caption
    some = {1: (2, 3), 2: (1, 1)}  # images of a fold that are empty in both, in truth
    records = [
        replace(one, scores={**one.scores, "n_empty_both": some[fold][0], "n_empty_true": some[fold][1]})
        for one in small()[:2]
        if one.scores and (fold := one.run["fold"])
    ]
    assert leaderboard.blocks(sections_of(records))[0].caption.endswith(
        " Empty in truth and prediction: up to 3 test images of a row (4 without a true nucleus); each counts 100 in "
        "every score. NucEval's scripts count 0 during training and 100 in metrics.py; other published rows do not say."
    )
    old = [replace(one, scores={**one.scores, "n_both_empty": 1.0}) for one in small()[:2] if one.scores]
    for one in old:
        del one.scores["n_empty_both"]  # type: ignore[union-attr]  # records of version 0.1 have the other name
    assert "up to 2 test images of a row (an unknown number" in leaderboard.blocks(sections_of(old))[0].caption


def test_csv_round_trip() -> None:
    (section,) = sections_of(small())
    table = pd.read_csv(io.StringIO(leaderboard.csv([section])))
    assert table["kind"].tolist() == ["run"] * 3 + ["published"] * 13
    row = table[table["strategy"] == "lora_qv"].iloc[0]
    assert row["pq_mean"] == pytest.approx(0.52, abs=1e-12)
    assert row["pq_sd"] == pytest.approx(0.02 * 2**0.5, abs=1e-12)
    assert (row["rank"], row["n_ok"], row["n_expected"]) == (1, 2, 2)
    failed = table[table["strategy"] == "full"].iloc[0]
    assert failed["reasons"].startswith("fold 2: failed (diverged: loss nan")
    assert pd.isna(failed["rank"])
    dual = table[table["backbone"] == "Dual decoder U-Net"].iloc[0]
    assert dual["pq_mean"] == pytest.approx(0.513)
    assert dual["parameters_total"] == 3_500_000
    assert dual["source"].startswith("Mahbod et al.")
    assert (dual["published_folds"], dual["published_selected_on_test"], dual["comparable"]) == (
        "unknown",
        "unknown",
        False,
    )
    assert ",2.0," not in leaderboard.csv([section]).splitlines()[1]  # counts stay whole numbers


def test_organ_block_puts_organs_down_and_rows_across() -> None:
    sections_ = sections_of(small())
    cells = sections_[0].rows["cell"].tolist()
    organs = pd.DataFrame(
        [(cells[0], "liver", 3, 60, 0.5), (cells[0], "brain", 1, 5, 0.25), (cells[2], "liver", 2, 40, 0.4)],
        columns=["cell", "organ", "n_images", "n_true", "pq"],
    )
    (block,) = organ_blocks(organs, sections_)
    assert {column.title: column.cells for column in block.columns} == {
        "organ": ["brain", "liver"],
        "images": ["1", "3"],
        "nuclei": ["5", "60"],
        "mobile_sam\nlora_qv": ["25.0", "50.0"],
        "mobile_sam\nfull\n†": ["–", "40.0"],
    }
    assert [column.note for column in block.columns[-2:]] == ["", "† Folds are missing."]


def test_few_organs_stand_across_where_rows_are_more() -> None:
    (section,) = sections_of(small())
    cells = section.rows["cell"].tolist()
    organs = pd.DataFrame(
        [(cell, organ, 3, 60, 0.5) for cell, organ in zip(cells, ["liver"] * 3, strict=True)],
        columns=["cell", "organ", "n_images", "n_true", "pq"],
    )
    (block,) = organ_blocks(organs, [section])
    assert {column.title: column.cells for column in block.columns} == {
        "method": ["mobile_sam lora_qv", "classical", "mobile_sam full †"],
        "liver\n3 images\n60 nuclei": ["50.0"] * 3,
    }
    assert block.notes[-1] == "† Folds are missing."


def test_rows_below_the_classical_one_are_counted_among_all() -> None:
    models = [("adapter", 0.3), ("zero_shot", 0.0), ("full", 0.2)]
    records = [r for r in small() if r.run["backbone"] == CLASSICAL]
    for strategy, pq in models:
        folds = (1,) if strategy == "full" else (1, 2)
        settings = [run(strategy=strategy, fold=fold, n_splits=2, weights="random") for fold in folds]
        records += [record(each, pq=pq, official=False) for each in settings]
    ending = "below the classical row on PQ, as random weights do when untrained or trained briefly."
    notes = leaderboard.blocks(sections_of(records))[0].notes
    assert f"All 3 other rows stay {ending}" in notes
    better = [record(run(fold=f, n_splits=2, weights="random"), pq=0.6, official=False) for f in (1, 2)]
    notes = leaderboard.blocks(sections_of(records + better))[0].notes
    assert f"3 of 4 other rows stay {ending}" in notes


def test_a_peak_at_a_smaller_micro_batch_is_marked() -> None:
    one = record(run(fold=1, n_splits=2), official=False)
    assert one.cost is not None
    halved = replace(one, cost={**one.cost, "micro_batch": 2, "micro_batch_halvings": 2})
    (own, *_) = leaderboard.blocks(sections_of([halved, record(run(fold=2, n_splits=2), official=False)]))
    expected = "These trained in micro-batches that fitted, and their peak is of these: mobile_sam lora_qv (2 of 8)."
    assert expected in own.notes
    assert not any("micro-batches" in note for note in leaderboard.blocks(sections_of(small()))[0].notes)


def lite(strategy: str, pq: float, **changes: object) -> list[RunRecord]:
    n = {"n_splits": 2, "weights": "official", **changes}
    return [
        record(run("lite_medsam", strategy, fold, **n), dice=0.8, aji=0.5, pq=pq, official=False) for fold in (1, 2)
    ]


def test_a_row_whose_pretraining_may_have_seen_the_images_has_a_mark_and_no_rank_beside_others() -> None:
    others = lite("full", 0.4, weights="random")
    (own, _) = leaderboard.blocks(sections_of([*small(), *lite("lora_qv", 0.7), *others]))
    shown = {title: column.cells for title, column in columns(own).items()}
    assert [*zip(shown["backbone"], shown["weights"], shown["#"], strict=True)][:4] == [
        ("lite_medsam", "official", "– §"),
        ("mobile_sam", "official", "1"),
        ("classical", "–", "ref"),
        ("lite_medsam", "random", "2"),
    ]
    (note,) = [note for note in own.notes if note.startswith("§")]
    assert note == (
        "§ LiteMedSAM with official weights: the pre-training may have seen images of this dataset (nobody has shown "
        "that it did not), so these rows are not ranked beside other rows."
    )


def test_marked_rows_alone_are_ranked_among_themselves() -> None:
    own = leaderboard.blocks(sections_of([*lite("lora_qv", 0.5), *lite("full", 0.7)]))[0]
    assert columns(own)["#"].cells == ["1 §", "2 §"]
    assert any(note.endswith("so these rows are ranked among themselves only.") for note in own.notes)


def test_rows_on_a_dataset_that_the_card_does_not_name_are_not_marked() -> None:
    own = leaderboard.blocks(sections_of(lite("full", 0.7, dataset="synthetic")))[0]
    assert columns(own)["#"].cells == ["1"]
