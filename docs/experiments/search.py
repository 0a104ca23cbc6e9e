"""Does a search from several starts choose better post-processing than one pass, on images that it has not seen?

A training with half of the training folds' images held out. On the logits of its held-out images, all forms of the
search choose on one half of the groups and are scored on the other, over several splits into halves, both ways. It
prints for each training and form the mean PQ where it was chosen, the mean PQ, AJI and Dice on the other half, the
difference of that PQ to one pass with the number of splits in which it is higher, and the candidates scored. The test
fold is never read.

Command:   python docs/experiments/search.py FOLDER [--backbone lite_medsam --strategy decoder_only --weights FOLDER
           --cached --image-size 128] [--epochs 20] [--seeds 0,1,2] [--splits 10]
Data:      a folder in NuInsSeg's layout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from trainings import Trained, parser, trained

from bench import metrics
from bench.training import evaluate, search
from registry import heads

FIRST = ("seed", "foreground", "smoothing", "boundary", "min_area")
"""Parameters of the head `distance` that version 0.1 searched."""
Form = Callable[[search.Score, Any], search.Found]


def one_pass(score: search.Score, head: Any) -> search.Found:
    return search.coordinate_search(score, [head.defaults], values(head, FIRST), passes=1)


def one_pass_over_all(score: search.Score, head: Any) -> search.Found:
    return search.coordinate_search(score, [head.defaults], head.search, passes=1)


def passes_from_the_defaults(score: search.Score, head: Any) -> search.Found:
    return search.coordinate_search(score, [head.defaults], values(head, FIRST))


def several_starts_without_new_parameters(score: search.Score, head: Any) -> search.Found:
    starts = [start for start in heads.starts(head) if (start.get("depth", 0), start.get("edge", 1)) == (0, 1)]
    return search.coordinate_search(score, starts, values(head, FIRST))


def several_starts(score: search.Score, head: Any) -> search.Found:
    return search.coordinate_search(score, heads.starts(head), head.search)


def defaults(score: search.Score, head: Any) -> search.Found:
    return search.coordinate_search(score, [head.defaults], {})


FORMS: tuple[Form, ...] = (
    defaults,
    one_pass,
    passes_from_the_defaults,
    several_starts_without_new_parameters,
    one_pass_over_all,
    several_starts,
)


def values(head: Any, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    return {name: candidates for name, candidates in head.search.items() if name in names}


class Scored:
    """Scores of candidates on each image, computed once for all splits and forms."""

    def __init__(self, model: Trained, head: Any) -> None:
        self.images = model.parts.validation
        self._instances = [heads.prepared(head, model.predict(image.pixels)) for image in self.images]
        self._known: dict[tuple[int, tuple[tuple[str, float], ...]], dict[str, float]] = {}

    def on(self, stems: set[str]) -> search.Score:
        """Return mean scores on some of the images, as a function of candidates."""
        numbers = [number for number, image in enumerate(self.images) if image.stem in stems]
        return lambda points: [evaluate.mean(self._row(number, point) for number in numbers) for point in points]

    def _row(self, number: int, point: Mapping[str, float]) -> dict[str, float]:
        key = number, tuple(sorted(point.items()))
        if key not in self._known:
            label_map = self._instances[number](**point)
            self._known[key] = metrics.score(self.images[number].label_map, label_map, aji_plus=False)
        return self._known[key]


def lines(model: Trained, splits: int) -> list[str]:
    """Return the rows of one training."""
    head = heads.get(model.run.head)
    scored = Scored(model, head)
    rows: dict[str, list[tuple[float, float, float, float, int]]] = {form.__name__: [] for form in FORMS}
    for number in range(splits):
        halves = [{image.stem for image in half} for half in search.halves(scored.images, seed=number)]
        for chosen_on, reported_on in (halves, halves[::-1]):
            for form in FORMS:
                found = form(scored.on(chosen_on), head)
                (held_out,) = scored.on(reported_on)([found.parameters])
                others = tuple(held_out[name] for name in search.ORDER)
                rows[form.__name__].append((found.scores["pq"], *others, found.candidates))
    reference = np.array(rows["one_pass"])[:, 1]
    texts = []
    for name, of_form in rows.items():
        means, held_out = np.mean(of_form, axis=0), np.array(of_form)[:, 1]
        higher, lower = int((held_out > reference).sum()), int((held_out < reference).sum())
        numbers = (*(f"{value:.4f}" for value in means[:4]), f"{(held_out - reference).mean():+.4f}")
        cells = (str(model.run.seed), name.replace("_", " "), *numbers, f"{higher} / {lower}", f"{means[4]:.0f}")
        texts.append("| " + " | ".join(cells) + " |")
    return texts


def main() -> None:
    arguments: argparse.ArgumentParser = parser("Compare forms of the search on held-out halves.")
    arguments.add_argument("--splits", type=int, default=10)
    options = arguments.parse_args()
    print(
        "| seed | search | PQ, chosen | PQ, other half | AJI, other half | Dice, other half | PQ against one pass "
        "| splits higher / lower | candidates |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in options.seeds.split(","):
        with trained(options, int(seed), validation_fraction=0.5) as model:
            print("\n".join(lines(model, options.splits)), flush=True)


if __name__ == "__main__":
    main()
