"""Rule by which the images of a section were assigned to folds, as a part of its title."""

from __future__ import annotations

from bench.folds import OFFICIAL, SEEDED
from bench.report.strata import listed
from registry import datasets


def folds_text(
    rule: str | None,
    folds: tuple[int, ...],
    *,
    n_splits: int,
    fold_seed: int,
    dataset: str,
    title: str,
    n_images: int | None,
) -> str:
    """Return the folds of a section in words; a part of a release says how many of its images and folds it has.

    Args:
        rule: of their assignment, see `bench.folds.rule`; None where no record knows it.
        folds: numbers of those that hold images.
        n_splits: number of folds.
        fold_seed: their shuffling seed.
        dataset: registered name.
        title: the dataset's name as its authors write it.
        n_images: number of images; None where no record knows it.
    """
    if rule == SEEDED:
        return f"{n_splits} seeded folds (seed {fold_seed})"
    if rule != OFFICIAL:
        return f"{n_splits} folds (seed {fold_seed})"
    whole = _n_released(dataset)
    if whole is None or n_images is None or n_images >= whole:
        return f"{n_splits} official folds"
    numbers = listed([str(number) for number in folds])
    only = "" if len(folds) == n_splits else f", in fold{'s' * (len(folds) > 1)} {numbers} of {n_splits}"
    return f"official folds of {title}, {n_images} of {whole} images{only}"


def _n_released(dataset: str) -> int | None:
    """Return the number of images in a dataset's release; None where it has none, or is not registered here."""
    return datasets.get(dataset).published_images if dataset in datasets.names() else None
