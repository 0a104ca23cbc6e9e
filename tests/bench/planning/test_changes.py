"""Changes of a grid, one setting at a time: their runs, their order, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import PlanError
from bench.grid import FoldSettings, Grid, Run, Settings
from bench.planning import plan, sweeps

DIGEST = "d" * 16
GRID = Grid(
    name="test",
    backbones=("sam_nano",),
    strategies=("decoder_only", "lora_qv"),
    settings=Settings(weights="random", folds=FoldSettings(n_splits=2)),
    folds=(1,),
    changes=({"train.ema": 0.99}, {"strategy.rank": 8}, {"scale": 2, "train.refit": True}),
)


def runs(grid: Grid, strategy: str = "lora_qv") -> list[Run]:
    return [run for run in plan.make(grid, DIGEST).runs if run.strategy == strategy]


def test_the_settings_as_they_are_come_first_and_every_change_is_made_of_them():
    assert [(run.train["ema"], run.options["rank"], run.scale, run.train["refit"]) for run in runs(GRID)] == [
        (0.0, 4, None, False),
        (0.99, 4, None, False),
        (0.0, 8, None, False),
        (0.0, 4, 2.0, True),  # a whole number becomes the float that --set gives
    ]


def test_a_change_that_a_strategy_does_not_have_is_not_planned_for_it():
    assert [(run.train["ema"], run.train["refit"]) for run in runs(GRID, "decoder_only")] == [
        (0.0, False),
        (0.99, False),
        (0.0, True),
    ]
    assert len([run for run in plan.make(GRID, DIGEST).runs if run.strategy == "classical"]) == 1


def test_every_combination_of_a_sweep_has_all_changes_and_ids_are_those_of_single_commands():
    swept = replace(GRID, sweep={"seed": (0, 1)})
    both = runs(swept)
    assert [(run.seed, run.train["ema"]) for run in both] == [(s, e) for s in (0, 1) for e in (0.0, 0.99, 0.0, 0.0)]
    changed, problems = sweeps.apply(replace(GRID, changes=()), ["train.ema=0.99", "seed=1"])
    assert problems == [] and both[5].id == runs(changed)[0].id
    assert plan.make(swept, DIGEST).sweep == (
        "sweep: seed 0, 1: 2 settings, each as it is and with one change: "
        "train.ema=0.99; strategy.rank=8; scale=2, train.refit=true"
    )


def test_unknown_settings_types_and_ranges_of_changes_are_reported_at_once():
    wrong = replace(GRID, changes=({"train.emma": 1.0}, {"train.ema": "high"}, {"dataset": "synthetic"}))
    with pytest.raises(PlanError) as refused:
        plan.make(wrong, DIGEST)
    unknown, kind, single = refused.value.problems
    assert unknown.startswith("unknown setting 'train.emma'. Did you mean 'train.ema'?")
    assert kind == "a change of train.ema is 'high'; it must be of type float."
    assert single.startswith("dataset can't take several values")
    with pytest.raises(PlanError, match=r"train\.ema is 1\.5; it must be at least 0 and below 1\."):
        plan.make(replace(GRID, changes=({"train.ema": 1.5},)), DIGEST)
    with pytest.raises(PlanError, match=r'changes is \{.*\}; write a tuple: changes=\(\{"train\.ema": 0\.99\},\)\.'):
        plan.make(replace(GRID, changes={"train.ema": 0.99}), DIGEST)  # type: ignore[arg-type]


def test_shipped_ablations_change_one_setting_in_each_row():
    made = plan.make(plan.load_grid("ablations"), DIGEST)
    assert made.skipped == ()
    for strategy in ("decoder_only", "lora_qv"):
        base, *changed = [run for run in made.runs if run.strategy == strategy and run.fold == 1]
        plain = {**base.as_dict(), **base.train, "train": None}
        for run in changed:
            values = {**run.as_dict(), **run.train, "train": None}
            assert len([name for name, value in values.items() if value != plain[name]]) == 1
