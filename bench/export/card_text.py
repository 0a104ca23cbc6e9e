"""Sections of a model card that are sentences: protocol, data, limits, training, sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bench.export.escape import MISSING, markdown
from bench.grid import named_settings
from bench.results.record import RunRecord
from registry import datasets, heads, strategies
from registry.card import Card
from registry.loading import Recipe

VERSIONS = ("nuclei-bench", "torch", "peft", "timm", "segment-anything")


def dataset_name(record: RunRecord) -> str:
    """Return the user's name of the images: that of their folder, unless they are the dataset's release."""
    data = _data(record)
    folder = PurePath(str(data.get("root") or "")).name
    return str(record.run["dataset"]) if data.get("official") or not folder else folder


def dataset_type(record: RunRecord) -> str:
    """Return `dataset_name` as the hub writes names: letters, digits, underscores, dots and dashes."""
    slug = re.sub(r"[^\w.-]+", "-", dataset_name(record), flags=re.ASCII).strip("-.")
    return slug[:96] or "unnamed"


def protocol(record: RunRecord) -> str:
    """Return what the scores are of."""
    run, scores = record.run, record.scores or {}
    n_images = scores.get("n_images")
    images = f"{int(n_images):,} images" if isinstance(n_images, int | float) else "the images"
    nuclei = scores.get("n_true")
    images += f" with {int(nuclei):,} nuclei" if isinstance(nuclei, int | float) else ""
    data = _data(record)
    check = markdown(data.get("verified")).rstrip(".")
    verified = f" The comparison of the images with the published release: {check}." if data.get("verified") else ""
    return (
        f"Test: {images} of fold {int(run['fold'])} of {int(run['n_splits'])} (seed {int(run['fold_seed'])}) of "
        f"{_name(record)}, which the training never saw. Each image is scored at its own resolution, and the scores "
        "are means over the images. The checkpoint and the parameters of the post-processing were chosen on the "
        "validation images, a part of the training folds: their scores are those of the chosen parameters, while "
        f"`bench status {_hex(record.id)}` shows those of each epoch, before the choice."
        f"{_trained_again(record)}{verified} "
        "This is one run, on one fold and with one seed; "
        "the mean over folds stands in the leaderboard of nuclei-bench (`bench table`)."
    )


def _trained_again(record: RunRecord) -> str:
    """Return a sentence on the second training of a run (``train.refit``); empty where there is none."""
    epochs = (record.cost or {}).get("refit_epochs")
    if not isinstance(epochs, int):
        return ""
    return (
        f" Then the model was trained again on training and validation images together, up to the chosen epoch "
        f"({epochs}): the validation scores are those of its first training, the test scores those of the second."
    )


def training_data(record: RunRecord) -> str:
    """Return which images the model has seen."""
    run, data = record.run, _data(record)
    fold, n_splits = int(run["fold"]), int(run["n_splits"])
    with_images = (record.provenance or {}).get("folds") or range(1, n_splits + 1)
    others = [str(number) for number in with_images if number != fold]
    seen = f"fold{'s' * (len(others) > 1)} {', '.join(others)}"
    share = run.get("validation_fraction")
    again = ", on which it was trained in the end" if _trained_again(record) else ""
    validation = f", about {float(share):.0%} of the images as validation part{again}" if share is not None else ""
    n_images = data.get("n_images")
    total = f"{int(n_images):,} images" if isinstance(n_images, int) else "the images"
    rows = {
        "images": f"{_name(record)}: {total}, {_of_release(record)}",
        "seen in training": f"{seen} of {n_splits}{validation}",
        "never seen": f"fold {fold}",
        "fingerprint of images and labels": f"`{_hex(run['dataset_digest'])}`",
        "digest of the folds": f"`{_hex((record.provenance or {}).get('folds_digest'))}`",
    }
    lines = "\n".join(f"- {name}: {text}" for name, text in rows.items())
    return f"{lines}\n\nScores on images of the training folds say nothing: the model was fitted to them."


def limits(record: RunRecord, card: Card, recipe: Recipe, merged: str | None) -> list[str]:
    """Return what a user must know before using the model, a sentence or two each."""
    lines = []
    if recipe.weights == "random":
        version = ((record.provenance or {}).get("versions") or {}).get("torch")
        lines.append(
            f"The backbone's weights were **random** (seed {recipe.seed}): the scores say nothing of "
            f"{markdown(card.title)}. They are made again from the seed, so another version of torch than "
            f"{markdown(version)} may make others."
        )
    if card.note:
        lines.append(markdown(card.note))
    if not datasets.release(str(record.run["dataset"])).real_tissue:
        lines.append("It was trained and tested on synthetic images: its scores say nothing of tissue.")
    size = f"{recipe.image_size} × {recipe.image_size} pixels"
    scale = f"{recipe.scale:g} input pixels per image pixel, in inputs of {size}" if recipe.scale is not None else ""
    scale = scale or f"each image fitted into one input of {size}"
    lines += [
        f"Trained with {scale}: nuclei of another size in the input, other stains or scanners were not tested.",
        "Trained without prompts: points and boxes no longer give the masks of the original model. "
        f"{_channels(recipe)}",
        "Not tested for diagnostic use.",
    ]
    if plugins := (record.provenance or {}).get("plugins"):
        names = ", ".join(markdown(PurePath(str(name)).name) for name in plugins)
        lines.append(f"Code of its own is needed and not in this folder: {names}; import it before `registry.load`.")
    if merged:
        lines.append(
            f"`{merged}` predicts for inputs of {recipe.image_size} pixels what this model does; programs that use "
            "another input size get other results."
        )
    return lines


def training(record: RunRecord) -> str:
    """Return the settings that the model was trained with, and the versions."""
    run, provenance = record.run, record.provenance or {}
    settings = {"seed": run["seed"], "head": run["head"], **named_settings(run)}
    versions = provenance.get("versions") or {}
    shown = ", ".join(f"{name} {markdown(versions[name])}" for name in VERSIONS if versions.get(name))
    table = "\n".join(f"| {markdown(name)} | {markdown(value)} |" for name, value in settings.items())
    return (
        f"| setting | value |\n| --- | --- |\n{table}\n\nSoftware: {shown or MISSING}; commit "
        f"{markdown(provenance.get('commit'))}{' with changes' if provenance.get('dirty') else ''}."
    )


def sources(card: Card, recipe: Recipe) -> str:
    """Return licence and papers of the backbone and the strategy."""
    kind = "The base weights, and code," if recipe.weights != "random" else "The code"
    return (
        f"- {kind} of {markdown(card.title)}: {markdown(card.licence)}; {_link(card.repository)}; "
        f"{markdown(card.paper)}\n- Strategy: {markdown(strategies.get(recipe.strategy).source)}\n"
        "- The licence of the training images holds besides."
    )


def merged(card: Card, filename: str) -> str:
    """Return how the merged checkpoint is used."""
    official = f" in place of `{_hex(card.checkpoint.filename, 80)}`" if card.checkpoint else ""
    return (
        f"`{filename}` is the whole model in the format of {_link(card.repository)}, the trained part merged into its "
        f"layers: that code, and programs that take its checkpoints, load it{official}. See Limits."
    )


def _channels(recipe: Recipe) -> str:
    tokens = ", ".join(str(token) for token in recipe.tokens)
    return (
        f"Mask tokens {tokens} hold the channels of the head {markdown(recipe.head)} "
        f"({markdown(heads.get(recipe.head).summary)}), not alternative masks, and the predicted IoU was not trained."
    )


def _name(record: RunRecord) -> str:
    return markdown(dataset_name(record))


def _of_release(record: RunRecord) -> str:
    dataset = markdown(record.run["dataset"])
    if _data(record).get("official"):
        return f"the published release of {dataset}"
    layout = "" if dataset == _name(record) else f", in the layout of {dataset}"
    return f"no published release{layout}"


def _data(record: RunRecord) -> Mapping[str, Any]:
    data = (record.provenance or {}).get("dataset")
    return data if isinstance(data, Mapping) else {}


def _hex(value: Any, longest: int = 64) -> str:
    """Return a digest or file name for a code span: letters, digits, dots, dashes and underscores."""
    return "".join(c for c in str(value or MISSING) if c.isalnum() or c in "._-–")[:longest]


def _link(text: str) -> str:
    """Return an address as a link; anything else as text."""
    return f"<{text}>" if re.fullmatch(r"https://[\w./~%?=&#-]+", text, re.ASCII) else markdown(text)
