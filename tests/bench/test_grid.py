"""Ids of runs: frozen for the shipped grids, and unchanged by new settings that have their neutral value."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import asdict, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench import grid
from bench.grid import Run, Settings, TrainSettings, identity, neutral, row_id
from bench.planning import overrides, plan
from registry import strategies
from registry.errors import StrategyError
from registry.store import Store

DIGEST = "0123456789abcdef"
# Ids of version 0.1.0 under that dataset digest: number of runs, three of them, SHA-256 of all, separated by blanks.
FROZEN = {
    ("check", ()): (26, "33361f98e13c", "b936770dc5a8", "1490811f996e", "56f6bca4b06f4e33"),
    ("check", ("train.lr=0.002", "image_size=512")): (
        26,
        "33361f98e13c",
        "b936770dc5a8",
        "90fec90ca73d",
        "43d45c2b80706a04",
    ),
    ("default", ()): (215, "520d42101468", "5ce5de943b0c", "79a26b0f65a9", "94113fe70ea492e8"),
    ("default", ("scale=2",)): (215, "520d42101468", "5ce5de943b0c", "888c30880b4f", "42c76d18f8181cb5"),
    ("default", ("strategy.rank=8", "folds.n_splits=3")): (
        129,
        "bd914d2526ed",
        "c806c6a774d5",
        "483bdec19128",
        "a795732a60f77979",
    ),
}


@pytest.fixture
def stores() -> Iterator[None]:
    """Undo what a test registers."""
    saved = [(s, dict(s._entries), dict(s._sources), set(s._local)) for s in Store._stores]
    yield
    for store, entries, sources, local in saved:
        store._entries, store._sources, store._local = entries, sources, local


def lora_run(settings: Settings | None = None, strategy: str = "lora_qv") -> Run:
    small = grid.Grid("g", ("sam_nano",), (strategy,), settings or Settings(weights="random"), folds=(1,))
    return next(run for run in plan.make(small, DIGEST).runs if run.strategy == strategy)


RATES_OF_0_1 = {"decoder_only": 5e-4, "adapter": 5e-4, "lora_qv": 1e-3, "lora_all_linear": 1e-3, "full": 2e-4}


def as_in_0_1(run: Run, rate: float | None) -> Run:
    """Return a run with the settings of version 0.1: one rate for all, AdamW's decay, early stopping, one pass."""
    run = replace(run, search="version_0.1", rules_version="0.1")
    if not run.train:
        return run
    lr = rate or RATES_OF_0_1[run.strategy]
    earlier = {"lr": lr, "encoder_lr": None, "weight_decay": 0.1, "patience": 12, "batchnorm": "frozen"}
    return replace(run, train={**run.train, **earlier})


@pytest.mark.parametrize(("name", "assignments"), FROZEN)
def test_runs_of_the_shipped_grids_with_the_settings_of_version_0_1_have_its_ids(
    name: str, assignments: tuple[str, ...]
) -> None:
    loaded = plan.load_grid(name)
    changed = replace(loaded, settings=overrides.apply(loaded.settings, assignments))
    made = plan.make(changed, DIGEST)
    rate = changed.settings.train.lr
    runs = [*made.runs, *(run for run, _ in made.skipped)]
    ids = [as_in_0_1(run, None if rate == TrainSettings().lr else rate).id for run in runs]
    whole = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]
    assert (len(ids), ids[0], ids[1], ids[-1], whole) == FROZEN[name, assignments]


