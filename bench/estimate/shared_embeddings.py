"""Embeddings that runs cache together: each is computed and kept once, so that every run has a share of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from bench.grid import Run
from bench.training.variants import TURNS, turn_count


@dataclass(frozen=True)
class Sharing:
    """Numbers of runs with the same embeddings, this one included, and of the different folds among them.

    Attributes:
        runs, folds: with the same embeddings of plain images. Those of runs that train nothing are among those of
            trainings, so that they are counted only where there is no training; else `runs` is 0.
        drawing_runs, drawing_folds: of these, runs that draw the same augmented variants.
    """

    runs: int = 1
    folds: int = 1
    drawing_runs: int = 1
    drawing_folds: int = 1


def sharing(runs: Iterable[Run]) -> Callable[[Run], Sharing]:
    """Return a function that says with how many of `runs`, of one dataset, each of them shares its embeddings."""
    plain: dict[Hashable, list[Hashable]] = {}
    drawing: dict[Hashable, list[Hashable]] = {}
    cached = [run for run in runs if run.embeddings == "cached"]
    trained = {_encoder(run) for run in cached if run.train}
    for run in cached:
        fold = (run.n_splits, run.fold_seed, run.fold)
        drawing.setdefault(_variants(run), []).append(fold)
        if run.train or _encoder(run) not in trained:
            plain.setdefault(_encoder(run), []).append(fold)

    def of(run: Run) -> Sharing:
        if run.embeddings != "cached":
            return Sharing()
        if not run.train and _encoder(run) in trained:
            return Sharing(runs=0)
        all_folds, drawing_folds = plain[_encoder(run)], drawing[_variants(run)]
        return Sharing(len(all_folds), len(set(all_folds)), len(drawing_folds), len(set(drawing_folds)))

    return of


def encoded(run: Run, n_images: int, n_train: int, draws: int, tiles: int, shared: Sharing) -> float:
    """Return a run's share of the embeddings that runs compute together; 0 where they are not cached.

    An epoch draws a turn, a stain variant and a tile of each training image at random, and a prediction takes all tiles
    of the plain image; with test-time augmentation, of all its turns, none of which are counted as drawn before. Runs
    of one fold draw from the same training images, those of other folds from others.

    Args:
        run: the run.
        n_images: of its dataset.
        n_train: of its training images.
        draws: of each training image, over all epochs.
        tiles: of an image.
        shared: with other runs.
    """
    if run.embeddings != "cached" or not n_images or not shared.runs:
        return 0.0
    variants = TURNS * int(run.train.get("stain_variants", 1)) if run.train.get("augment") else 1
    places = variants * tiles
    trained_by, predicted_by = n_train / n_images, 1 - n_train / n_images
    drawn = trained_by * (1 - (1 - 1 / places) ** (draws * shared.drawing_runs / shared.drawing_folds))
    missed, plain_missed = (1 - drawn) ** shared.drawing_folds, (1 - drawn - predicted_by) ** shared.folds
    plain = (1 - plain_missed) / shared.runs
    turned = (turn_count(run.tta) - 1) * (1 - (1 - predicted_by) ** shared.folds) / shared.runs
    return n_images * tiles * ((variants - 1) * (1 - missed) / shared.drawing_runs + plain + turned)


def _encoder(run: Run) -> Hashable:
    """Key that is equal for runs with the same frozen encoder on inputs of the same size."""
    seed = run.seed if run.weights == "random" else None
    return run.backbone, run.weights, seed, run.image_size, run.scale


def _variants(run: Run) -> Hashable:
    """Key that is equal for runs which draw the same variants of their training images."""
    names = ("stain_variants", "stain_jitter", "augmentation") if run.train.get("augment") else ()
    return _encoder(run), bool(run.train), *(run.train.get(name) for name in names)
