"""Split of the images for one fold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from planned_run import RUN as PLANNED

from bench.training.data import Image
from bench.training.split import split

RUN = replace(PLANNED, strategy="decoder_only", dataset_digest="0" * 16, validation_fraction=0.25, options={}, train={})


def images(groups: list[str]) -> dict[str, Image]:
    pixels, label_map = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32)
    return {f"liver_{i:02}": Image(f"liver_{i:02}", "liver", g, pixels, label_map) for i, g in enumerate(groups)}


def stems(parts: Any) -> list[set[str]]:
    return [{image.stem for image in part} for part in (parts.train, parts.validation, parts.test)]


def test_every_image_is_in_one_part_and_tested_in_one_fold() -> None:
    dataset = images([str(i) for i in range(20)])
    tested: list[str] = []
    for fold in range(1, 6):
        train, validation, test = stems(split(replace(RUN, fold=fold), dataset))
        assert (len(train), len(validation), len(test)) == (12, 4, 4)
        assert train | validation | test == set(dataset)
        tested += test
    assert sorted(tested) == sorted(dataset)


def test_groups_stay_together() -> None:
    dataset = images([str(i // 2) for i in range(20)])
    for part in stems(split(RUN, dataset)):
        assert part == {stem for stem, image in dataset.items() if image.group in {dataset[s].group for s in part}}


def test_validation_images_depend_on_the_seed_and_test_images_on_the_seed_of_the_folds() -> None:
    dataset = images([str(i) for i in range(20)])
    first, other_seed = stems(split(RUN, dataset)), stems(split(replace(RUN, seed=1), dataset))
    assert first[2] == other_seed[2] and first[1] != other_seed[1]
    assert stems(split(replace(RUN, fold_seed=20), dataset))[2] != first[2]


def test_run_without_choices_gets_the_default_fraction() -> None:
    parts = split(replace(RUN, validation_fraction=None), images([str(i) for i in range(20)]))
    assert [len(part) for part in stems(parts)] == [13, 3, 4]