def with_new_train_setting(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> type:
    """Let `TrainSettings` have a further field `mixup`, as a later version might."""
    later = make_dataclass(
        "TrainSettings", [("mixup", float, neutral(0.0, **arguments))], bases=(TrainSettings,), frozen=True
    )
    monkeypatch.setattr(grid, "TrainSettings", later)
    return later


def test_a_new_training_setting_at_its_neutral_value_leaves_the_id_and_the_record_holds_it(monkeypatch) -> None:
    before = lora_run()
    later = with_new_train_setting(monkeypatch)
    neutral_run = lora_run(Settings(weights="random", train=later()))
    assert neutral_run.id == before.id
    assert neutral_run.as_dict()["train"]["mixup"] == 0.0
    changed = lora_run(Settings(weights="random", train=later(mixup=0.999)))
    assert changed.id != before.id
    assert changed.train["mixup"] == 0.999


def test_a_new_default_other_than_the_neutral_value_changes_the_id(monkeypatch) -> None:
    before = lora_run()
    later = with_new_train_setting(monkeypatch, default=0.999)
    assert lora_run(Settings(weights="random", train=later())).id != before.id
    assert lora_run(Settings(weights="random", train=later(mixup=0.0))).id == before.id


def test_a_run_of_an_older_plan_takes_the_neutral_value_and_keeps_its_id(monkeypatch) -> None:
    written = json.loads(json.dumps(lora_run().as_dict()))
    earlier = Run(**written).id
    with_new_train_setting(monkeypatch, default=0.999)
    read = Run(**written)
    assert read.train["mixup"] == 0.0
    assert read.id == earlier
    assert Run(**{**written, "train": {}}).train == {}  # trains nothing: no settings to complete


def test_a_new_field_of_run_at_its_neutral_value_leaves_ids_and_rows(monkeypatch) -> None:
    before = lora_run()
    values = before.as_dict()
    later = make_dataclass("Run", [("stains", tuple, neutral(("H", "E")))], bases=(Run,), frozen=True)
    monkeypatch.setattr(grid, "Run", later)
    neutral_run = later(**values)
    assert neutral_run.id == before.id
    assert neutral_run.as_dict()["stains"] == ("H", "E")
    read_back = json.loads(json.dumps(neutral_run.as_dict()))  # the tuple is a list there
    assert later(**read_back).id == before.id
    assert row_id(read_back) == row_id(values)
    changed = later(**values, stains=("H",))
    assert changed.id != before.id
    assert row_id(changed.as_dict()) != row_id(values)


def test_a_run_pickled_by_an_earlier_version_is_completed() -> None:
    run = lora_run(Settings(weights="random"))
    earlier = {**run.__dict__, "train": {key: run.train[key] for key in ("epochs", "batch_size", "lr")}}
    del earlier["embeddings"]
    again = Run.__new__(Run)
    again.__setstate__(earlier)
    assert (again.embeddings, again.train["memory"], again.train["validate_on"]) == ("computed", "auto", "image")
    assert pickle.loads(pickle.dumps(run)) == run


def test_an_operational_setting_never_enters_an_id() -> None:
    plain = lora_run(Settings(weights="random"))
    changed = lora_run(Settings(weights="random", train=TrainSettings(memory="checkpoint")))
    assert changed.train["memory"] == "checkpoint"
    assert changed.id == plain.id
    assert row_id(changed.as_dict()) == row_id(plain.as_dict())
    assert "train.memory" not in grid.named_settings(changed.as_dict())
    older = json.loads(json.dumps(plain.as_dict()))
    del older["train"]["memory"]
    assert Run(**older).train["memory"] == "auto"


def register(name: str, apply: Any, **arguments: Any) -> None:
    strategies.register(name, summary="", source="", encoder_lr=1e-3, **arguments)(apply)


def test_a_new_option_of_a_strategy_at_its_neutral_value_leaves_the_id(stores: None) -> None:
    def first(sam, *, tokens, rank: int = 4):
        pass

    def second(sam, *, tokens, rank: int = 4, dropout: float = 0.0):
        pass

    register("growing", first)
    before = lora_run(strategy="growing")
    del next(s for s in Store._stores if s._kind == "strategy")._entries["growing"]
    register("growing", second, neutral={"dropout": 0.0})
    after = lora_run(strategy="growing")
    assert after.id == before.id
    assert after.as_dict()["options"] == {"rank": 4, "dropout": 0.0}
    assert row_id(after.as_dict()) == row_id(before.as_dict())
    changed = lora_run(Settings(weights="random", strategy={"dropout": 0.1}), "growing")
    assert changed.id != before.id
    zero = lora_run(Settings(weights="random", strategy={"dropout": 0}), "growing")  # 0 is allowed: it is neutral
    assert zero.id == before.id
    # Read where the strategy is not registered: the run itself knows what was neutral.
    del next(s for s in Store._stores if s._kind == "strategy")._entries["growing"]
    assert Run(**json.loads(json.dumps(after.as_dict()))).id == before.id


def test_a_run_of_an_older_plan_is_done_with_the_neutral_option(stores: None) -> None:
    def later(sam, *, tokens, rank: int = 4, dropout: float = 0.1):
        pass

    register("growing", later, neutral={"dropout": 0.0})
    old = replace(lora_run(), strategy="growing", options={"rank": 4})
    completed = plan.with_neutral_options(old)
    assert completed.options == {"rank": 4, "dropout": 0.0}
    assert completed.id == old.id
    assert lora_run(strategy="growing").id != old.id  # the new default is another value
    unknown = replace(old, strategy="of a plug-in that is not loaded")
    assert plan.with_neutral_options(unknown) is unknown


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropuot": 0.0}, "unknown option of strategy 'growing' in neutral: 'dropuot'. Did you mean 'dropout'?"),
        ({"dropout": "no"}, "option 'dropout' of strategy 'growing' is 'no'; it must be of type float."),
    ],
)
def test_a_neutral_value_that_does_not_fit_the_strategy_is_refused(stores: None, values: Any, message: str) -> None:
    def apply(sam, *, tokens, dropout: float = 0.0):
        pass

    with pytest.raises(StrategyError) as caught:
        register("growing", apply, neutral=values)
    assert message in str(caught.value)
    assert "growing" not in strategies.names()


def test_no_key_is_added_to_the_records_of_strategies_without_neutral_options() -> None:
    run = lora_run(strategy="decoder_only")
    assert set(run.as_dict()) == {
        *("backbone", "strategy", "head", "dataset", "dataset_digest", "fold", "n_splits", "fold_seed"),
        *("validation_fraction", "seed", "weights", "image_size", "scale", "options", "train", "embeddings", "tta"),
        *("fill_holes", "rules_version", "search"),
    }
    left_out = {
        **grid.neutral_values(Run),
        **grid.neutral_values(TrainSettings),
        **grid.operational_values(TrainSettings),
    }
    named = identity(run.as_dict())
    # Those that have a new default.
    assert left_out.keys() & (named.keys() | named["train"].keys()) == {"search", "rules_version"}
    assert run.train == asdict(TrainSettings()) | {"batchnorm": "frozen"}


def test_runs_of_plans_of_version_0_1_have_the_ids_of_their_folders() -> None:
    results = Path(__file__).parents[1] / "fixtures" / "results_of_version_0.1"
    folders = {path.name for path in (results / "runs").iterdir()}
    values = [one for path in (results / "plans").glob("*.json") for one in json.loads(path.read_text())["runs"]]
    assert folders <= {Run(**one).id for one in values}
