"""Tuning of encoder rates: trials that are shared, interrupted, diverged, and trained by several processes."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from planned_run import RUN as PLANNED

from bench.errors import DivergedError, InterruptedRunError
from bench.grid import Run, TrainSettings
from bench.planning.tuning import trials
from bench.results import history, run_lock
from bench.results import tuning as files
from bench.results.record import folder, read, write
from bench.results.tuning import TrialResult, read_trial, trials_folder, write_trial
from bench.run import execute
from bench.training import data, tuning
from bench.training.context import RunContext
from registry import datasets

TRAIN = vars(TrainSettings(epochs=1, batch_size=4, warmup_steps=0, encoder_lr=5e-4, tune=3, tune_epochs=1))
RUN = replace(
    PLANNED, dataset_digest="0" * 16, n_splits=2, validation_fraction=0.34, train={**TRAIN, "batchnorm": "frozen"}
)
SECOND = replace(RUN, fold=2)


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


@pytest.fixture
def trained(monkeypatch) -> list[float]:
    """Rates of the trials that were trained; a trial is scored at once, and the best rate is the smallest."""
    rates: list[float] = []

    def fit_model(trial: Run, parts, context, *, progress, should_stop):
        assert parts.test == [] and parts.train and parts.validation
        rates.append(trial.train["encoder_lr"])
        return fitted(trial.train["encoder_lr"])

    monkeypatch.setattr(tuning, "fit_model", fit_model)
    return rates


def fitted(rate: float) -> SimpleNamespace:
    scores = {"pq": 0.5 - rate, "aji": 0.4, "dice": 0.8}
    choice = {"chosen_on": ["a"], "reported_on": ["b"], "scores": {**scores, "pq": 0.7 - rate}}
    cost = {"memory_kind": "resident", "train_seconds": 3.0, "prediction_seconds": 1.0}
    return SimpleNamespace(scores={"choice": choice, "validation": scores}, cost=cost)


def trial_of(results: Path, place: int) -> Path:
    return folder(trials_folder(results), trials(RUN, 1)[place].id)


def test_a_tuned_run_trains_with_the_chosen_rate_and_its_record_has_the_curve(images, tmp_path, monkeypatch):
    run = replace(RUN, train={**RUN.train, "tune": 2})
    phases: list[tuple[str, object]] = []
    record = execute(
        run, images, RunContext(tmp_path), progress=lambda name, values=None: phases.append((name, values))
    )
    block = record.tuning
    assert block is not None and record.cost is not None
    assert [block[name] for name in ("fold", "seed", "epochs", "budget", "centre")] == [1, 0, 1, 2, 5e-4]
    assert [candidate["encoder_lr"] for candidate in block["candidates"]] == [1.58e-4, 5e-4]
    assert all(candidate["status"] == "ok" and candidate["pq"] is not None for candidate in block["candidates"])
    assert record.cost["tuning_seconds"] == sum(candidate["seconds"] for candidate in block["candidates"]) > 0
    assert record.cost["tuning_gpu_seconds"] is None  # on a CPU
    (row,) = history.read(folder(tmp_path, run.id))
    assert row["encoder_lr"] / row["lr"] == pytest.approx(block["chosen"] / run.train["lr"])
    names = [name for name, _ in phases]
    assert names.index("tuning") < names.index("training") and names.count("tuning") == 2
    assert ("tuning", 1, 2) in [(name, values.get("rate"), values.get("rates")) for name, values in phases if values]
    assert record.run == run.as_dict() and record.id == run.id
    write(tmp_path, record)
    assert read(tmp_path, run.id) == record
    # Nothing is left of the trials but their results and histories.
    for trial in trials(run, 1):
        assert {path.name for path in folder(trials_folder(tmp_path), trial.id).iterdir()} == {
            "trial.json",
            "history.parquet",
        }

    monkeypatch.setattr(tuning, "fit_model", lambda *_, **__: pytest.fail("the trials are done"))
    for other in (replace(run, fold=2), replace(run, seed=3)):
        tuned = tuning.tune(other, images, RunContext(tmp_path))
        assert tuned.block == block and tuned.encoder_lr == block["chosen"]


def test_each_fold_tries_for_itself_where_asked(images, tmp_path, trained):
    own = [replace(run, train={**RUN.train, "tune_fold": "own"}) for run in (RUN, SECOND)]
    blocks = [tuning.tune(run, images, RunContext(tmp_path)).block for run in own]
    assert [block["fold"] for block in blocks if block] == [1, 2] and len(trained) == 6


def test_scores_are_means_over_both_halves_of_the_validation_images(images, tmp_path, trained):
    block = tuning.tune(RUN, images, RunContext(tmp_path)).block
    assert block is not None and [one["pq"] for one in block["candidates"]] == [
        pytest.approx(0.6 - rate) for rate in (1.58e-4, 5e-4, 1.58e-3)
    ]
    assert (block["chosen"], block["at_edge"], block["tied"], block["seconds"]) == (1.58e-4, True, 0, 12.0)


def test_trials_of_equal_scores_take_the_strategys_own_rate_and_count_the_ties(images, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "fit_model", lambda *_, **__: fitted(0.5))
    block = tuning.tune(RUN, images, RunContext(tmp_path)).block
    assert block is not None and (block["chosen"], block["tied"], block["at_edge"]) == (5e-4, 2, False)


def test_interrupted_between_two_rates_it_goes_on_with_those_that_are_left(images, tmp_path, trained):
    with pytest.raises(InterruptedRunError, match=r"stopped after 1 of 3 encoder rates\."):
        tuning.tune(RUN, images, RunContext(tmp_path), should_stop=lambda: len(trained) == 1)
    assert files.read(folder(tmp_path, RUN.id)) is None
    folder(tmp_path, RUN.id).mkdir(parents=True, exist_ok=True)
    tuned = tuning.tune(RUN, images, RunContext(tmp_path))
    assert trained == [5e-4, 1.58e-4, 1.58e-3] and tuned.encoder_lr == 1.58e-4


def test_a_larger_budget_trains_only_what_was_not_tried(images, tmp_path, trained):
    tuning.tune(RUN, images, RunContext(tmp_path))
    tuning.tune(replace(RUN, train={**RUN.train, "tune": 5}), images, RunContext(tmp_path))
    assert trained == [5e-4, 1.58e-4, 1.58e-3, 5e-5, 5e-3]


def test_a_rate_that_diverges_counts_as_tried_and_is_not_chosen(images, tmp_path, monkeypatch):
    def fit_model(trial: Run, *_, **__):
        if trial.train["encoder_lr"] < 1e-3:
            raise DivergedError("the loss became nan at step 2.")
        return fitted(trial.train["encoder_lr"])

    monkeypatch.setattr(tuning, "fit_model", fit_model)
    block = tuning.tune(RUN, images, RunContext(tmp_path)).block
    assert block is not None and (block["chosen"], block["budget"]) == (1.58e-3, 3)
    first = block["candidates"][0]
    assert (first["status"], first["reason"], first["pq"]) == ("diverged", "the loss became nan at step 2.", None)
    assert block["seconds"] is not None and first["seconds"] is not None


def test_a_run_fails_where_every_rate_diverges_and_the_trials_are_not_trained_again(images, tmp_path, monkeypatch):
    calls = []

    def fit_model(trial: Run, *_, **__):
        calls.append(trial.id)
        raise DivergedError("the loss became nan at step 2.")

    monkeypatch.setattr(tuning, "fit_model", fit_model)
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"each of 3 encoder rates diverged, the smallest of them 0\.000158; "):
            tuning.tune(RUN, images, RunContext(tmp_path))
    assert len(calls) == 3


def test_a_rate_that_another_process_tries_is_left_for_last_and_waited_for(images, tmp_path, trained, monkeypatch):
    place = trial_of(tmp_path, 0)
    lock = run_lock.acquire(place)
    assert lock is not None
    waits: list[int] = []

    def finish_elsewhere(_: float) -> None:
        waits.append(len(trained))
        if len(waits) == 2:
            write_trial(place, TrialResult(5e-4, "ok", pq=0.9, aji=0.5, dice=0.8, seconds=7.0))
            lock.release()

    monkeypatch.setattr(tuning.time, "sleep", finish_elsewhere)
    tuned = tuning.tune(RUN, images, RunContext(tmp_path))
    assert trained == [1.58e-4, 1.58e-3] and waits == [2, 2] and tuned.encoder_lr == 5e-4


def test_a_rate_whose_process_died_is_tried_by_the_next_one(images, tmp_path, trained):
    place = trial_of(tmp_path, 0)
    dead = multiprocessing.get_context("fork").Process(target=run_lock.acquire, args=(place,))
    dead.start()
    dead.join()
    assert run_lock.is_abandoned(place)
    tuning.tune(RUN, images, RunContext(tmp_path))
    assert trained[0] == 5e-4 and read_trial(place) is not None


def test_two_processes_at_once_train_every_rate_once_between_them(images, tmp_path, monkeypatch):
    context = multiprocessing.get_context("fork")
    both_train = context.Barrier(2, timeout=60)
    log = tmp_path / "trained.txt"

    def fit_model(trial: Run, *_, **__):
        with log.open("a") as file:
            file.write(f"{trial.train['encoder_lr']}\n")
        if len(log.read_text().splitlines()) <= 2:
            both_train.wait()  # neither has finished its first rate before the other has begun one
        return fitted(trial.train["encoder_lr"])

    monkeypatch.setattr(tuning, "fit_model", fit_model)
    monkeypatch.setattr(tuning, "POLL_S", 0.01)
    workers = [context.Process(target=tuning.tune, args=(run, images, RunContext(tmp_path))) for run in (RUN, SECOND)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(map(float, log.read_text().split())) == [1.58e-4, 5e-4, 1.58e-3]
    blocks = [files.read(folder(tmp_path, run.id)) for run in (RUN, SECOND)]
    assert blocks[0] == blocks[1] is not None


def test_a_frozen_encoder_has_nothing_to_tune_and_its_record_says_so(images, tmp_path):
    run = replace(RUN, strategy="decoder_only", options={}, train={**RUN.train, "tune": 0, "encoder_lr": None})
    assert tuning.tune(run, images, RunContext(tmp_path)).block == {"budget": 0, "reason": tuning.UNTUNED}
    untuned = replace(RUN, train={**RUN.train, "tune": 0})
    assert tuning.tune(untuned, images, RunContext(tmp_path)) == tuning.Tuned()
    assert tuning.Tuned().cost == {}
