from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fabricated import run

from bench.errors import SavedPlanError
from bench.grid import Run, digest
from bench.results import plans


def planned(*folds: int, **changes: object) -> plans.SavedPlan:
    runs = tuple(Run(**{"validation_fraction": 0.2, **run(fold=fold)}) for fold in folds)
    impossible = Run(**{"validation_fraction": None, **run("sam_nano", "adapter", 9)})
    made = plans.SavedPlan(
        grid="default",
        planned="2026-01-01T10:00:00+00:00",
        runs=runs,
        skipped=((impossible, "no blocks"),),
        data=Path("/data/images"),
        weights=None,
        device="auto",
        kind="slurm",
        profile="my_cluster",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path):
    made = planned(1, 2)
    path = plans.write(tmp_path, made)
    assert path.parent == tmp_path / "plans"
    assert path.name == f"default-{digest({'runs': [one.id for one in made.runs]})}.json"
    assert plans.read_all(tmp_path) == [made]
    assert plans.read_all(tmp_path)[0].runs[0].id == made.runs[0].id
    elsewhere = replace(made, weights=Path("/weights"), device="cpu")
    plans.write(tmp_path, elsewhere)
    assert plans.read_all(tmp_path) == [elsewhere]


@pytest.mark.parametrize("number", [0, 7, None])
def test_the_number_of_kept_predictions_is_read_and_plans_without_it_keep_three(tmp_path, number):
    path = plans.write(tmp_path, planned(1, keep_predictions=number))
    assert plans.read_all(tmp_path)[0].keep_predictions == number
    values = json.loads(path.read_text())
    del values["keep_predictions"]
    path.write_text(json.dumps(values))
    assert plans.read_all(tmp_path)[0].keep_predictions == 3


def test_the_same_plan_replaces_itself_and_another_stands_beside_it(tmp_path):
    plans.write(tmp_path, planned(1, 2, planned="2026-01-03"))
    plans.write(tmp_path, planned(1, 2, planned="2026-01-04"))
    plans.write(tmp_path, planned(3, planned="2026-01-02"))
    assert [one.planned for one in plans.read_all(tmp_path)] == ["2026-01-02", "2026-01-04"]
    assert not [path for path in (tmp_path / "plans").iterdir() if path.name.startswith(".")]


def test_no_plans_are_an_empty_list(tmp_path):
    assert plans.read_all(tmp_path) == []
    assert plans.read_all(tmp_path / "gone") == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"grid": "default", "runs": [{"fold": 1}]})])
def test_a_damaged_plan_says_what_to_do(tmp_path, text):
    path = plans.write(tmp_path, planned(1))
    path.write_text(text)
    with pytest.raises(SavedPlanError) as caught:
        plans.read_all(tmp_path)
    assert str(caught.value).startswith(f"{path} can't be read as a plan (")
    assert str(caught.value).endswith("move it away, and give the `bench run` that wrote it again.")


def test_a_plan_of_a_newer_schema_is_refused_in_words(tmp_path):
    path = plans.write(tmp_path, planned(1))
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2, "new": []}))
    with pytest.raises(
        SavedPlanError, match=r"is a plan of a newer version: it has schema 2, this version reads up to 1"
    ):
        plans.read_all(tmp_path)
