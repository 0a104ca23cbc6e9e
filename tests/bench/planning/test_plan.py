"""Grids → runs with ids, impossible pairs, and every problem of a plan at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.errors import PlanError
from bench.grid import FoldSettings, Grid, Settings, TrainSettings, row_id
from bench.planning import overrides, plan

DIGEST = "d" * 16


def grid(**changes) -> Grid:
    return Grid(
        **(
            {
                "name": "test",
                "backbones": ("sam_nano",),
                "strategies": ("zero_shot", "lora_qv"),
                "settings": Settings(weights="random", folds=FoldSettings(n_splits=2)),
            }
            | changes
        )
    )


def test_the_default_grid_is_the_published_comparison():
    default = plan.make(plan.load_grid("default"), DIGEST)
    runs = [run for run in default.runs if run.backbone != "classical"]
    assert len(runs) == 7 * 6 * 5 == 210
    assert len(default.runs) - len(runs) == 5
    assert not default.skipped
    assert {run.image_size for run in runs} == {1024}
    assert {run.head for run in runs if run.strategy == "zero_shot"} == {"everything"}
    assert {run.head for run in runs if run.strategy != "zero_shot"} == {"distance"}


def test_the_grid_check_has_24_runs_of_random_weights_and_the_classical_row():
    check = plan.make(plan.load_grid("check"), DIGEST)
    assert len(check.runs) == 2 * 6 * 2 + 2
    assert {run.weights for run in check.runs} == {"random", "none"}


@pytest.mark.parametrize(("available", "weights"), [(("lite_medsam",), "official"), ((), "random")])
def test_available_weights_are_official_where_the_checkpoint_is_here_and_runs_hold_what_was_used(available, weights):
    quick = plan.make(plan.load_grid("quick"), DIGEST, available=available)
    assert len(quick.runs) == 2 * 2 + 2 and not quick.skipped
    of = {run.backbone: run.weights for run in quick.runs}
    assert of == {"lite_medsam": weights, "sam_nano": "random", "classical": "none"}
    said = replace(plan.load_grid("quick"), backbones=("lite_medsam",))
    said = replace(said, settings=replace(said.settings, weights=weights))
    ids = {run.id for run in quick.runs if run.backbone != "sam_nano"}
    assert {run.id for run in plan.make(said, DIGEST).runs} == ids


def test_weights_that_are_available_may_be_one_value_of_a_sweep():
    swept = replace(plan.load_grid("quick"), sweep={"weights": ("available", "random")}, classical=False)
    runs = plan.make(swept, DIGEST, available=("lite_medsam",)).runs
    assert {(run.backbone, run.weights) for run in runs} == {
        ("lite_medsam", "official"),
        ("lite_medsam", "random"),
        ("sam_nano", "random"),
    }


def test_the_grid_spleen_compares_weights_heads_and_seeds_and_dsb_he_trains_560_steps():
    spleen = plan.make(plan.load_grid("spleen"), DIGEST)
    runs = [run for run in spleen.runs if run.backbone != "classical"]
    assert (len(runs), len(spleen.runs), spleen.skipped) == (5 * 2 * 2 * 3 * 2, 122, ())
    assert {(run.weights, run.head, run.seed) for run in runs} == {
        (weights, head, seed)
        for weights in ("official", "random")
        for head in ("distance", "distance_hr")
        for seed in (0, 1, 2)
    }
    assert {run.embeddings for run in runs if run.strategy == "decoder_only"} == {"cached"}
    (train,) = {tuple(run.train.items()) for run in plan.make(plan.load_grid("dsb_he"), DIGEST).runs if run.train}
    assert dict(train)["epochs"] * 14 == 560 and dict(train)["batch_size"] == 4


def test_ids_are_unique_and_stable():
    runs = plan.make(grid(), DIGEST).runs
    assert len({run.id for run in runs}) == len(runs)
    assert [run.id for run in runs] == [run.id for run in plan.make(grid(), DIGEST).runs]
    assert all(len(run.id) == 12 for run in runs)


def test_an_option_leaves_the_ids_of_strategies_without_it():
    by_rank = [
        {r.strategy: r.id for r in plan.make(grid(settings=settings), DIGEST).runs}
        for settings in (overrides.apply(grid().settings, [f"strategy.rank={rank}"]) for rank in (4, 8))
    ]
    assert by_rank[0]["zero_shot"] == by_rank[1]["zero_shot"]
    assert by_rank[0]["lora_qv"] != by_rank[1]["lora_qv"]
    default = {r.strategy: r.id for r in plan.make(grid(), DIGEST).runs}
    assert by_rank[0]["lora_qv"] == default["lora_qv"]  # rank 4 is the default


def test_training_settings_leave_the_ids_of_untrained_runs():
    longer = overrides.apply(grid().settings, ["train.epochs=7"])
    ids = [{r.strategy: r.id for r in plan.make(grid(settings=s), DIGEST).runs} for s in (grid().settings, longer)]
    assert ids[0]["zero_shot"] == ids[1]["zero_shot"]
    assert ids[0]["lora_qv"] != ids[1]["lora_qv"]


def test_another_dataset_digest_gives_another_id():
    one, other = (plan.make(grid(), digest).runs[0].id for digest in ("a" * 16, "b" * 16))
    assert one != other


def test_the_folds_of_a_cell_share_its_id():
    runs = [r for r in plan.make(grid(), DIGEST).runs if r.strategy == "lora_qv"]
    assert [r.fold for r in runs] == [1, 2]
    assert len({row_id(r.as_dict()) for r in runs}) == 1


ALL = ("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")


def trains_of(*assignments: str, backbone: str = "sam_nano") -> dict[str, dict[str, Any]]:
    settings = overrides.apply(grid().settings, assignments)
    made = plan.make(grid(backbones=(backbone,), strategies=ALL, settings=settings), DIGEST)
    return {run.strategy: dict(run.train) for run in made.runs if run.train}


def test_the_decoders_rate_is_one_and_the_encoders_is_the_strategys_own():
    trains = trains_of()
    assert {train["lr"] for train in trains.values()} == {5e-4}
    own = {name: train["encoder_lr"] for name, train in trains.items()}
    assert own == {"decoder_only": None, "lora_qv": 1e-3, "lora_all_linear": 1e-3, "adapter": 5e-4, "full": 2e-4}
    trains = trains_of("train.lr=0.02", "train.encoder_lr=0.003")
    assert {train["lr"] for train in trains.values()} == {0.02}
    assert [train["encoder_lr"] for train in trains.values()] == [None, *[0.003] * 4]


def test_batchnorm_is_frozen_but_where_a_whole_encoder_is_trained_from_random_weights():
    def choices(*assignments: str, backbone: str = "mobile_sam") -> list[str]:
        return [train["batchnorm"] for train in trains_of(*assignments, backbone=backbone).values()]

    assert choices() == [*["frozen"] * 4, plan.RANDOM_BATCHNORM]
    assert choices("weights=official") == ["frozen"] * 5
    assert choices("weights=official", "train.batchnorm=settled") == ["frozen", *["settled"] * 4]
    assert choices("train.batchnorm=frozen") == ["frozen"] * 5
    assert choices("train.batchnorm=trained", backbone="sam_nano") == ["frozen"] * 5  # it has no BatchNorm


@pytest.mark.parametrize("value", ["0.1", "0.01"])
def test_weight_decay_that_looks_like_adamws_factor_is_refused_with_its_share(value):
    settings = overrides.apply(grid().settings, [f"train.weight_decay={value}"])
    with pytest.raises(PlanError) as caught:
        plan.make(grid(settings=settings), DIGEST)
    assert (
        f"train.weight_decay is {value}; it must be from 0 to 0.001: the share of itself that a step at the peak takes "
        f"from each weight. AdamW's factor of {value} would be {float(value) * 5e-4:.2g} at train.lr=0.0005."
    ) in str(caught.value)


def test_impossible_pairs_are_skipped_with_a_reason():
    official = plan.make(grid(settings=replace(grid().settings, weights="official")), DIGEST)
    assert [run.backbone for run in official.runs] == ["classical", "classical"]
    assert official.skipped[0][1] == "sam_nano has no official checkpoint; it runs with --set weights=random only"
    prompting = plan.make(grid(settings=replace(grid().settings, head="everything")), DIGEST)
    assert {run.strategy for run in prompting.runs} == {"classical", "zero_shot"}
    assert "can't be trained" in prompting.skipped[0][1]


def test_set_changes_every_documented_key():
    changed = overrides.apply(
        Settings(),
        [
            "dataset=synthetic",
            "head=watershed",
            "weights=random",
            "image_size=512",
            "scale=1.5",
            "seed=3",
            "folds.n_splits=3",
            "folds.seed=7",
            "train.epochs=2",
            "train.batch_size=2",
            "train.lr=1e-4",
            "train.weight_decay=0",
            "train.warmup_steps=10",
            "train.schedule=polynomial",
            "train.augment=false",
            "strategy.rank=8",
        ],
    )
    assert changed == Settings(
        dataset="synthetic",
        head="watershed",
        weights="random",
        image_size=512,
        scale=1.5,
        seed=3,
        folds=FoldSettings(3, 7),
        strategy={"rank": 8},
        train=TrainSettings(
            epochs=2, batch_size=2, lr=1e-4, weight_decay=0.0, warmup_steps=10, schedule="polynomial", augment=False
        ),
    )
    assert overrides.apply(changed, ["scale=none"]).scale is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=2", r"unknown setting 'train\.epoch'\. Did you mean 'train\.epochs'\?"),
        ("train=2", "unknown setting 'train'"),
        ("image_size.x=2", r"unknown setting 'image_size\.x'"),
        ("train.epochs=many", "train.epochs='many' is not of type int"),
        ("train.epochs=2.5", r"train.epochs='2\.5' is not of type int"),
        ("train.lr=nan", "train.lr='nan' is not a finite number"),
        ("train.augment=perhaps", "train.augment='perhaps' is not of type bool"),
        ("weights=ofical", "unknown value for weights: 'ofical'. Did you mean 'official'?"),
        ("strategy.rnk=2", r"unknown setting 'strategy\.rnk'\. Did you mean 'strategy\.rank'\?"),
        ("strategy.rank=two", "strategy.rank='two' is not of type int"),
        ("epochs", "--set 'epochs' has no '='; write KEY=VALUE"),
    ],
)
def test_a_bad_setting_is_named_with_the_nearest_match(assignment, message):
    with pytest.raises(PlanError, match=message.replace("?", r"\?") if "ofical" in message else message):
        overrides.apply(Settings(), [assignment])


def test_all_problems_are_reported_at_once():
    with pytest.raises(PlanError) as caught:
        overrides.apply(Settings(), ["train.epoch=2", "seed=x", "folds.n_splits=2"])
    assert len(caught.value.problems) == 2
    with pytest.raises(PlanError) as caught:
        plan.make(
            grid(
                backbones=("sam_nan", "sam_nano", "lite_medsam"),
                strategies=("lora",),
                settings=Settings(
                    dataset="nuinseg", head="dist", image_size=100, train=TrainSettings(epochs=0, lr=-1.0)
                ),
            ),
            DIGEST,
        )
    text = str(caught.value)
    for expected in (
        "unknown backbone 'sam_nan'. Did you mean 'sam_nano'?",
        "unknown strategy 'lora'.",
        "unknown head 'dist'. Did you mean 'distance'?",
        "unknown dataset 'nuinseg'. Did you mean 'nuinsseg'?",
        "image_size 100 is not a positive multiple of 64; try 128.",
        "image_size 100 is not a positive multiple of 16; try 96.",
        "train.epochs is 0; it must be 1 or more.",
        "train.lr is -1.0; it must be above 0 and at most 1.",
    ):
        assert expected in text


def test_a_grid_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        '"""My question."""\nfrom bench.grid import Grid\n'
        'GRID = Grid(name="mine", backbones=("sam_nano",), strategies=("full",))\n'
    )
    assert plan.load_grid(str(path)).summary == "My question."
    path.write_text("X = 1")
    with pytest.raises(PlanError, match="defines no GRID; write GRID = Grid"):
        plan.load_grid(str(path))
    with pytest.raises(
        PlanError,
        match=r"there is no grid file '.*gone\.py'; give a path, or one of: ablations, check, default, dsb_he, quick",
    ):
        plan.load_grid(str(tmp_path / "gone.py"))
    with pytest.raises(PlanError, match=r"unknown grid 'defualt'\. Did you mean 'default'"):
        plan.load_grid("defualt")


def test_problems_of_a_grid_file_are_reported(tmp_path):
    with pytest.raises(PlanError) as caught:
        plan.make(
            grid(folds=(1, 7), settings=replace(grid().settings, strategy={"rnak": 8, "rank": 0}, scale=0.0)), DIGEST
        )
    text = str(caught.value)
    assert "unknown setting 'strategy.rnak'. Did you mean 'strategy.rank'?" in text
    assert "the grid names fold 7; with folds.n_splits=2 there are folds 1 to 2." in text
    assert "strategy.rank is 0; it must be above 0." in text
    assert "scale is 0.0; it must be above 0 and at most 8, or none." in text
    path = tmp_path / "faulty.py"
    path.write_text("GRID = Gird()")
    with pytest.raises(PlanError, match=r"the grid file .*faulty\.py can't be run: NameError: name 'Gird'"):
        plan.load_grid(str(path))


def test_holes_are_filled_by_runs_whose_head_can_and_the_search_is_planned_for_all():
    small = Grid("g", ("sam_nano",), ("decoder_only", "zero_shot"), Settings(weights="random"), folds=(1,))
    changed = replace(small, settings=overrides.apply(small.settings, ["predict.fill_holes=true"]))
    runs = {run.strategy: run for run in plan.make(changed, DIGEST).runs}
    assert [runs[name].fill_holes for name in ("decoder_only", "zero_shot", "classical")] == [True, False, False]
    assert {name: run.search for name, run in runs.items()} == {
        "decoder_only": "starts",
        "zero_shot": "starts",
        "classical": "version_0.1",  # nothing is searched
    }
    before = {run.strategy: run for run in plan.make(small, DIGEST).runs}
    assert runs["zero_shot"].id == before["zero_shot"].id
    assert runs["decoder_only"].id != before["decoder_only"].id
