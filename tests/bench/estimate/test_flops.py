"""Stored step costs: kept in the user's cache, read from the program's own file, and outdated by changed code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned_run import RUN

from bench.estimate import flops
from bench.planning import plan
from registry import backbones, heads, source_digest, strategies


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nuclei-bench" / "estimates"


def test_a_count_is_kept_and_read_back(cache, monkeypatch):
    assert flops.cached_step_cost(RUN) is None
    cost = flops.count_step(RUN)
    (file,) = cache.iterdir()
    assert file.name.startswith("sam_nano-lora_qv-")
    assert flops.cached_step_cost(RUN) == cost


@pytest.mark.parametrize("change", [{"fold": 2}, {"seed": 3}, {"n_splits": 4}, {"train": {**RUN.train, "epochs": 20}}])
def test_runs_of_the_same_model_share_a_count(change):
    cost = flops.count_step(RUN)
    assert flops.cached_step_cost(replace(RUN, **change)) == cost


@pytest.mark.parametrize("change", [{"options": {"rank": 8}}, {"image_size": 128}, {"train": {}}])
def test_runs_of_other_models_do_not(change):
    flops.count_step(RUN)
    assert flops.cached_step_cost(replace(RUN, **change)) is None


@pytest.mark.parametrize("content", ['{"parameters": 1', "[]", '{"parameters": 1}'])
def test_a_damaged_file_is_counted_again(cache, content):
    cost = flops.count_step(RUN)
    (file,) = cache.iterdir()
    file.write_text(content)
    assert flops.cached_step_cost(RUN) is None
    assert flops.count_step(RUN) == flops.cached_step_cost(RUN) == cost


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert flops.count_step(RUN).train_flops > 0
    assert flops.cached_step_cost(RUN) is None


def test_the_code_of_the_head_is_part_of_the_key(monkeypatch):
    key, other = flops.model_key(RUN), heads.get("watershed")
    monkeypatch.setattr(flops.heads, "get", lambda name: other)
    assert flops.model_key(RUN) != key


def test_changed_code_of_a_dataset_outdates_nothing():
    sources = source_digest._with_imports(
        path
        for thing in (backbones.get("sam_nano").build, strategies.get("lora_qv").apply)
        if (path := source_digest._source_file(thing))
    )
    names = {path.relative_to(source_digest.REGISTRY).as_posix() for path in sources}
    assert {"backbones/sam_nano.py", "modules/sam_vit.py", "strategies/lora_qv.py", "lora.py", "sam.py"} <= names
    unrelated = {"pixels.py", "layout.py", "archive.py", "download.py", "weights.py", "atomic.py", "cache_dir.py"}
    assert not names & (unrelated | {"store.py", "errors.py", "backbones/tiny_vit.py", "strategies/full.py"})
    assert not any(name.startswith("datasets/") for name in names)


def test_the_grids_of_the_program_are_counted_already():
    for name in plan.grid_names():
        runs = [run for run in plan.make(plan.load_grid(name), "d").runs if run.backbone != "classical"]
        missing = {f"{run.backbone} × {run.strategy}" for run in runs if flops.cached_step_cost(run) is None}
        assert missing == set(), "code of models in registry/ has changed: run `make counts`"


def test_counts_of_the_program_are_equal_to_new_ones():
    runs = plan.make(plan.load_grid("check"), "d").runs
    run = next(run for run in runs if (run.backbone, run.strategy) == ("sam_nano", "lora_qv"))
    stored = flops.cached_step_cost(run)
    assert stored == flops.count_step(run)
