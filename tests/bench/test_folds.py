"""Folds: the official assignment, groups, the inner split and the file of the assignment."""

from __future__ import annotations

import csv
import hashlib
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench import folds
from bench.errors import FoldError
from registry.contract import Sample

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="module")
def official() -> dict[str, int]:
    path = SHARED / "data" / "nuinsseg_files_and_folds.csv"
    if not path.is_file():
        pytest.skip("shared/data/nuinsseg_files_and_folds.csv is not beside the checkout")
    with path.open() as file:
        return {Path(row["file"]).stem: int(row["test_fold"]) for row in csv.DictReader(file)}


def test_reproduces_the_official_folds_in_any_order(official: dict[str, int]) -> None:
    names = list(official)
    assert folds.assign(names) == official
    assert folds.assign(sorted(names)) == official
    random.Random(0).shuffle(names)
    assert folds.assign(names) == official
    assert folds.assign(names, groups={name: name for name in names}) == official
    assert sorted(Counter(official.values()).items()) == [(1, 133), (2, 133), (3, 133), (4, 133), (5, 133)]


@pytest.mark.parametrize(
    ("n", "n_splits", "seed"), [(2, 2, 0), (7, 3, 1), (10, 5, 19), (23, 4, 2**32 - 1), (665, 10, 7)]
)
def test_folds_are_those_of_scikit_learn(n: int, n_splits: int, seed: int) -> None:
    from sklearn.model_selection import KFold

    names = [f"{number:03d}" for number in range(n)]
    splits = KFold(n_splits, shuffle=True, random_state=seed).split(names)
    expected = {names[index]: fold for fold, (_, tested) in enumerate(splits, start=1) for index in tested}
    assert folds.assign(names, n_splits, seed) == expected


def test_every_part_of_the_release_keeps_the_official_folds(official: dict[str, int]) -> None:
    spleen = [name for name in official if name.startswith("human_spleen")]
    without_mouse = [name for name in official if not name.startswith("mouse")]
    for part in (spleen, without_mouse, ["human_liver_31", "mouse_subscapula_07"], spleen[:1]):
        assert folds.assign(part) == {name: official[name] for name in part}
        assert folds.rule(part) == "official"
        assert folds.assign(part, groups=part) == folds.assign(part)


def test_mixed_and_renamed_images_other_folds_and_groups_of_several_are_seeded(official: dict[str, int]) -> None:
    spleen = [name for name in official if name.startswith("human_spleen")]
    renamed = [f"own_{name}" for name in spleen]
    of_position = folds.assign([f"{n:02d}" for n in range(len(spleen))])
    assert list(folds.assign(renamed).values()) == list(of_position.values())
    assert folds.rule(renamed) == folds.rule([*spleen, "another"]) == "seeded"
    assert folds.rule(spleen, n_splits=4) == folds.rule(spleen, seed=20) == "seeded"
    slides = {name: f"slide {n // 2}" for n, name in enumerate(spleen)}
    assert folds.rule(spleen, groups=slides) == "seeded"
    assigned = folds.assign(spleen, groups=slides)
    assert all(assigned[a] == assigned[b] for a, b in zip(spleen[::2], spleen[1::2], strict=True))


def test_hand_computed_folds() -> None:
    """KFold(2, shuffle=True, random_state=19) tests the positions 1, 3, 4, then 0 and 2."""
    assert folds.assign(["e", "c", "a", "d", "b"], n_splits=2) == {"b": 1, "d": 1, "e": 1, "a": 2, "c": 2}


def test_plain_string_order() -> None:
    """Under natural sorting b_10 and b_2 would change places."""
    names = ["b_1", "b_2", "b_10"]
    by_position = list(folds.assign(["x", "y", "z"], n_splits=3).values())
    assert folds.assign(names, n_splits=3) == dict(zip(["b_1", "b_10", "b_2"], by_position, strict=True))


def test_groups_stay_together_as_mapping_or_sequence() -> None:
    names = [f"s_{n:02d}" for n in range(20)]
    groups = [f"g_{n // 3}" for n in range(20)]
    assigned = folds.assign(names, n_splits=3, groups=groups)
    assert assigned == folds.assign(names, n_splits=3, groups=dict(zip(names, groups, strict=True)))
    for group in set(groups):
        assert len({assigned[name] for name, g in zip(names, groups, strict=True) if g == group}) == 1
    assert set(assigned.values()) == {1, 2, 3}
    assert {groups[names.index(n)]: f for n, f in assigned.items()} == folds.assign(set(groups), n_splits=3)


