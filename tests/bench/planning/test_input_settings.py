"""Settings of augmentation and test-time augmentation in plans: what is refused, and which runs they concern."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import PlanError
from bench.grid import Grid, PredictSettings, Settings, TrainSettings, identity
from bench.planning import plan

GRID = Grid(
    name="inputs",
    backbones=("sam_nano",),
    strategies=("decoder_only", "zero_shot"),
    folds=(1,),
    settings=Settings(dataset="synthetic", weights="random", image_size=64),
    classical=False,
)


def planned(**settings: object) -> dict[str, plan.Run]:
    grid = replace(GRID, settings=replace(GRID.settings, **settings))  # type: ignore[arg-type]
    return {run.strategy: run for run in plan.make(grid, "0").runs}


def test_tta_changes_runs_whose_head_has_logits() -> None:
    plain, averaged = planned(), planned(predict=PredictSettings(tta=True))
    assert averaged["decoder_only"].tta and plain["decoder_only"].id != averaged["decoder_only"].id
    assert not averaged["zero_shot"].tta and plain["zero_shot"].id == averaged["zero_shot"].id
    assert "tta" not in identity(plain["decoder_only"].as_dict())


def test_augmentation_of_the_past_leaves_ids() -> None:
    basic, cellvit = planned(), planned(train=TrainSettings(augmentation="cellvit"))
    assert "augmentation" not in identity(basic["decoder_only"].as_dict())["train"]
    assert basic["decoder_only"].id != cellvit["decoder_only"].id
    assert planned(embeddings="cached", train=TrainSettings(augmentation="cellvit"))["decoder_only"].train[
        "augmentation"
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"train": TrainSettings(augmentation="cellvit", augment=False)},
            "train.augmentation=cellvit augments nothing with train.augment=false; set train.augment=true.",
        ),
        (
            {"train": TrainSettings(augmentation="cellvit", stain_variants=1), "embeddings": "cached"},
            "train.augmentation=cellvit is in the stain variants of cached embeddings, and with train.stain_variants=1 "
            "there is the image itself only; set train.stain_variants=2 or more, or embeddings=computed.",
        ),
    ],
)
def test_augmentation_that_could_change_nothing_is_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(**settings)
    assert caught.value.problems == (sentence,)
