"""Time of post-processing, of the search for its parameters, of targets, and of scoring beside predictions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import ratios
import torch
from scipy import ndimage
from skimage.morphology import h_maxima
from test_metric_speed import a_pair

from bench import metrics
from bench.training import evaluate, predictions, search
from registry import backbones, heads
from registry.modules.instance_targets import interior_distance, interior_distance_of_each
from registry.modules.seeding import foreground_of, grow, probabilities


def logits_of(name: str, label_map: np.ndarray, seed: int = 0) -> np.ndarray:
    """Logits as of a decoder at a quarter of the resolution, with noise, enlarged to that of the label map."""
    targets = torch.from_numpy(heads.get(name).targets(label_map))[None]
    coarse = torch.logit(torch.nn.functional.avg_pool2d(targets, 4), eps=1e-3)
    coarse = coarse + torch.randn(coarse.shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, label_map.shape, mode="bilinear")[0].numpy()


@pytest.fixture(scope="module")
def dense() -> np.ndarray:
    return a_pair(count=400)[0].astype(np.int32)


# Of one thread: other work on the machine counts less in CPU time than in wall time.
best_cpu_seconds = partial(ratios.best_seconds, warm_up=False, clock=time.process_time)


def plain_watershed(logits: Any, **parameters: float) -> np.ndarray:
    """The watershed head with scikit-image's h-maxima."""
    p = {**heads.get("watershed").defaults, **parameters}
    found = foreground_of(probabilities(logits, channels=1)[0] > p["foreground"])
    height = ndimage.gaussian_filter(found.distance, p["smoothing"] * found.radius)
    seeds = h_maxima(height, p["depth"] * found.radius) > 0
    return grow(seeds, -height, found, min_seed=0.0, min_area=p["min_area"])


def test_watershed_head(dense: np.ndarray) -> None:
    logits = logits_of("watershed", dense)
    head = heads.get("watershed")
    np.testing.assert_array_equal(head.instances(logits), plain_watershed(logits))
    fast, plain = best_cpu_seconds(lambda: head.instances(logits), lambda: plain_watershed(logits), rounds=9)
    ratios.report("watershed head", fast, 0.1, unit="s", better="lower", detail="512 px, 400 nuclei; one thread")
    detail = f"plain: h-maxima of scikit-image, {1000 * plain:.0f} ms in all"
    ratios.report("watershed head, plain / fast", plain / fast, 2, detail=detail)


def test_targets(dense: np.ndarray) -> None:
    np.testing.assert_array_equal(interior_distance(dense), interior_distance_of_each(dense))
    calls = (partial(interior_distance, dense), partial(interior_distance_of_each, dense))
    fast, plain = best_cpu_seconds(*calls, rounds=15)
    detail = f"512 px, 400 nuclei, {1000 * fast:.1f} ms; plain: a distance transform for each nucleus"
    ratios.report("distances for training, plain / fast", plain / fast, 3, detail=detail)


@dataclass
class Labelled:
    stem: str
    organ: str
    pixels: np.ndarray
    label_map: np.ndarray


def labelled(n_images: int, side: int) -> list[Labelled]:
    noise = np.random.default_rng(0).integers(0, 256, (n_images, side, side, 3), np.uint8)
    maps = (a_pair(seed, side=side, count=(side // 25) ** 2)[0].astype(np.int32) for seed in range(n_images))
    return [Labelled(f"image {n}", "", noise[n], label_map) for n, label_map in enumerate(maps)]


def plain_search(raw: list[Any], images: list[Labelled], head: Any, instances: Callable[..., np.ndarray]) -> Any:
    """The same search in one pass, each candidate from the logits on."""

    def score(candidates: Sequence[dict[str, float]]) -> list[dict[str, float]]:
        pairs = list(zip(images, raw, strict=True))
        return [
            evaluate.mean([metrics.score(one.label_map, instances(r, **choice), aji_plus=False) for one, r in pairs])
            for choice in candidates
        ]

    return search.coordinate_search(score, [head.defaults], head.search, passes=1)


@pytest.mark.parametrize("name", ["watershed", "distance"])
def test_search(name: str) -> None:
    images, head = labelled(2, 256), heads.get(name)
    raw = [logits_of(name, one.label_map, seed) for seed, one in enumerate(images)]
    instances = plain_watershed if name == "watershed" else head.instances
    forms: list[Callable[[], Any]] = [
        partial(search.on_images, raw, images, head, method=search.ONE_PASS),
        partial(plain_search, raw, images, head, instances),
    ]
    assert forms[0]() == forms[1]()
    fast, plain = best_cpu_seconds(*forms, rounds=3)
    detail = "256 px; plain: every candidate from the logits on" + (
        ", h-maxima of scikit-image" if name == "watershed" else "; the rest is scikit-image's watershed"
    )
    target = 2 if name == "watershed" else None
    ratios.report(f"search of {name}'s parameters, plain / fast", plain / fast, target, detail=detail)


def test_scores_beside_predictions() -> None:
    images, head = labelled(12, 512), heads.get("watershed")
    sam = backbones.build("sam_nano", image_size=512).eval()
    raw = {id(one.pixels): torch.from_numpy(logits_of("watershed", one.label_map)) for one in images}

    def on_cpu(pixels: np.ndarray) -> Any:
        predictions.raw_prediction(sam, head, pixels, scale=None, autocast=nullcontext)
        return raw[id(pixels)]  # logits of a model with random weights have no nuclei

    def elsewhere(pixels: np.ndarray) -> Any:
        time.sleep(0.1)  # as long as a GPU may take, for which this process waits
        return raw[id(pixels)]

    cases = (("a GPU (a wait of 0.1 s)", elsewhere, 1.2), ("sam_nano on the CPU", on_cpu, None))
    for source, predict, target in cases:
        forms = [
            partial(evaluate.score_images, images, predict, head.instances, fold=1, processes=count) for count in (1, 0)
        ]
        assert forms[0]()[0] == forms[1]()[0]
        fast, plain = ratios.best_seconds(*forms, rounds=3, warm_up=False)
        detail = "12 images of 512 px: watershed head and scores in one process beside predictions"
        detail += "" if target else "; not used there, where predictions take all cores"
        ratios.report(f"overlap with {source}, plain / fast", plain / fast, target, detail=detail)


def test_candidates_in_processes() -> None:
    images, head, count = labelled(8, 512), heads.get("watershed"), min(2, len(os.sched_getaffinity(0)))
    raw = [torch.from_numpy(logits_of("watershed", one.label_map, seed)) for seed, one in enumerate(images)]
    candidates = [{**head.defaults, "smoothing": value} for value in head.search["smoothing"][:2]]
    forms = [
        partial(evaluate.candidate_scores, raw, images, head, candidates, processes=number) for number in (count, 0)
    ]
    assert forms[0]() == forms[1]()
    fast, plain = ratios.best_seconds(*forms, rounds=2, warm_up=False)
    detail = f"8 images of 512 px, 2 candidates of the watershed head, {count} processes while nothing is predicted"
    ratios.report("search in processes, plain / fast", plain / fast, None, detail=detail)
