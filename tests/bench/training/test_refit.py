"""Second training on training and validation images: its phases, its interruption, and what its record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planned_run import RUN as PLANNED

from bench.errors import InterruptedRunError
from bench.grid import Run, TrainSettings
from bench.results import history
from bench.results.history import TIMINGS_AND_MEMORY
from bench.results.record import RunRecord, folder
from bench.run import execute
from bench.training import checkpoint, data, fit, refit
from bench.training.context import RunContext
from bench.training.loop_settings import LoopSettings
from bench.training.split import split
from registry import datasets, trained

TRAIN = vars(TrainSettings(epochs=3, batch_size=2, warmup_steps=0, batchnorm="frozen", refit=True))
RUN = replace(PLANNED, strategy="decoder_only", dataset_digest="0" * 16, n_splits=2, validation_fraction=0.34)
RUN = replace(RUN, options={}, train=TRAIN)


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


@pytest.fixture(scope="module")
def best_of_second(monkeypatch_module: pytest.MonkeyPatch) -> None:
    """Validations of which the second is the best, and no latencies, which would take most of the time."""
    scores = {"pq": 0.0, "aji": 0.0, "dice": 0.0}

    def validate(run: Run, sam: Any, *rest: Any) -> dict[str, float]:
        sam.eval()
        CALLS.append(1)
        return {**scores, "pq": 0.5 if len(CALLS) % 3 == 2 else 0.1}

    monkeypatch_module.setattr(fit, "_validate", validate)
    monkeypatch_module.setattr("bench.run.costs.of_model", lambda *_, **__: {})


CALLS: list[int] = []


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def whole(images, best_of_second, tmp_path_factory) -> tuple[Path, RunRecord, list[tuple[str, dict[str, Any]]]]:
    """Results folder, record and progress of the run, which nothing interrupted."""
    CALLS.clear()
    results, seen = tmp_path_factory.mktemp("whole"), []

    def progress(phase: str, values: dict[str, Any] | None = None) -> None:
        seen.append((phase, dict(values or {})))

    return results, execute(RUN, images, RunContext(results), progress=progress), seen


def test_phases_come_in_order_and_the_test_fold_is_read_by_the_second_model_alone(whole):
    _, _, seen = whole
    assert list(dict.fromkeys(phase for phase, _ in seen)) == [
        *("preparing", "training", "choosing post-processing", "training again", "evaluating", "measuring"),
        "recording",
    ]
    again = [values for phase, values in seen if phase == "training again"]
    assert [(v["step"], v["steps"], v["epoch"], v["epochs"]) for v in again] == [
        *((1, 4, 1, 2), (2, 4, 1, 2), (3, 4, 2, 2), (4, 4, 2, 2))
    ]


def test_record_says_which_epoch_was_taken_and_what_the_second_training_cost(whole):
    _, record, _ = whole
    cost = record.cost
    assert cost is not None
    assert (cost["best_epoch"], cost["refit_epochs"]) == (2, 2)
    assert (cost["train_steps"], cost["refit_steps"]) == (3 * 1, 2 * 2)  # 2 images in an epoch, then 3: batches of 2
    assert cost["refit_seconds"] > 0 and cost["train_seconds"] > 0 and "prediction_seconds" in cost
    assert record.scores is not None and len(record.scores["choice"]["chosen_on"]) >= 1


def test_history_holds_both_trainings_the_second_with_rates_of_the_whole_schedule_and_without_scores(whole):
    results, _, _ = whole
    rows = history.read(folder(results, RUN.id))
    assert [(row["training"], row["epoch"], row["step"], row["pq"]) for row in rows] == [
        *((1, 1, 1, 0.1), (1, 2, 2, 0.5), (1, 3, 3, 0.1)),
        *((2, 1, 2, None), (2, 2, 4, None)),
    ]
    assert all(row["loss"] > 0 for row in rows)
    settings = LoopSettings(
        **{name: TRAIN[name] for name in ("epochs", "batch_size", "lr", "warmup_steps", "schedule", "clip_norm")},
        **{name: TRAIN[name] for name in ("validate_every", "patience")},
        steps_per_epoch=2,
        micro_batch=2,
    )
    assert rows[-1]["lr"] == settings.learning_rate(3) > 0  # cut off, not compressed to two epochs
    assert settings.learning_rate(3) > settings.learning_rate(5)


def test_second_model_is_that_of_a_training_on_all_images_from_the_start(whole, images, tmp_path):
    results, _, _ = whole
    parts, context = split(RUN, images), RunContext(tmp_path)
    choice = refit.Choice(2, {}, {}, [])
    sam = fit.build(RUN, context)
    fit.fit(RUN, sam, refit.joined(parts), context, choice=choice, progress=lambda *_: None, should_stop=lambda: False)
    saved = fit.build(RUN, context)
    trained.load(saved, folder(results, RUN.id) / "trained")
    pairs = list(zip(sam.parameters(), saved.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)


def as_trained(results: Path) -> dict[str, torch.Tensor]:
    sam = fit.build(RUN, RunContext(results))
    trained.load(sam, folder(results, RUN.id) / "trained")
    return {name: p.detach().clone() for name, p in sam.named_parameters() if p.requires_grad}


def repeatable(results: Path) -> list[dict[str, Any]]:
    rows = history.read(folder(results, RUN.id))
    return [{name: value for name, value in row.items() if name not in TIMINGS_AND_MEMORY} for row in rows]


def test_run_interrupted_in_both_trainings_continues_in_the_one_that_it_was_in(whole, images, best_of_second, tmp_path):
    results, record, _ = whole
    CALLS.clear()
    path, phases = folder(tmp_path, RUN.id) / "state.pt", []
    for is_second in (False, True):  # two steps of the first training's three, then the third and one of the second's
        steps = iter(range(1, 100))
        with pytest.raises(InterruptedRunError):
            execute(RUN, images, RunContext(tmp_path), should_stop=lambda steps=steps: next(steps) >= 2)
        assert (checkpoint.read_choice(path) is not None) == is_second
    again = execute(RUN, images, RunContext(tmp_path), progress=lambda phase, values=None: phases.append(phase))
    assert "choosing post-processing" not in phases and "training" not in phases
    expected, reached = as_trained(results), as_trained(tmp_path)
    assert all(torch.equal(expected[name], reached[name]) for name in expected)
    assert repeatable(tmp_path) == repeatable(results)
    assert again.scores == record.scores
    steps_of = ("train_steps", "best_epoch", "refit_steps", "refit_epochs")
    assert [again.cost[name] for name in steps_of] == [record.cost[name] for name in steps_of]  # type: ignore[index]


def test_first_training_does_not_take_the_state_of_the_second_one(whole, images, tmp_path):
    results, _, _ = whole
    sam, context = fit.build(RUN, RunContext(tmp_path)), RunContext(tmp_path)
    parameters = {name: p for name, p in sam.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = fit.setup.optimizer(RUN, sam, context)
    path = folder(results, RUN.id) / "state.pt"
    assert checkpoint.restore(path, parameters, optimizer) is None
    assert all(torch.equal(before[name], p) for name, p in parameters.items())
    assert checkpoint.restore(path, parameters, optimizer, is_second=True) is not None


def test_run_without_the_setting_never_takes_the_state_of_a_second_training(whole):
    results, _, _ = whole
    path = folder(results, RUN.id) / "state.pt"
    assert refit.begun(RUN, results) is not None and path.exists()
    assert refit.begun(replace(RUN, train={**TRAIN, "refit": False}), results) is None
