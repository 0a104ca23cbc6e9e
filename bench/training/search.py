"""Search for a head's post-processing parameters: chosen on half of the validation groups, reported on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench import folds
from bench.training import evaluate
from registry import heads
from registry.names import shown

if TYPE_CHECKING:
    from registry.contract import Head

Parameters = dict[str, float]
Scores = dict[str, float]
Score = Callable[[Sequence[Parameters]], list[Scores]]
"""Mean scores of each choice of parameters."""

ORDER = ("pq", "aji", "dice")
"""Scores by which parameters are compared: where PQ is equal (0, early in a training), AJI decides, then Dice."""
FOLLOWED = 3
"""Starts that are followed, of all that are scored."""
PASSES = 4
"""Most passes over all parameters."""
MOST_CANDIDATES = 160
"""Most choices of parameters that a search scores."""
STARTS = "starts"


class GroupedImage(evaluate.LabelledImage, Protocol):
    """An image with its true label map and its group (see `bench.training.data.Image`)."""

    @property
    def group(self) -> str: ...


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes:
        parameters: the best ones.
        scores: their mean scores on the images of the search.
        start_scores: likewise of the first start.
        candidates: number of choices of parameters that were scored.
    """

    parameters: Parameters
    scores: Scores
    start_scores: Scores
    candidates: int


