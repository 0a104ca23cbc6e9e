"""Fine-tuned models from disk: a run's folder, its folder ``trained``, or a folder that `bench export` wrote.

It reads the JSON files as plain values, because `registry` imports nothing from the harness that wrote them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import backbones, heads, quantised, strategies
from registry.errors import WeightsError
from registry.names import shown

if TYPE_CHECKING:
    from registry.sam import Sam

RECORD_FILE = "record.json"
MODEL_FILE = "model.json"
TRAINED_FOLDER = "trained"
PREDICTIONS_FOLDER = "predictions"
SCHEMA_VERSION = 1
_KINDS: Mapping[str, Any] = {
    "backbone": str,
    "strategy": str,
    "head": str,
    "options": dict,
    "tokens": list,
    "image_size": int,
    "scale": float | int | None,
    "image_side": int | None,
    "weights": str,
    "seed": int,
    "checkpoint_digest": str | None,
    "post_processing": dict,
    "trained": str | None,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that a model is rebuilt from, and how its predictions become nuclei.

    Attributes:
        backbone: registered name.
        strategy: registered name.
        head: registered name.
        options: of the strategy.
        tokens: the mask tokens that the head reads.
        image_size: side of the model's square input in pixels.
        scale: input pixels per image pixel; None fits each whole image into one input.
        image_side: longer side in pixels of the images that the run was tested on, their median; None where no
            prediction is kept.
        weights: ``official`` or ``random``.
        seed: of random weights and of the parameters that the strategy added.
        checkpoint_digest: SHA-256 of the official file that was trained on; None with random weights.
        post_processing: the head's parameters as the run chose them; empty takes the head's defaults.
        trained: folder of the trained part; None where nothing was trained.
        tta: predictions are the mean of the logits of an image in its eight orientations, as the run's were.
        base_weights: how the frozen layers kept their weights in training, see `registry.quantised`.
    """

    backbone: str
    strategy: str
    head: str
    options: Mapping[str, Any]
    tokens: tuple[int, ...]
    image_size: int
    scale: float | None
    weights: str
    seed: int
    checkpoint_digest: str | None
    post_processing: Mapping[str, float] = field(default_factory=dict)
    image_side: int | None = None
    trained: Path | None = None
    tta: bool = False
    base_weights: str = quantised.FULL


def load(path: str | Path, *, weights: str | Path | None = None) -> Sam:
    """Rebuild a fine-tuned model: its outputs equal those of the trained one bit for bit, on the same device.

    The backbone is built from the official checkpoint, which must be the file that was trained on, or from the run's
    seed where its weights were random; then the strategy is applied and the trained part is read.

    Args:
        path: a run's folder (``results/runs/<id>``), its folder ``trained``, or a folder that `bench export` wrote.
        weights: folder of the official checkpoints; the user's cache by default.

    Returns:
        The model in eval mode, on the CPU.

    Raises:
        WeightsError: no model there, an official checkpoint that is missing or another one, a damaged trained part.
        RegistryError: a name that is not registered: import the plug-in that registers it first.
    """
    return build(read(path), weights=weights)


def build(recipe: Recipe, *, weights: str | Path | None = None) -> Sam:
    """Rebuild the model of a recipe, as `load` does.

    Raises:
        WeightsError, RegistryError: see `load`.
    """
    from registry.prepared import prepare

    sam = prepare(
        backbone=recipe.backbone,
        strategy=recipe.strategy,
        options=recipe.options,
        image_size=recipe.image_size,
        checkpoint=_checkpoint(recipe, None if weights is None else Path(weights)),
        tokens=recipe.tokens,
        seed=recipe.seed,
        head=recipe.head,
        base_weights=recipe.base_weights,
    )
    _read_trained(sam, recipe)
    return sam.eval()


def read(path: str | Path) -> Recipe:
    """Return the recipe of a run's folder, of its folder ``trained``, or of an exported folder; builds nothing.

    Raises:
        WeightsError: the folder holds no model, or a run that has none.
        UnknownNameError: a run whose head is not registered.
    """
    folder = Path(path)
    for candidate in (folder, folder.parent) if folder.name == TRAINED_FOLDER else (folder,):
        if (candidate / MODEL_FILE).is_file():
            return _exported(candidate)
        if (candidate / RECORD_FILE).is_file():
            return _recorded(candidate)
    raise WeightsError(
        f"{shown(folder)} holds neither {RECORD_FILE} nor {MODEL_FILE}; give the folder of a run (results/runs/<id>), "
        f"its folder {TRAINED_FOLDER} beside its {RECORD_FILE}, or a folder that `bench export` wrote."
    )


