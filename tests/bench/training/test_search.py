"""Search for post-processing parameters: several starts, several passes, and halves of the validation groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from bench import metrics
from bench.training import evaluate, search, side_processes
from registry import heads

GRID = {"x": (0.0, 1.0, 2.0, 3.0), "y": (0.0, 1.0, 2.0, 3.0)}
START = {"x": 0.0, "y": 0.0}


@dataclass
class Surface:
    """Scores of points of a grid of two parameters; counts what is asked for."""

    pq: Mapping[tuple[float, float], float]
    asked: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, points: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        places = [(point["x"], point["y"]) for point in points]
        self.asked += places
        return [{"pq": self.pq.get(place, 0.0), "aji": 0.0, "dice": -sum(place)} for place in places]


def test_further_passes_reach_what_the_first_one_can_not():
    stairs = Surface({(0, 0): 0.1, (1, 0): 0.2, (1, 1): 0.3, (2, 1): 0.4, (2, 2): 0.5})
    once = search.coordinate_search(stairs, [START], GRID, passes=1)
    assert once.parameters == {"x": 1.0, "y": 1.0}
    found = search.coordinate_search(stairs, [START], GRID)
    assert found.parameters == {"x": 2.0, "y": 2.0} and found.scores["pq"] == 0.5


def test_another_start_reaches_a_summit_that_no_single_step_leads_to():
    summits = Surface({(0, 0): 0.2, (3, 2): 0.25, (3, 3): 0.4})
    alone = search.coordinate_search(summits, [START], GRID)
    assert alone.scores["pq"] == 0.2
    found = search.coordinate_search(summits, [START, {"x": 3.0, "y": 0.0}, {"x": 1.0, "y": 2.0}], GRID)
    assert found.parameters == {"x": 3.0, "y": 3.0}


def test_no_candidate_is_scored_twice_and_their_number_is_bounded():
    surface = Surface({place: sum(place) for place in product(range(4), range(4))})
    found = search.coordinate_search(surface, [START, {"x": 1.0, "y": 0.0}, START], GRID)
    assert len(surface.asked) == len(set(surface.asked)) == found.candidates
    few = Surface(surface.pq)
    bounded = search.coordinate_search(few, [START, {"x": 1.0, "y": 0.0}], GRID, limit=4)
    assert bounded.candidates == len(few.asked) == 4
    assert few.asked[2:] == [(2.0, 0.0), (3.0, 0.0)] and bounded.parameters == {"x": 3.0, "y": 0.0}


def test_equal_scores_keep_the_start_and_without_any_pq_dice_decides():
    assert search.coordinate_search(Surface({}), [START], GRID).parameters == START
    away = search.coordinate_search(Surface({}), [{"x": 2.0, "y": 2.0}], GRID)
    assert away.parameters == START  # its Dice is highest on this surface


@dataclass
class Picture:
    stem: str
    group: str
    label_map: np.ndarray
    organ: str = "liver"

    @property
    def pixels(self) -> np.ndarray:
        return self.label_map


@dataclass
class Threshold:
    """Head with a single nucleus: all pixels above the threshold."""

    defaults: Mapping[str, float] = field(default_factory=lambda: {"above": 0.9, "unused": 1.0})
    search: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"above": (0.5, 0.9), "unused": (1.0, 2.0)})

    def instances(self, logits, *, above, unused):
        return (np.asarray(logits)[0] > above).astype(np.int32)


def half_filled(*groups: str) -> list[Picture]:
    label_map = np.repeat([[1], [0]], 2, axis=0) * np.ones((1, 4), np.int32)
    return [Picture(f"{group}{number}", group, label_map) for number, group in enumerate(groups)]


def test_parameters_are_chosen_on_one_half_of_the_groups_and_scored_on_the_other():
    images = half_filled("a", "b", "a", "c", "d", "b")
    predicted: list[str] = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        predicted.append("")
        return np.where(pixels, 0.7, 0.0)[None]

    scores = search.choose(predict, images, Threshold(), seed=0)
    choice = scores["choice"]
    assert scores["post_processing"] == {"above": 0.5, "unused": 1.0}  # `unused` without effect stays the default
    assert scores["validation"]["pq"] == choice["scores"]["pq"] == 1.0 and choice["default_scores"]["pq"] == 0.0
    assert len(predicted) == len(images) and choice["is_held_out"]
    assert sorted(choice["chosen_on"] + choice["reported_on"]) == sorted(image.stem for image in images)
    groups = [{stem[0] for stem in choice[part]} for part in ("chosen_on", "reported_on")]
    assert not groups[0] & groups[1] and all(groups)
    assert scores == search.choose(predict, images, Threshold(), seed=0)


def test_a_single_group_is_used_whole_and_says_so():
    images = half_filled("a", "a")
    scores = search.choose(lambda pixels: np.where(pixels, 0.7, 0.0)[None], images, Threshold(), seed=0)
    assert scores["choice"]["chosen_on"] == scores["choice"]["reported_on"] == ["a0", "a1"]
    assert scores["choice"]["is_held_out"] is False


def test_one_pass_uses_all_images_and_fixed_parameters_are_not_searched():
    images = half_filled("a", "b")
    predicted: list[str] = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        predicted.append("")
        return np.where(pixels, 0.7, 0.0)[None]

    scores = search.choose(predict, images, Threshold(), seed=0, method="one_pass", fixed={"unused": 2.0})
    choice = scores["choice"]
    assert scores["post_processing"] == {"above": 0.5, "unused": 2.0} and choice["candidates"] == 2
    assert choice["chosen_on"] == choice["reported_on"] == ["a0", "b1"] and choice["is_held_out"] is False
    assert scores["validation"] == choice["scores"] and choice["default_scores"]["pq"] == 0.0
    assert len(predicted) == 2
    assert (
        search.choose(predict, images, Threshold(), seed=0, fixed={"unused": 2.0})["post_processing"]["unused"] == 2.0
    )


@pytest.mark.parametrize("name", ["distance", "everything", "watershed"])
@pytest.mark.parametrize("method", ["starts", "one_pass"])
def test_scored_label_maps_stay_below_the_number_that_is_planned_for(name, method):
    head, calls = heads.get(name), []

    def score(points):
        calls.extend(points)
        return [{"pq": sum(point.values()), "aji": 0.0, "dice": 0.0} for point in points]

    starts = heads.starts(head)
    one = {"passes": 1} if method == "one_pass" else {}
    found = search.coordinate_search(score, starts[:1] if one else starts, head.search, **one)
    chosen, reported = (3, 2) if method == "starts" else (5, 0)
    assert len(calls) == found.candidates
    assert chosen * found.candidates + 2 * reported <= search.most_scored(head, 5, method)


def test_head_without_starts_gets_points_spread_over_its_candidates():
    head = Threshold(
        defaults={"a": 1.0, "b": 5.0, "c": 7.0}, search={"a": (1.0, 2.0, 3.0), "b": (4.0, 5.0, 6.0), "c": (7.0, 8.0)}
    )
    assert heads.starts(head) == (
        {"a": 1.0, "b": 5.0, "c": 7.0},
        {"a": 1.0, "b": 5.0, "c": 8.0},
        {"a": 2.0, "b": 6.0, "c": 7.0},
        {"a": 3.0, "b": 4.0, "c": 7.0},
    )


@pytest.mark.parametrize("name", ["distance", "everything", "watershed"])
def test_starts_of_the_shipped_heads_are_complete_candidates_with_the_defaults_first(name):
    head = heads.get(name)
    first, *others = heads.starts(head)
    assert first == dict(head.defaults) and len(others) > 2
    for start in others:
        assert start.keys() == head.defaults.keys()
        assert all(start[parameter] in values for parameter, values in head.search.items())


def touching(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Label map of nuclei that touch in pairs, and logits whose distance tells all of them apart.

    Its lowest point between two nuclei is at 0.45. The boundary map is useless: 0.7 all over half of the pairs, so that
    a distance lowered by it tells these apart at low thresholds only, and 0.95 all over the others, where nothing of it
    is left.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    label_map, boundary = np.zeros((side, side), np.int32), np.full((side, side), 0.05)
    for row in (12, 32, 52):
        for column in (10, 42):
            pair = np.zeros((side, side), bool)
            for place in (column, column + 11):
                near = ((y - row) ** 2 + (x - place) ** 2 <= 36) & (label_map == 0)
                label_map[near], pair = label_map.max() + 1, pair | near
            boundary[pair] = 0.7 if column == 10 else 0.95
    foreground, distance, _ = heads.get("distance").targets(label_map)
    maps = np.stack([np.clip(foreground, 0.05, 0.95), np.where(foreground > 0, 0.45 + 0.5 * distance, 0.05), boundary])
    return label_map, (np.log(maps / (1 - maps)) + rng.normal(0, 0.05, maps.shape)).astype(np.float32)


def plain_search(raw, images, head):
    """One pass from the defaults, candidate by candidate."""

    def scores_of(parameters):
        rows = [
            metrics.score(image.label_map, head.instances(prediction, **parameters), aji_plus=False)
            for image, prediction in zip(images, raw, strict=True)
        ]
        return evaluate.mean(rows)

    def rank(scores):
        return tuple(scores[name] for name in search.ORDER)

    chosen = dict(head.defaults)
    best = scores_of(chosen)
    for name, values in head.search.items():
        for value in values:
            scores = scores_of({**chosen, name: value})
            if rank(scores) > rank(best):
                chosen, best = {**chosen, name: value}, scores
    return chosen, best


def test_one_pass_from_boundary_1_sticks_where_several_starts_reach_the_best_of_the_same_candidates():
    whole = heads.get("distance")
    values = {name: whole.search[name] for name in ("seed", "foreground", "smoothing", "boundary", "min_area")}
    head = replace(whole, search=values)
    label_map, logits = touching(0)
    images = [Picture("image", "", label_map)]
    stuck = search.on_images([logits], images, head, method="one_pass")
    assert stuck.parameters["boundary"] == head.defaults["boundary"] == 1.0
    assert stuck.scores["pq"] < 0.75
    found = search.on_images([logits], images, head)
    assert found.parameters["boundary"] < 1.0 and found.scores["pq"] > 0.95


@pytest.fixture
def eager_processes(monkeypatch):
    """Processes start even where there is little work; counts the pools."""
    started: list[int] = []
    pool = side_processes.ProcessPoolExecutor

    def counted(size: int, *others: Any):
        started.append(size)
        return pool(size, *others)

    monkeypatch.setattr(side_processes, "ProcessPoolExecutor", counted)
    monkeypatch.setattr(side_processes.each, "__kwdefaults__", {**side_processes.each.__kwdefaults__, "pays_s": 0.0})
    return started


def test_one_pass_with_shared_stages_and_in_processes_equals_the_plain_one_bit_for_bit(eager_processes):
    rng = np.random.default_rng(0)
    maps, _ = zip(*(touching(seed, side=48) for seed in range(4)), strict=True)
    images = [Picture(f"image {n}", "", label_map) for n, label_map in enumerate(maps)]
    raw = [
        torch.from_numpy((np.where(m > 0, 1.5, -1.5) + rng.normal(size=m.shape))[None].astype(np.float32)) for m in maps
    ]
    values = {"smoothing": (0.05, 0.12, 0.3), "depth": (0.06, 0.2), "foreground": (0.4, 0.5), "min_area": (0.02, 0.2)}
    head = replace(heads.get("watershed"), search=values)
    expected = plain_search(raw, images, head)
    assert expected[0] != dict(head.defaults)
    one_pass = {"method": "one_pass"}
    here = search.on_images(iter(raw), images, head, **one_pass)
    assert (here.parameters, here.scores) == expected and not eager_processes
    assert search.on_images(iter(raw), images, head, side_processes=1, processes=2, **one_pass) == here
    assert eager_processes == [1, 2, 2, 2, 2]  # one beside predictions, and two while nothing is predicted