@pytest.mark.parametrize(
    ("names", "options", "text"),
    [
        ([], {}, "there are no images to assign to folds; is the data folder empty?"),
        ("abc", {}, "names is the one string 'abc'; a collection of image stems is needed."),
        (["a", "b", "a"], {}, "image stems must be unique; more than once there is 'a'."),
        (["a", "b", "c"], {"n_splits": 1}, "folds.n_splits is 1; at least 2 folds are needed."),
        (
            ["a", "b", "c"],
            {},
            "3 images in 3 groups can't fill 5 folds: set folds.n_splits to 3 or less, or add images of other groups.",
        ),
        (
            ["a", "b", "c", "d"],
            {"n_splits": 3, "groups": ["x", "x", "y", "y"]},
            "4 images in 2 groups can't fill 3 folds: set folds.n_splits to 2 or less, or add images of other groups.",
        ),
        (["a", "b"], {"groups": ["x"]}, "1 groups were given for 2 images; one for each is needed."),
        (["a", "b"], {"groups": {"a": "x"}}, "1 images have no group, the first is 'b'."),
    ],
)
def test_names_that_can_not_be_assigned_are_refused(names: list[str], options: dict, text: str) -> None:
    with pytest.raises(FoldError) as caught:
        folds.assign(names, **options)
    assert str(caught.value) == text
    assert isinstance(caught.value, ValueError)


def test_inner_split_is_deterministic_and_near_the_fraction() -> None:
    names = [f"s_{n:02d}" for n in range(20)]
    train, validation = folds.inner_split(names, fraction=0.2, seed=1)
    assert (len(train), len(validation)) == (16, 4)
    assert sorted(train + validation) == names
    assert train == tuple(sorted(train)) and validation == tuple(sorted(validation))
    assert (train, validation) == folds.inner_split(reversed(names), fraction=0.2, seed=1)
    assert validation != folds.inner_split(names, fraction=0.2, seed=2)[1]


@pytest.mark.parametrize("seed", range(10))
def test_inner_split_respects_groups(seed: int) -> None:
    groups = {f"s_{n:02d}": f"g_{n // 4}" for n in range(20)}
    train, validation = folds.inner_split(groups, fraction=0.2, seed=seed, groups=groups)
    assert (len(train), len(validation)) == (16, 4)
    assert {groups[n] for n in train}.isdisjoint(groups[n] for n in validation)


def test_inner_split_with_one_large_group_holds_back_the_small_one() -> None:
    groups = {"a": "small", **{f"b{n}": "large" for n in range(9)}}
    for seed in range(5):
        train, validation = folds.inner_split(groups, fraction=0.2, seed=seed, groups=groups)
        assert validation == ("a",) and len(train) == 9
    assert folds.inner_split(["a", "b"], fraction=0.9, seed=0)[0]  # both sides always get something


def test_inner_split_that_is_impossible() -> None:
    with pytest.raises(FoldError) as caught:
        folds.inner_split(["a", "b"], seed=0, groups=["g", "g"])
    assert str(caught.value) == (
        "2 training images, all of the group 'g', can't be split into training and validation: "
        "at least two groups are needed. Use more folds or more data."
    )
    with pytest.raises(FoldError, match=r"the validation fraction is 1\.0; it must lie between 0 and 1"):
        folds.inner_split(["a", "b"], seed=0, fraction=1.0)


def test_the_file_of_an_assignment_has_its_digest(tmp_path: Path) -> None:
    here = Path()
    samples = [Sample("b", "human brain, left", here, here, "g"), Sample("a", "human bladder", here, here, "a")]
    path = tmp_path / "results" / "folds.csv"
    digest = folds.write_assignment(path, {"b": 2, "a": 1}, samples, folds.SEEDED)
    text = 'stem,organ,group,fold,rule\na,human bladder,a,1,seeded\nb,"human brain, left",g,2,seeded\n'
    assert path.read_text() == text
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == folds.assignment_digest({"a": 1, "b": 2}, samples, folds.SEEDED)
    assert digest != folds.assignment_digest({"a": 1, "b": 2}, samples, folds.OFFICIAL)
    assert digest != folds.assignment_digest({"a": 1, "b": 1}, samples, folds.SEEDED)
    bare = folds.write_assignment(path, {"b": 2, "a": 1})
    assert path.read_text() == "stem,organ,group,fold,rule\na,,,1,\nb,,,2,\n"
    assert bare == folds.assignment_digest({"a": 1, "b": 2})
    assert [entry.name for entry in path.parent.iterdir()] == ["folds.csv"]


def test_import_is_light() -> None:
    code = "import sys, bench.folds; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