def as_model_json(recipe: Recipe, *, trained: str | None) -> dict[str, Any]:
    """Return the values of the file ``model.json`` in an exported folder.

    Args:
        recipe: of the run.
        trained: folder of the trained part, relative to the exported one; None where nothing was trained.
    """
    values = {key: getattr(recipe, key) for key in _KINDS}
    plain = {"options": dict(recipe.options), "tokens": list(recipe.tokens), "trained": trained}
    later = {"tta": recipe.tta}  # not in every file of this schema
    return {
        "schema_version": SCHEMA_VERSION,
        **values,
        **plain,
        "post_processing": dict(recipe.post_processing),
        **later,
    }


def _recorded(folder: Path) -> Recipe:
    path = folder / RECORD_FILE
    values = _json(path)
    run, scores = values.get("run"), values.get("scores") or {}
    if not isinstance(run, dict) or not isinstance(scores, dict):
        raise WeightsError(f"{shown(path)} is not the record of a run; restore the file, or run it again.")
    name = "/".join(str(run.get(key)) for key in ("backbone", "strategy"))
    if values.get("status") != "ok":
        raise WeightsError(
            f"{shown(folder)}: the run of {name} has no model: its status is {values.get('status')!r} "
            f"({values.get('reason')}). Run it again with `bench retry`, or choose a run that is done."
        )
    if run.get("backbone") not in backbones.names() and run.get("head") not in heads.names():
        raise WeightsError(
            f"{shown(folder)}: {name} has no model that is known here; a pipeline without a network has none, and "
            "a plug-in must be imported first (--plugins DIR)."
        )
    provenance = values.get("provenance") or {}
    extra = {
        "tokens": list(heads.get(str(run.get("head"))).channels),
        "checkpoint_digest": provenance.get("checkpoint_digest") if isinstance(provenance, dict) else None,
        "post_processing": scores.get("post_processing") or {},
        "image_side": _image_side(folder),
        "trained": TRAINED_FOLDER if strategies.get(str(run.get("strategy"))).trains else None,
    }
    recipe, train = _recipe({**run, **extra}, path), run.get("train")
    return replace(
        recipe, base_weights=train.get("base_weights", quantised.FULL) if isinstance(train, dict) else "full"
    )


def _exported(folder: Path) -> Recipe:
    path = folder / MODEL_FILE
    values = _json(path)
    version = values.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise WeightsError(
            f"{shown(path)} has schema {version!r}, this version reads up to {SCHEMA_VERSION}; update nuclei-bench."
        )
    return _recipe(values, path)


def _recipe(values: Mapping[str, Any], path: Path) -> Recipe:
    wrong = [key for key, kind in _KINDS.items() if not isinstance(values.get(key), kind)]
    if wrong:
        raise WeightsError(
            f"{shown(path)} lacks {', '.join(wrong)}, or holds values of another type there; restore the file, or "
            "export the run again."
        )
    unfit = sorted(name for name, value in values["post_processing"].items() if not _is_number(value))
    if unfit:
        raise WeightsError(
            f"{shown(path)}: post_processing must hold finite numbers; {', '.join(map(shown, unfit))} is none. Restore "
            "the file, or train again."
        )
    known: dict[str, Any] = {key: values.get(key) for key in _KINDS}
    trained = None if known["trained"] is None else path.parent / known["trained"]
    return Recipe(**{**known, "tokens": tuple(known["tokens"]), "trained": trained, "tta": values.get("tta") is True})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _image_side(folder: Path) -> int | None:
    """Return the median of the longer sides of the label maps that a run keeps; None where it keeps none."""
    from PIL import Image

    sides = []
    for path in sorted((folder / PREDICTIONS_FOLDER).glob("*.[pt][ni][gf]")):
        with suppress(OSError), Image.open(path) as image:  # reads the header alone
            sides.append(max(image.size))
    return statistics.median_low(sides) if sides else None


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{shown(path)} can't be read ({error}); restore the file, or run again.") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{shown(path)} can't be read (it holds no object); restore the file, or run again.")
    return values


def _checkpoint(recipe: Recipe, folder: Path | None) -> Path | None:
    """Return the official file; None for random weights."""
    if recipe.weights == "random":
        return None
    from registry import weights

    path, digest = weights.verified(backbones.card(recipe.backbone), folder)
    if recipe.checkpoint_digest is not None and digest != recipe.checkpoint_digest:
        raise WeightsError(
            f"{shown(path)} is not the checkpoint that {recipe.backbone} was trained on: its sha256 is {digest}, the "
            f"run used {recipe.checkpoint_digest}. Move it away, and get the other file: run "
            f"`bench weights fetch {recipe.backbone}`, or name its folder."
        )
    return path


def _read_trained(sam: Sam, recipe: Recipe) -> None:
    """Read the trained part into the model; changes nothing where nothing was trained."""
    if recipe.trained is None:
        return
    from registry import trained

    trained.load(sam, recipe.trained)