def coordinate_search(
    score: Score,
    starts: Sequence[Mapping[str, float]],
    values: Mapping[str, Sequence[float]],
    *,
    passes: int = PASSES,
    followed: int = FOLLOWED,
    limit: int = MOST_CANDIDATES,
) -> Found:
    """Search for the best parameters along one parameter after the other, from several starts at once.

    A single pass from one start ends where no single parameter helps any more: a seed threshold that suits a height
    without the boundary is not reached from one that suits a height lowered by it. So the best starts are followed, in
    passes over all parameters, until a pass improves none. All starts take a step together, so that what candidates
    share is computed once per step and image. No candidate is scored twice, and the result depends on nothing random.

    Args:
        score: see `Score`.
        starts: complete parameters, at least one; the first wins where scores are equal.
        values: candidate values of each parameter, which are tried in this order.
        passes: most passes.
        followed: starts that are followed.
        limit: most candidates; at least the starts are scored.
    """
    known: dict[tuple[tuple[str, float], ...], Scores] = {}

    def key(point: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
        return tuple(sorted(point.items()))

    def look_at(points: Iterable[Parameters], most: int) -> None:
        new = {key(point): point for point in points if key(point) not in known}
        some = list(new.items())[: max(0, most - len(known))]
        known.update(zip((name for name, _ in some), score([point for _, point in some]) if some else [], strict=True))

    def rank(point: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(known[key(point)][name] for name in ORDER)

    def best_first(points: Iterable[Parameters]) -> list[Parameters]:
        unique = {key(point): point for point in points}
        return sorted(unique.values(), key=rank, reverse=True)  # stable: the first of equal ones stays the first

    begun = [dict(start) for start in starts]
    look_at(begun, max(limit, len(begun)))
    points = best_first(begun)[:followed]
    for _ in range(passes):
        before = points
        for name, candidates in values.items():
            moves = [[{**point, name: value} for value in candidates] for point in points]
            look_at((point for row in moves for point in row), limit)
            reached = ([move for move in row if key(move) in known] for row in moves)
            points = best_first(max([here, *row], key=rank) for here, row in zip(points, reached, strict=True))
        if points == before:
            break
    return Found(points[0], known[key(points[0])], known[key(begun[0])], len(known))


def on_images(
    raw: Iterable[Any],
    images: Sequence[evaluate.LabelledImage],
    head: Head,
    *,
    method: str = "starts",
    fixed: Mapping[str, float] = MappingProxyType({}),
    side_processes: int = 0,
    processes: int = 0,
) -> Found:
    """Return the post-processing parameters that `coordinate_search` finds on images.

    Args:
        raw: raw predictions of the images; they may be made one after the other, and are kept.
        images: the images with their true label maps.
        head: gives the parameters, their starts and their candidates.
        method: see `bench.settings.PredictSettings`; every other one than ``starts`` is a single pass.
        fixed: parameters that are not searched.
        side_processes: processes for the first scores, while predictions are made; see
            `bench.training.side_processes.each`.
        processes: those for all other scores.
    """
    kept: list[Any] = []
    remaining = iter(raw)

    def score(candidates: Sequence[Parameters]) -> list[Scores]:
        is_first = not kept
        source = _keeping(remaining, kept) if is_first else kept
        used = side_processes if is_first else processes
        return evaluate.candidate_scores(source, images, head, candidates, processes=used)

    values = {name: candidates for name, candidates in head.search.items() if name not in fixed}
    starts = [{**start, **fixed} for start in heads.starts(head)]
    if method != STARTS:
        return coordinate_search(score, starts[:1], values, passes=1)
    return coordinate_search(score, starts, values)


def _keeping(items: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    for item in items:
        kept.append(item)
        yield item


def most_scored(head: Head, n_images: int, method: str) -> int:
    """Return the largest number of label maps that `choose` makes and scores on so many validation images."""
    moves = sum(value != head.defaults[name] for name, values in head.search.items() for value in values)
    if method != STARTS:
        return n_images * (1 + moves)
    starts = len(heads.starts(head))
    candidates = min(MOST_CANDIDATES, starts + PASSES * min(FOLLOWED, starts) * moves)
    reported = n_images // 2
    return (n_images - reported) * candidates + reported * 2


def halves(images: Sequence[Any], *, seed: int) -> tuple[list[Any], list[Any]]:
    """Return the images on which parameters are chosen, and those on which their scores are reported.

    Groups stay together; images of a single group are all in both parts.

    Args:
        images: `GroupedImage`s.
        seed: of the order in which groups are given to the halves.
    """
    groups = {image.stem: image.group for image in images}
    if len(set(groups.values())) < 2:
        return list(images), list(images)
    first, second = folds.inner_split(list(groups), fraction=0.5, seed=seed, groups=groups)
    return [image for image in images if image.stem in first], [image for image in images if image.stem in second]


def choose(
    predict: Callable[[np.ndarray], Any],
    images: Sequence[GroupedImage],
    head: Head,
    *,
    seed: int,
    method: str = "starts",
    fixed: Mapping[str, float] = MappingProxyType({}),
    side_processes: int = 0,
    processes: int = 0,
) -> dict[str, Any]:
    """Choose post-processing parameters on half of the validation groups, and score them on the other half.

    One pass uses all groups for both, as version 0.1 did.

    Args:
        predict: pixels to a raw prediction.
        images: the validation images.
        head: see `on_images`.
        seed: see `halves`.
        method, fixed, side_processes, processes: see `on_images`.

    Returns:
        The parameters (``post_processing``), their mean scores on the images that had no part in the choice
        (``validation``), and what was chosen where (``choice``): both lists of stems, the scores of the parameters on
        the images of the choice and of the head's defaults on the others, and the number of candidates. Where all
        images are in both lists, ``is_held_out`` is False.
    """
    chosen_on, reported_on = (list(images), list(images)) if method != STARTS else halves(images, seed=seed)
    made = (predict(image.pixels) for image in chosen_on)
    how: dict[str, Any] = {"method": method, "fixed": fixed, "processes": processes}
    found = on_images(made, chosen_on, head, side_processes=side_processes, **how)
    stems = [[image.stem for image in part] for part in (chosen_on, reported_on)]
    is_held_out = not set(stems[0]) & set(stems[1])
    reached, default = found.scores, found.start_scores
    if is_held_out:
        others = (predict(image.pixels) for image in reported_on)
        compared = [found.parameters, {**head.defaults, **fixed}]
        reached, default = evaluate.candidate_scores(others, reported_on, head, compared, processes=side_processes)
    choice = {
        "chosen_on": list(map(shown, stems[0])),
        "reported_on": list(map(shown, stems[1])),
        "is_held_out": is_held_out,
        "scores": found.scores,
        "default_scores": default,
        "candidates": found.candidates,
    }
    return {"post_processing": found.parameters, "validation": reached, "choice": choice}
