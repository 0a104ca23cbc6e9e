"""Rows of a gallery: test images of which all methods kept their prediction, read with these predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from bench.errors import BenchError
from bench.report.kept import KeptImage, ScoredImage, has_image, read_image, read_prediction, scored_images
from bench.report.methods import Method, find, setting_text, varying
from bench.results.kept_files import places
from registry.errors import unknown

REMEDY = (
    "Runs keep the predictions of their best, median and worst image and of the first images of each fold; those that "
    "are done keep what they have. Do these again in another folder, with all predictions: `bench run … "
    "--keep-predictions all --results DIR`."
)


@dataclass(frozen=True)
class Prediction:
    """Prediction of one method for one image.

    Attributes:
        label_map: of the image's size.
        scores: pq, aji, dice in [0, 1], as recorded; a missing one is NaN.
    """

    label_map: Int[np.ndarray, "h w"]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class GalleryRow:
    """One test image with the predictions of all methods.

    Attributes:
        image: pixels and true label map.
        heading: lines of text about the image: its place among the images of the first method, its name, organ, fold.
        predictions: one for each method.
    """

    image: KeptImage
    heading: tuple[str, ...]
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class MethodImages:
    """Test images of one method, of one seed.

    Attributes:
        name: as the user wrote it.
        seed: of the runs.
        n_seeds: number of seeds that the method has.
        images: by stem, of all folds.
        runs: id and fold of the run of each image, by stem.
    """

    name: str
    seed: int
    n_seeds: int
    images: Mapping[str, ScoredImage]
    runs: Mapping[str, tuple[str, int]]


def methods_of(results: Path, records: pd.DataFrame, names: Sequence[str]) -> list[MethodImages]:
    """Return the test images of each method in records of one section, of the lowest seed that all methods have.

    Args:
        results: the results folder.
        records: of one section.
        names: BACKBONE/STRATEGY, each perhaps with ``,KEY=VALUE``.

    Raises:
        BenchError: a name that stands for several rows of the leaderboard, or for no run that is ok.
        RecordError: scores that are missing or damaged.
    """
    runs_of = [_row(find(records, name)) for name in names]
    seeds = [sorted(map(int, runs["seed"].unique())) for runs in runs_of]
    common = set(seeds[0]).intersection(*seeds)
    methods = []
    for name, runs, own in zip(names, runs_of, seeds, strict=True):
        seed = min(common) if common else own[0]
        images: dict[str, ScoredImage] = {}
        of_run: dict[str, tuple[str, int]] = {}
        for run_id, fold in runs.loc[runs["seed"] == seed, ["id", "fold"]].itertuples(index=False):
            scored = scored_images(results, str(run_id))
            images |= scored
            of_run |= dict.fromkeys(scored, (str(run_id), int(fold)))
        methods.append(MethodImages(name, seed, len(own), images, of_run))
    return methods


def rows(
    results: Path, dataset_digest: str, methods: Sequence[MethodImages], stems: Sequence[str] = ()
) -> list[GalleryRow]:
    """Return the rows of a gallery.

    Args:
        results: the results folder.
        dataset_digest: of the images.
        methods: what is compared; the first one's PQ decides which images are the best, median and worst.
        stems: test images by name; none takes the best, the median and the worst of those that all methods kept.

    Raises:
        BenchError: an unknown image, one that a method did not keep, or no image that all kept.
        RecordError: a file that is damaged.
    """
    first = methods[0]
    pq = {stem: scored.scores["pq"] for stem, scored in first.images.items() if not np.isnan(scored.scores["pq"])}
    rank = {stem: place for place, stem in enumerate(sorted(pq, key=lambda stem: (-pq[stem], stem)), start=1)}
    chosen = _named(results, dataset_digest, methods, stems) if stems else {}
    if not stems:
        shared = _shared(results, dataset_digest, methods)
        chosen = _best_median_worst({stem: rank[stem] for stem in shared if stem in rank}, len(rank))
    made = []
    for stem, place in chosen.items():
        image = read_image(results, dataset_digest, stem)
        of_rank = f"PQ rank {rank[stem]} of {len(rank)}" if stem in rank else ""
        about = f"{first.images[stem].organ}, fold {first.runs[stem][1]}"
        heading = tuple(text for text in (place, stem, about, of_rank) if text)
        predictions = tuple(
            Prediction(read_prediction(results, method.runs[stem][0], image), method.images[stem].scores)
            for method in methods
        )
        made.append(GalleryRow(image, heading, predictions))
    return made


def _row(method: Method) -> pd.DataFrame:
    """Return the runs of a method that are ok, all of one row of the leaderboard.

    Raises:
        BenchError: several rows, or no such run.
    """
    runs = method.ok
    if runs.empty:
        raise BenchError(f"{method.name!r} has no run that is ok; see `bench status`.")
    pairs = sorted(set(runs["backbone"] + "/" + runs["strategy"]))
    if len(pairs) > 1:
        raise BenchError(
            f"{method.name!r} stands for {len(pairs)} rows, and a column of a gallery is one; choose one of "
            f"{', '.join(pairs[:6])}{', …' if len(pairs) > 6 else ''}."
        )
    if differing := varying(runs):
        key = differing[0]
        values = sorted(set(runs[key].map(setting_text)))
        choices = ", ".join(f"{method.name},{key}={value}" for value in values[:6])
        raise BenchError(
            f"{method.name!r} was run with several settings, and a column of a gallery is one; choose one of {choices}."
        )
    return runs


def _shared(results: Path, dataset_digest: str, methods: Sequence[MethodImages]) -> list[str]:
    """Return the stems of the images that all methods kept.

    Raises:
        BenchError: there are none; says how many each has.
    """
    kept = [{stem for stem, scored in method.images.items() if scored.is_kept} for method in methods]
    shared = sorted(set.intersection(*kept))
    if not shared:
        counts = ", ".join(f"{method.name} has {len(own)}" for method, own in zip(methods, kept, strict=True))
        raise BenchError(f"there is no test image whose prediction all of these kept: {counts}. {REMEDY}")
    with_image = [stem for stem in shared if has_image(results, dataset_digest, stem)]
    if not with_image:
        raise BenchError(
            f"predictions of {len(shared)} test images were kept, but not the images: an earlier version did the runs. "
            f"{REMEDY}"
        )
    return with_image


def _named(results: Path, dataset_digest: str, methods: Sequence[MethodImages], stems: Sequence[str]) -> dict[str, str]:
    """Return the images that were named, without a place.

    Raises:
        BenchError: an unknown image, or one that is not kept.
    """
    known = set.intersection(*(set(method.images) for method in methods))
    for stem in stems:
        if stem not in known:
            sentence = unknown("test image", stem, sorted(known))
            raise BenchError(f"{sentence} `bench table --by image --format csv` lists all.")
        lacking = [method.name for method in methods if not method.images[stem].is_kept]
        if lacking or not has_image(results, dataset_digest, stem):
            by = f"{', '.join(lacking)} did not keep its prediction" if lacking else "its pixels were not kept"
            raise BenchError(f"the image {stem} can't be shown: {by}. {REMEDY}")
    return dict.fromkeys(stems, "")


def _best_median_worst(rank: Mapping[str, int], n_images: int) -> dict[str, str]:
    """Return up to three stems with their place: of the lowest rank, nearest to the middle of all, of the highest."""
    if not rank:
        return {}
    order = sorted(rank, key=lambda stem: rank[stem])
    middle = places({str(number): -number for number in range(1, n_images + 1)})["median"]
    best, worst = order[0], order[-1]
    between = [stem for stem in order if stem not in (best, worst)]
    chosen: dict[str, str] = {best: "best"}
    if between:
        nearest = min(between, key=lambda stem: (abs(rank[stem] - int(middle)), rank[stem]))
        chosen[nearest] = "median"
    if worst != best:
        chosen[worst] = "worst"
    n_shared = "" if len(rank) == n_images else f" of {len(rank)} kept"
    return {stem: f"{place}{n_shared}" for stem, place in chosen.items()}


def seed_note(methods: Sequence[MethodImages]) -> list[str]:
    """Return a sentence on the seed that is shown, if some method has several."""
    if all(method.n_seeds == 1 for method in methods):
        return []
    seeds: dict[Any, list[str]] = {}
    for method in methods:
        seeds.setdefault(method.seed, []).append(method.name)
    if len(seeds) == 1:
        return [f"Seed {methods[0].seed}; add ,seed=N to a name for another."]
    return ["; ".join(f"seed {seed}: {', '.join(names)}" for seed, names in seeds.items()) + "."]
