"""Inputs of a run: the dataset's images and the checkpoint, refused if they are not those that were planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import OtherVersionError
from bench.grid import CLASSICAL, RULES_VERSION, Run, TrainSettings
from registry.errors import DataError

if TYPE_CHECKING:
    from bench.training.data import Image
    from registry.contract import Sample


def check_settings(run: Run) -> None:
    """Refuse a run whose training settings this code does not know, or with which it would do something else.

    Raises:
        OtherVersionError: newer or older code planned the run.
    """
    if run.rules_version != RULES_VERSION:
        raise OtherVersionError(
            f"this run was planned under version {run.rules_version} of the rules for folds, labels and predictions; "
            f"this code follows {RULES_VERSION}. Plan the grid again: `bench run` makes runs of their own."
        )
    unknown = sorted(run.train.keys() - {member.name for member in fields(TrainSettings)})
    if unknown:
        names = ", ".join(f"train.{name}" for name in unknown)
        raise OtherVersionError(
            f"this run was planned by newer code: {names} {'is' if len(unknown) == 1 else 'are'} unknown here. Update "
            "the code, or plan the grid with this code into another results folder (--results DIR)."
        )


def images(run: Run, folder: Path) -> dict[str, Image]:
    """Decode the dataset's images, by stem; once for all runs of a job with the same images.

    Raises:
        DataError: they are unreadable, or no longer those that the plan was made for.
    """
    from bench.training import data
    from registry import datasets

    return data.load(datasets.get(run.dataset), samples(run, folder))


def samples(run: Run, folder: Path) -> tuple[Sample, ...]:
    """Return the dataset's images, not decoded.

    Raises:
        DataError: they are no longer those that the plan was made for.
    """
    from registry import datasets

    present = datasets.get(run.dataset).samples(folder)
    fingerprint = datasets.fingerprint(present)[: len(run.dataset_digest)]
    if fingerprint != run.dataset_digest:
        raise DataError(
            f"the images in {folder} have changed: their fingerprint is {fingerprint}, and the plan was made for "
            f"{run.dataset_digest}. Run the same command again to plan anew."
        )
    return present


def provenance(
    run: Run, images: Mapping[str, Image], *, data_folder: Path, weights_folder: Path | None
) -> dict[str, Any]:
    """Origin of data and weights; the checkpoint's digest is verified before it is loaded.

    Returns:
        ``dataset`` (folder, numbers, whether it is the official release, and how that was verified),
        ``folds_digest``, ``folds_rule`` (see `bench.folds.rule`), ``folds`` (numbers of those that hold images),
        ``checkpoint`` (path) and ``checkpoint_digest``.

    Raises:
        WeightsError: the checkpoint is missing, or is not the official one.
    """
    from bench import folds

    groups = {stem: image.group for stem, image in images.items()}
    assigned = folds.assign(list(images), run.n_splits, run.fold_seed, groups)
    rule = folds.rule(list(images), run.n_splits, run.fold_seed, groups)
    path, digest = checkpoint(run, weights_folder)
    return {
        "dataset": {
            "root": str(data_folder),
            "n_images": len(images),
            "n_organs": len({image.organ for image in images.values()}),
            **_verification(run.dataset, images),
        },
        "folds_digest": folds.assignment_digest(assigned, images.values(), rule),
        "folds_rule": rule,
        "folds": sorted(set(assigned.values())),
        "checkpoint": path,
        "checkpoint_digest": digest,
    }


def _verification(dataset: str, images: Mapping[str, Image]) -> dict[str, Any]:
    from registry import datasets

    verification = datasets.verify(dataset, images.values())
    return {"official": verification.official, "verified": verification.detail or None}


def checkpoint(run: Run, folder: Path | None) -> tuple[str | None, str | None]:
    """Path and digest of the official file; None for random weights."""
    if run.weights != "official" or run.backbone == CLASSICAL:
        return None, None
    from registry import backbones, weights

    path, digest = weights.verified(backbones.card(run.backbone), folder)
    return str(path), digest
