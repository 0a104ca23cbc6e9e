"""Sweeps: lists of values from the command line and from grid files, their runs, ids and problems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from bench.errors import PlanError
from bench.grid import FoldSettings, Grid, Run, Settings
from bench.planning import plan, sweeps
from registry import strategies

DIGEST = "d" * 16
GRID = Grid(
    name="test",
    backbones=("sam_nano",),
    strategies=("zero_shot", "lora_qv"),
    settings=Settings(weights="random", folds=FoldSettings(n_splits=2)),
)


def with_set(*assignments: str, grid: Grid = GRID) -> Grid:
    changed, problems = sweeps.apply(grid, assignments)
    assert problems == []
    return changed


def runs(grid: Grid, strategy: str = "lora_qv") -> list[Run]:
    return [run for run in plan.make(grid, DIGEST).runs if run.strategy == strategy]


@pytest.mark.parametrize(
    ("assignment", "key", "values"),
    [
        ("strategy.rank=1,4,8", "strategy.rank", (1, 4, 8)),
        ("strategy.rank=[1, 4, 8]", "strategy.rank", (1, 4, 8)),
        ("seed=(0,1)", "seed", (0, 1)),
        ("seed=2,1,2", "seed", (2, 1)),
        ("train.encoder_lr=1e-3,none", "train.encoder_lr", (1e-3, None)),
        ("scale=1,2", "scale", (1.0, 2.0)),
        ("train.augment=true,false", "train.augment", (True, False)),
        ("weights=random,official", "weights", ("random", "official")),
        ("train.schedule=cosine, polynomial", "train.schedule", ("cosine", "polynomial")),
        ("head=distance,watershed", "head", ("distance", "watershed")),
    ],
)
def test_a_list_of_values_is_a_sweep(assignment: str, key: str, values: tuple[Any, ...]) -> None:
    sweep = with_set(assignment).sweep
    assert sweep == {key: values}
    assert [type(value) for value in sweep[key]] == [type(value) for value in values]


def test_every_combination_is_planned_in_the_grids_order_and_the_last_key_varies_fastest() -> None:
    swept = with_set("strategy.rank=1,4", "seed=0,1")
    assert [(run.options["rank"], run.seed, run.fold) for run in runs(swept)] == [
        (rank, seed, fold) for rank in (1, 4) for seed in (0, 1) for fold in (1, 2)
    ]
    planned = plan.make(swept, DIGEST)
    assert [run.strategy for run in planned.runs] == ["classical"] * 2 + ["zero_shot"] * 4 + ["lora_qv"] * 8
    assert planned.sweep == "sweep: strategy.rank 1, 4 × seed 0, 1: 4 settings"


def test_the_ids_are_those_of_commands_with_one_value_each() -> None:
    swept = with_set("strategy.rank=1,4,8", "seed=0,1,2")
    single = [
        run.id
        for rank in (1, 4, 8)
        for seed in (0, 1, 2)
        for run in runs(with_set(f"strategy.rank={rank}", f"seed={seed}"))
    ]
    assert [run.id for run in runs(swept)] == single
    default = {run.id for run in plan.make(GRID, DIGEST).runs}
    assert default <= {run.id for run in plan.make(swept, DIGEST).runs}  # rank 4 and seed 0 are the defaults


def test_a_strategy_without_the_option_is_planned_once_and_so_is_the_classical_pipeline() -> None:
    swept = with_set("strategy.rank=1,4,8", "train.epochs=2,3")
    assert [run.fold for run in runs(swept, "zero_shot")] == [1, 2]
    assert [run.fold for run in runs(swept, "classical")] == [1, 2]
    assert [run.id for run in runs(swept, "zero_shot")] == [run.id for run in runs(GRID, "zero_shot")]
    ids = [run.id for run in plan.make(swept, DIGEST).runs]
    assert len(set(ids)) == len(ids) == 2 + 2 + 3 * 2 * 2


def test_an_impossible_pair_is_skipped_once_per_run() -> None:
    planned = plan.make(with_set("strategy.rank=1,4", "weights=random,official"), DIGEST)
    assert len({run.id for run, _ in planned.skipped}) == len(planned.skipped) == 2 + 2 * 2
    assert {run.weights for run, _ in planned.skipped} == {"official"}


def test_a_grid_file_sweeps_and_set_replaces_its_values(tmp_path) -> None:
    path = tmp_path / "ranks.py"
    path.write_text(
        "from bench.grid import Grid, Settings\n"
        'GRID = Grid(name="ranks", backbones=("sam_nano",), strategies=("lora_qv",), classical=False, folds=(1,),\n'
        '    settings=Settings(weights="random"), sweep={"strategy.rank": (1, 4, 8), "seed": range(2)})\n'
    )
    grid = plan.load_grid(str(path))
    assert [(run.options["rank"], run.seed) for run in runs(grid)] == [(r, s) for r in (1, 4, 8) for s in (0, 1)]
    assert [run.id for run in runs(grid)] == [
        run.id for run in runs(with_set("strategy.rank=1,4,8", "seed=0,1", grid=replace(grid, sweep={})))
    ]
    one_rank = with_set("strategy.rank=2", grid=grid)
    assert [(run.options["rank"], run.seed) for run in runs(one_rank)] == [(2, 0), (2, 1)]
    other_ranks = with_set("strategy.rank=2,16", grid=grid)
    assert sweeps.describe(other_ranks) == "strategy.rank 2, 16 × seed 0, 1: 4 settings"
    path.write_text(path.read_text().replace("sweep={", "sweep=4  # {"))
    path.write_text(path.read_text().partition("  #")[0] + ")")
    with pytest.raises(PlanError, match=r'sweep is 4; write sweep=\{"strategy\.rank": \(1, 4, 8\)\}\.'):
        plan.load_grid(str(path))


def test_whole_numbers_of_a_grid_file_give_the_ids_of_the_command_line() -> None:
    grid = replace(GRID, strategies=("adapter",))
    assert [r.id for r in runs(replace(grid, sweep={"strategy.scale": (1, 2), "scale": (2,)}), "adapter")] == [
        r.id for r in runs(with_set("strategy.scale=1,2", "scale=2", grid=grid), "adapter")
    ]


def test_every_value_is_checked_like_a_single_one_and_all_problems_come_at_once() -> None:
    grid, problems = sweeps.apply(
        GRID, ["strategy.rank=0,four,8,x", "rnk=1,2", "seed=-1,1", "train.schedule=cosine,steps", "seed2", "scale=1,,2"]
    )
    assert problems[:3] == [
        "--set 'seed2' has no '='; write KEY=VALUE, e.g. train.epochs=20.",
        "strategy.rank='four' is not of type int.",
        "strategy.rank='x' is not of type int.",
    ]
    assert problems[3].startswith("unknown setting 'rnk'. Did you mean 'strategy.rank'? Known: dataset, ")
    assert problems[4:] == [
        "unknown value for train.schedule: 'steps'. Known: cosine, polynomial.",
        "--set scale=1,,2 has an empty value; write scale=1,2.",
    ]
    with pytest.raises(PlanError) as caught:
        plan.make(grid, DIGEST)
    assert caught.value.problems == ("seed is -1; it must be 0 or more.", "strategy.rank is 0; it must be above 0.")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("dataset", "a plan is about one set of images"),
        ("folds.n_splits", "a plan is about one number of folds"),
        ("train.memory", "it changes no result, and so no run's id"),
    ],
)
def test_what_a_sweep_may_not_have_is_refused_with_the_reason(key: str, reason: str) -> None:
    expected = (
        f"{key} can't take several values: {reason}. Give one command per value; they can share a results folder."
    )
    assert sweeps.apply(GRID, [f"{key}=2,3"])[1] == [expected]
    assert sweeps.problems(replace(GRID, sweep={key: (2, 3)})) == [expected]


def test_problems_of_a_grids_sweep_are_reported_with_the_others() -> None:
    wrong: dict[str, Any] = {
        "strategy.rnk": (1, 2),
        "strategy.rank": 4,
        "seed": (),
        "train.epochs": (2, "many"),
        "train.lr": (1e-3, float("nan")),
    }
    with pytest.raises(PlanError) as caught:
        plan.make(replace(GRID, backbones=("sam_nan",), sweep=wrong), DIGEST)
    problems = caught.value.problems
    assert problems[0].startswith("unknown setting 'strategy.rnk'. Did you mean 'strategy.rank'?")
    assert problems[1:5] == (
        "the sweep of strategy.rank is 4; write a tuple of values, e.g. (4,).",
        "the sweep of seed is (); write a tuple of values, e.g. (1, 4, 8).",
        "the sweep of train.epochs holds 'many'; it must be of type int.",
        "the sweep of train.lr holds nan; it must be a finite number.",
    )
    assert problems[5].startswith("unknown backbone 'sam_nan'. Did you mean 'sam_nano'?")
    with pytest.raises(PlanError, match=r"option 'rank' of strategy 'lora_qv' is 'four'; it must be of type int\."):
        plan.make(replace(GRID, sweep={"strategy.rank": (1, "four")}), DIGEST)


def test_a_text_option_keeps_its_commas_and_a_tuple_option_is_left_to_grid_files(monkeypatch) -> None:
    strategies.names()
    store = strategies._store
    monkeypatch.setattr(store, "_entries", dict(store._entries))
    monkeypatch.setattr(store, "_sources", dict(store._sources))

    def named(sam, *, tokens, layers: str = "q", parts: tuple[str, ...] = ("q", "v"), mode: Literal[1, 2] = 1): ...

    strategies.register("named", summary="", source="", encoder_lr=1e-3)(named)
    grid = replace(GRID, strategies=("named",))
    changed = with_set("strategy.layers=q,v", "strategy.mode=1,2", grid=grid)
    assert (changed.settings.strategy, changed.sweep) == ({"layers": "q,v"}, {"strategy.mode": (1, 2)})
    assert sweeps.apply(grid, ["strategy.parts=q,v"])[1] == [
        "strategy.parts is of type tuple[str, ...], which --set can't read; set it in a grid file."
    ]
    both = replace(grid, sweep={"strategy.parts": (("q",), ("q", "v"))})
    assert [run.options["parts"] for run in runs(both, "named")] == [("q",)] * 2 + [("q", "v")] * 2


def test_the_heads_of_a_sweep_are_among_the_names_that_workers_must_know() -> None:
    assert plan.names_used(with_set("head=distance,watershed"))["head"] == ("distance", "watershed", "everything")


def test_a_grid_without_a_sweep_has_no_line_about_one() -> None:
    assert plan.make(GRID, DIGEST).sweep == "" == sweeps.describe(GRID)
    assert sweeps.describe(with_set("seed=3,3")) == "seed 3: 1 setting"
