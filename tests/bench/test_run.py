"""One run in this process: blocks of its record, divergence, shared devices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from planned_run import RUN as PLANNED
from pyarrow import parquet

from bench import metrics
from bench.errors import AuditError, DivergedError, InterruptedRunError
from bench.grid import CLASSICAL, Run, TrainSettings
from bench.results import history
from bench.results.history import TIMINGS_AND_MEMORY
from bench.results.measurement import MEASURED
from bench.results.record import HISTORY_FILENAME, folder
from bench.run import execute
from bench.training import data, events, fit, loop, measure, predictions, stopwatch
from bench.training.context import RunContext
from bench.training.split import split
from registry import datasets

TRAIN = {**vars(TrainSettings(epochs=2, batch_size=2, warmup_steps=0, lr=1e-3))}
RUN = replace(PLANNED, strategy="decoder_only", dataset_digest="0" * 16, n_splits=2, validation_fraction=0.34)
RUN = replace(RUN, options={}, train=TRAIN)
WHOLE = replace(RUN, train={**TRAIN, "batch_size": 1})


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


def test_phases_come_in_order_and_training_reports_every_step(images, tmp_path):
    phases: list[str] = []
    execute(RUN, images, RunContext(tmp_path), progress=lambda phase, values=None: phases.append(phase))
    assert list(dict.fromkeys(phases)) == [
        "preparing",
        "training",
        "choosing post-processing",
        "evaluating",
        "measuring",
        "recording",
    ]
    assert (phases.count("training"), phases.count("evaluating")) == (2, 3)


NEVER_MEASURED = {"gpu_seconds", "encoder_latency_unmerged_ms"}  # on a CPU, without LoRA
LOSSES: list[tuple[int, float]] = []
"""Epoch and loss of every step of the run in the fixture `whole`."""


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory) -> Path:
    """Results folder with the run `WHOLE`, which nothing interrupted."""

    def progress(phase: str, values: Any = None) -> None:
        if phase == "training":
            LOSSES.append((values["epoch"], values["loss"]))

    results = tmp_path_factory.mktemp("whole")
    record = execute(WHOLE, images, RunContext(results), progress=progress)
    assert record.cost is not None and "history" not in record.cost  # nothing stands twice
    return results


def test_history_of_a_run_holds_the_mean_loss_and_its_terms_of_every_epoch(whole):
    rows = history.read(folder(whole, WHOLE.id))
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        of_epoch = [loss for epoch, loss in LOSSES if epoch == row["epoch"]]
        assert len(of_epoch) == 2 and of_epoch[0] != of_epoch[1]
        assert row["loss"] == sum(of_epoch) / 2
        terms = {name: value for name, value in row.items() if name.startswith("loss_")}
        assert len(terms) == 5 and sum(terms.values()) == pytest.approx(row["loss"])
        assert None not in (row["pq"], row["aji"], row["dice"], row["peak_bytes"], row["images_per_s"])
        assert row["grad_norm"] > 0


def test_interrupted_run_ends_with_the_same_history_and_all_events_for_tensorboard(images, whole, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    steps = iter(range(1, 100))
    context = RunContext(tmp_path, log="tensorboard")
    with pytest.raises(InterruptedRunError):
        execute(WHOLE, images, context, should_stop=lambda: next(steps) >= 3)
    execute(WHOLE, images, context)
    place = folder(tmp_path, WHOLE.id)
    expected, reached = (
        parquet.read_table(path / HISTORY_FILENAME).drop_columns(TIMINGS_AND_MEMORY)
        for path in (folder(whole, WHOLE.id), place)
    )
    assert reached.num_rows == 2 and reached.equals(expected)  # bit for bit

    rows = history.read(place)
    written = accumulator.EventAccumulator(str(place / "tensorboard")).Reload()
    named = [name for name, value in rows[0].items() if value is not None]
    tags = {events.tag(name): name for name in named if name not in ("epoch", "step")}
    assert set(written.Tags()["scalars"]) == tags.keys() >= {"training/loss", "validation/pq", "cost/images_per_s"}
    for tag, name in tags.items():
        scalars = [(event.step, event.value) for event in written.Scalars(tag)]
        assert scalars == [(1, pytest.approx(rows[0][name])), (2, pytest.approx(rows[1][name]))]


def test_full_disk_ends_no_training_for_the_sake_of_its_history_and_events(images, tmp_path, monkeypatch, caplog):
    pytest.importorskip("tensorboard")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "write", full)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    record = execute(RUN, images, RunContext(tmp_path, log="tensorboard"))
    assert record.status == "ok" and history.read(folder(tmp_path, RUN.id)) == []
    place = folder(tmp_path, RUN.id)
    of_history = f"The history can't be written to {place} ([Errno 28] No space left on device); the training goes on."
    of_events = f"Events can't be written to {place / 'tensorboard'} ([Errno 28] No space left on device); the training"
    assert caplog.messages.count(of_history) == 4  # at the start, after two epochs, and at the end
    assert [text for text in caplog.messages if "Events" in text] == [f"{of_events} goes on without them."]  # once


def test_log_without_tensorboard_fails_with_the_name_of_the_extra(images, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'nuclei-bench\[tensorboard\]'"):
        execute(RUN, images, RunContext(tmp_path, log="tensorboard"))


@pytest.mark.parametrize("name", ["decoder_only", "zero_shot", CLASSICAL])
def test_timings_of_a_shared_device_are_missing(images, tmp_path, name):
    run = replace(RUN, strategy=name, train=TRAIN if name == "decoder_only" else {})
    run = replace(run, backbone=CLASSICAL) if name == CLASSICAL else run
    alone = execute(run, images, RunContext(tmp_path / "alone")).cost
    shared = execute(run, images, RunContext(tmp_path / "shared", is_shared=True)).cost
    assert alone is not None and shared is not None
    seconds = [[row["seconds"] for row in history.read(folder(tmp_path / at, run.id))] for at in ("alone", "shared")]
    assert (seconds[1], None in seconds[0]) == ([None] * len(seconds[0]), False)
    assert len(seconds[0]) == (2 if name == "decoder_only" else 0)
    timings = {key for key in alone if key.endswith(("_seconds", "_latency_ms", "_per_s"))}
    timings |= {*MEASURED, "post_processing_parts"} & alone.keys()
    assert {"prediction_seconds", "post_processing_seconds", "postprocessing_latency_ms"} <= timings
    assert ({"train_seconds", "validation_seconds"} <= timings) == (name == "decoder_only")
    assert {key: shared[key] for key in timings} == dict.fromkeys(timings)
    assert {key for key in timings if alone[key] is None} <= NEVER_MEASURED
    rest = alone.keys() - timings - {"train_peak_bytes", "inference_peak_bytes"}
    assert {key: shared[key] for key in rest} == {key: alone[key] for key in rest}


@pytest.mark.parametrize("first_is_shared", [True, False])
def test_timings_are_missing_if_an_earlier_attempt_shared_its_device(images, tmp_path, first_is_shared):
    with pytest.raises(InterruptedRunError):
        execute(RUN, images, RunContext(tmp_path, is_shared=first_is_shared), should_stop=lambda: True)
    cost = execute(RUN, images, RunContext(tmp_path)).cost
    assert cost is not None and cost["train_steps"] == 2
    timings = {key for key in measure.TIMINGS if key in cost}
    assert timings == {*measure.TIMINGS} - {"refit_seconds"}
    assert {key for key in timings if cost[key] is None} == (timings if first_is_shared else NEVER_MEASURED)


@pytest.mark.parametrize("rate", [1e20, 1e36])
def test_training_with_a_huge_learning_rate_diverges_with_step_and_advice(images, tmp_path, rate):
    run = replace(RUN, train={**TRAIN, "lr": rate, "clip_norm": 1e30, "batch_size": 1})
    with pytest.raises(DivergedError) as raised:
        execute(run, images, RunContext(tmp_path))
    assert "at step 2; try a smaller train.lr or train.encoder_lr." in str(raised.value)
    assert not list(tmp_path.rglob("scores.parquet"))


def test_last_step_that_makes_the_logits_infinite_is_divergence_and_no_score_of_zero(images, tmp_path):
    """No later loss shows it, because there is no later step."""
    run = replace(RUN, train={**TRAIN, "lr": 1e20, "clip_norm": 1e30, "epochs": 1})
    with pytest.raises(DivergedError, match=r"after step 1, .* not finite; try a smaller train\.lr or"):
        execute(run, images, RunContext(tmp_path))


@pytest.mark.parametrize("strategy", ["zero_shot", "decoder_only"])
def test_weights_with_nan_are_named_before_the_audit(images, tmp_path, monkeypatch, strategy):
    build = fit.build

    def with_nan(run: Run, context: RunContext) -> Any:
        sam = build(run, context)
        with torch.no_grad():
            sam.get_parameter("mask_decoder.iou_token.weight")[0, 0] = float("nan")
        return sam

    monkeypatch.setattr(fit, "build", with_nan)
    run = replace(RUN, strategy=strategy, train=TRAIN if strategy == "decoder_only" else {})
    with pytest.raises(AuditError, match=r"NaN or infinite values: 1 of 256 in mask_decoder\.iou_token\.weight"):
        execute(run, images, RunContext(tmp_path))


def test_record_tells_on_which_images_post_processing_was_chosen_and_on_which_it_was_scored(images, tmp_path):
    train = {**TRAIN, "epochs": 1, "choose_by": "searched_pq"}
    run = replace(RUN, train=train, validation_fraction=0.6, search="starts", fill_holes=True)
    record = execute(run, images, RunContext(tmp_path))
    assert record.scores is not None
    choice, parameters = record.scores["choice"], record.scores["post_processing"]
    assert choice["is_held_out"] and choice["candidates"] > 50 and parameters["fill_holes"] == 1.0
    validated = {image.stem for image in split(run, images).validation}
    assert {*choice["chosen_on"], *choice["reported_on"]} == validated
    assert len(choice["chosen_on"]) == len(choice["reported_on"]) == 1
    assert {"pq", "aji", "dice"} <= record.scores["validation"].keys() == choice["default_scores"].keys()
    (epoch,) = history.read(folder(tmp_path, run.id))
    assert epoch["searched_pq"] >= epoch["pq"]


def test_images_with_long_and_undecodable_names_leave_all_outputs(images, tmp_path):
    renamed = {}
    for number, image in enumerate(images.values()):
        stem = f"{number}" + ("\udce9" if number % 2 else "x") * (240 if number % 2 else 244)
        renamed[stem] = replace(image, stem=stem, group=stem, organ="c\udcf4lon")
    run = replace(RUN, backbone=CLASSICAL, strategy=CLASSICAL, train={})
    record = execute(run, renamed, RunContext(tmp_path))
    assert record.scores is not None and record.scores["n_images"] == 3
    rows = pd.read_parquet(tmp_path / "runs" / run.id / "scores.parquet")
    assert set(rows["organ"]) == {r"c\xf4lon"} and len(set(rows["stem"])) == 3
    assert len(list((tmp_path / "runs" / run.id / "predictions").iterdir())) == 6


def test_gpu_seconds_are_of_training_and_predictions_on_a_gpu_without_post_processing():
    cost = {"memory_kind": "cuda", "train_seconds": 3000.0, "validation_seconds": 40.0, "prediction_seconds": 20.0}
    cost["post_processing_seconds"] = 500.0
    assert measure.gpu_seconds(cost) == 3060.0
    assert measure.gpu_seconds({"memory_kind": "cuda", "prediction_seconds": 60.0}) == 60.0
    assert measure.gpu_seconds({**cost, "memory_kind": "rss"}) is None


def test_seconds_of_an_interrupted_run_are_those_of_its_steps_and_validations_and_tell_post_processing(
    images, tmp_path, monkeypatch
):
    """The clock moves by nothing but a step (1 s), a prediction (10 s) and a scoring (100 s)."""
    now, calls = 0.0, Counter[str]()

    def moved(module: Any, name: str, seconds: float) -> None:
        before = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += seconds
            calls[name] += 1
            return before(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module in (stopwatch, loop):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    moved(loop, "step", 1.0)
    moved(predictions, "raw_prediction", 10.0)
    moved(metrics, "score", 100.0)
    steps, context = iter(range(1, 100)), RunContext(tmp_path, fast_paths=frozenset())
    with pytest.raises(InterruptedRunError):
        execute(WHOLE, images, context, should_stop=lambda: next(steps) >= 3)
    cost, parts = execute(WHOLE, images, context).cost, split(WHOLE, images)
    assert cost is not None and cost["train_seconds"] == 4.0
    assert cost["validation_seconds"] == 2 * 10.0 * len(parts.validation)
    predicted = 10.0 * (calls["raw_prediction"] - 1)  # the last one is post-processed for its latency
    assert cost["prediction_seconds"] == predicted - cost["validation_seconds"] >= 10.0 * len(parts.test)
    waited = cost["post_processing_parts"]
    assert waited["test"] == 100.0 * len(parts.test) and min(waited["validation"], waited["choice"]) >= 100.0
    assert cost["post_processing_seconds"] == sum(waited.values()) == 100.0 * calls["score"]
    rows = history.read(folder(tmp_path, WHOLE.id))
    assert [row["seconds"] for row in rows] == [2.0, 2.0]
    assert sum(row["post_processing_seconds"] for row in rows) == waited["validation"]
