"""What a run is made from: the dataset's images and the checkpoint, refused if they are not what was planned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.grid import CLASSICAL, Run
from registry.errors import DataError, WeightsError

if TYPE_CHECKING:
    from bench.training.data import Image


def images(run: Run, folder: Path) -> dict[str, Image]:
    """The dataset's images by stem; decoded once for all runs of a job.

    Raises:
        DataError: they are unreadable, or no longer those that the plan was made for.
    """
    from bench.training import data
    from registry import datasets

    dataset = datasets.get(run.dataset)
    samples = dataset.samples(folder)
    found = datasets.fingerprint(samples)[: len(run.dataset_digest)]
    if found != run.dataset_digest:
        raise DataError(
            f"the images in {folder} have changed: their fingerprint is {found}, and the plan was made for "
            f"{run.dataset_digest}. Run the same command again to plan anew."
        )
    return data.load(dataset, samples)


def provenance(
    run: Run, images: Mapping[str, Image], *, data_folder: Path, weights_folder: Path | None
) -> dict[str, Any]:
    """Where data and weights come from; the checkpoint's digest is verified before it is loaded.

    Raises:
        WeightsError: the checkpoint is missing, or is not the official one.
    """
    from bench import folds
    from registry import backbones, weights
    from registry.datasets import nuinsseg

    groups = {stem: image.group for stem, image in images.items()}
    assigned = folds.assign(list(images), n_splits=run.n_splits, seed=run.fold_seed, groups=groups)
    organs = {image.organ for image in images.values()}
    found: dict[str, Any] = {
        "dataset": {
            "root": str(data_folder),
            "n_images": len(images),
            "n_organs": len(organs),
            "official": nuinsseg.is_official(images.values()),
        },
        "folds_digest": folds.assignment_digest(assigned, images.values()),
        "checkpoint": None,
        "checkpoint_digest": None,
    }
    if run.weights == "official" and run.backbone != CLASSICAL:
        status = weights.check(backbones.card(run.backbone), weights_folder)
        if status.state in ("missing", "wrong digest"):
            raise WeightsError(f"checkpoint of {run.backbone}: {status.state}: {status.detail}")
        card = backbones.card(run.backbone).checkpoint
        published = card.sha256 if card and status.state == "ok" else None  # just compared: no need to read it twice
        found |= {"checkpoint": str(status.path), "checkpoint_digest": published or weights.digest(status.path)}
    return found
