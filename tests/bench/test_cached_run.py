"""One run on cached embeddings: the same from an empty, a full, a damaged and no cache, interrupted or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planned_run import RUN as PLANNED
from pyarrow import parquet

from bench.cache.store import LIMIT, files
from bench.errors import InterruptedRunError
from bench.grid import Run, TrainSettings
from bench.results.history import TIMINGS_AND_MEMORY
from bench.results.record import HISTORY_FILENAME, RunRecord, folder
from bench.run import execute
from bench.training import data
from bench.training.context import RunContext
from registry import datasets

TRAIN = vars(TrainSettings(epochs=2, batch_size=1, warmup_steps=0, lr=1e-3))
RUN = replace(PLANNED, strategy="decoder_only", dataset_digest="0" * 16, n_splits=2, validation_fraction=0.34)
RUN = replace(RUN, options={}, train=TRAIN, embeddings="cached")


@pytest.fixture(scope="module")
def images(tiny_data: Path) -> dict[str, data.Image]:
    dataset = datasets.get("synthetic")
    return data.load(dataset, dataset.samples(tiny_data))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(root))
        yield root / "nuclei-bench" / "embeddings"


@pytest.fixture(scope="module")
def whole(images, cache, tmp_path_factory) -> tuple[Path, RunRecord]:
    """Results folder and record of the run that filled the cache."""
    results = tmp_path_factory.mktemp("whole")
    return results, execute(RUN, images, RunContext(results))


def outcome(results: Path, run: Run = RUN):
    history = parquet.read_table(folder(results, run.id) / HISTORY_FILENAME).drop_columns(TIMINGS_AND_MEMORY)
    scores = parquet.read_table(folder(results, run.id) / "scores.parquet")
    return history.to_pylist(), scores.to_pylist()


def counts(record: RunRecord) -> tuple[int, int]:
    assert record.cost is not None
    return record.cost["embeddings_read"], record.cost["embeddings_computed"]


def test_record_says_what_was_read_and_computed_and_how_far_a_cached_embedding_differs(whole, cache):
    _, record = whole
    # 1 in the audit, 2 epochs of 2 training images, 1 validation image three times, 3 test images.
    assert sum(counts(record)) == 1 + 2 * 2 + 1 * 3 + 3
    assert counts(record)[1] == sum(file.path.suffix == ".safetensors" for file in files(cache)) >= 6
    assert record.audit is not None and 0 < record.audit["embedding_max_abs_difference"] < 0.01
    assert record.run["embeddings"] == "cached" and record.run["train"]["stain_variants"] == 2


def test_second_training_reads_the_embeddings_of_all_images_and_both_trainings_are_counted(images, whole, tmp_path):
    run = replace(RUN, train={**TRAIN, "refit": True, "ema": 0.9})
    again = execute(run, images, RunContext(tmp_path))
    assert again.cost is not None
    # 1 more in the audit, and 3 images in each epoch up to the chosen one; the test images are read once.
    assert sum(counts(again)) == sum(counts(whole[1])) + 1 + 3 * again.cost["refit_epochs"]
    assert again.audit is not None and 0 < again.audit["embedding_max_abs_difference"] < 0.01


def test_zero_shot_reads_the_embeddings_that_another_strategy_has_cached(images, whole, tmp_path):
    run = replace(RUN, strategy="zero_shot", head="everything", train={})
    record = execute(run, images, RunContext(tmp_path))
    assert counts(record) == (5, 0)  # 1 in the audit, 1 validation and 3 test images


def test_run_that_met_a_damaged_cache_and_goes_on_without_one_ends_the_same(
    images, whole, cache, tmp_path, monkeypatch, caplog
):
    for file in files(cache):
        file.path.write_bytes(file.path.read_bytes()[:-1])
    steps = iter(range(1, 100))
    with pytest.raises(InterruptedRunError):
        execute(RUN, images, RunContext(tmp_path), should_stop=lambda: next(steps) >= 3)
    assert "is damaged" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv(LIMIT, "0")
    record = execute(RUN, images, RunContext(tmp_path))
    assert counts(record)[0] == 0
    assert outcome(tmp_path) == outcome(whole[0]) and record.scores == whole[1].scores  # bit for bit
