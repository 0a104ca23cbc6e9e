"""Export of a run: its model in a folder of its own, compared with the run's model before the folder appears."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.export.model_card import Contents, write_card
from bench.grid import CLASSICAL
from bench.results import record
from bench.results.record import RunRecord
from bench.status import run_names
from registry import atomic, backbones, loading, strategies, whole_folder
from registry import weights as checkpoints
from registry.loading import Recipe
from registry.names import shown

if TYPE_CHECKING:
    from torch import Tensor

    from registry.sam import Sam

logger = logging.getLogger(__name__)
CARD_FILE = "README.md"
MERGED = "the merged checkpoint"
TOLERANCE = 1e-6
"""Largest difference of outputs, relative to the largest output, of a model that holds the same tensors."""
MERGED_TOLERANCE = 1e-4
"""The same where LoRA was merged into the weights, which rounds each of them to float32."""


@dataclass(frozen=True)
class Export:
    """A folder that was written.

    Attributes:
        folder: where.
        files: their names.
        differences: largest difference of each way of loading from the run's model, relative to its largest output.
    """

    folder: Path
    files: tuple[str, ...]
    differences: dict[str, float]


def export(
    text: str,
    target: Path,
    *,
    results: Path,
    merged: bool = False,
    weights: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write the model of a run into a new folder, whole or not at all.

    Args:
        text: the run's folder, its id or the beginning of it, or as `run_names.find` takes it.
        target: a folder that does not exist yet, or is empty.
        results: the results folder.
        merged: also write a checkpoint in the format of the backbone's authors.
        weights: folder of the official checkpoints; the user's cache by default.
        progress: called with what is done next.

    Raises:
        BenchError: no such run, a run without a trained model, or a folder that would not give its outputs.
        RegistryError: a folder that is not empty, a damaged trained part, a model that can't be written this way.
        OSError: the folder can't be written.
    """
    run_folder, values = _run(text, results)
    whole_folder.require_empty(target)
    progress("rebuilding the model")
    recipe = loading.read(run_folder)
    if recipe.base_weights != "full":
        raise BenchError(
            f"the run's adapter was trained on base weights in {recipe.base_weights}, and an exported folder promises "
            "the run's outputs on the plain backbone. Load the run itself, registry.load(RUN_FOLDER), which needs "
            "bitsandbytes; or train with train.base_weights=full."
        )
    sam = loading.build(recipe, weights=weights)
    outputs = _outputs(sam)
    with whole_folder.filling(target) as folder:
        contents = _write(sam, values, recipe, folder, merged=merged, weights=weights, progress=progress)
        del sam  # ViT-H takes 2.5 GB
        differences = _compare(folder, outputs, contents, weights=weights, progress=progress)
        files = tuple(sorted(path.name for path in folder.iterdir()))
    return Export(target, files, differences)


def _run(text: str, results: Path) -> tuple[Path, RunRecord]:
    """Return a run's folder and record; raises `BenchError` where it has no trained model."""
    path = Path(text).resolve()
    if (path / record.FILENAME).is_file() and path.parent.name == record.folder(results, "").name:
        results, run_id = path.parents[1], path.name
    else:
        run_id = run_names.find(results, text)
    values = record.read(results, run_id)
    if values is None:
        raise BenchError(
            f"the run {run_id} has no record yet: it is running, waiting or was stopped; `bench status` shows which. "
            "Export it when it is done."
        )
    name = f"{run_id} ({values.run['backbone']}/{values.run['strategy']}, fold {values.run['fold']})"
    if values.status != "ok":
        raise BenchError(
            f"the run {name} has no model: it {values.status} ({shown(str(values.reason))}). Run it again with "
            "`bench retry`, or export a run that is done."
        )
    if values.run["backbone"] == CLASSICAL:
        raise BenchError(f"the run {name} is the classical pipeline: it has no network that could be exported.")
    if not strategies.get(values.run["strategy"]).trains:
        raise BenchError(
            f"the run {name} trained nothing: its model is the backbone itself, "
            f"registry.backbones.build({values.run['backbone']!r}). Export a run of another strategy."
        )
    return record.folder(results, run_id), values


def _write(
    sam: Sam,
    values: RunRecord,
    recipe: Recipe,
    folder: Path,
    *,
    merged: bool,
    weights: Path | None,
    progress: Callable[[str], None],
) -> Contents:
    from registry import export_adapter, export_layers, export_merged, trained

    if merged:
        export_merged.check(sam)  # before the time that the other files take
    progress("writing the trained part")
    trained.save_plain(sam, folder)
    content = loading.as_model_json(recipe, trained=".") | {"run": values.id}
    atomic.write_text(folder / loading.MODEL_FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")
    own = {place.name for place in export_layers.own_places(sam).values()}
    has_adapter = (folder / trained.LORA_CONFIG).is_file()
    contents = Contents(
        files={},
        merged=export_merged.filename(sam) if merged else None,
        has_adapter=has_adapter,
        is_plain=own <= export_adapter.backbone_names(sam),
    )
    card = backbones.card(recipe.backbone)
    files = {loading.MODEL_FILE: "settings from which `registry.load` rebuilds the model"}
    if has_adapter:
        files[trained.LORA_WEIGHTS] = "the adapter, in PEFT's format, on the backbone's own layers"
        files[trained.LORA_CONFIG] = "its configuration"
    files[trained.OTHERS] = "all other trained tensors, the mask decoder among them"
    if contents.merged:
        progress("writing the merged checkpoint")
        files[contents.merged] = "the whole model as a checkpoint in the format of the backbone's authors"
        official = checkpoints.path(card, weights) if recipe.weights == "official" else None
        export_merged.save(sam, folder / contents.merged, official)
    text = write_card(values, card, recipe, replace(contents, files=files))
    atomic.write_text(folder / CARD_FILE, text)
    return contents


def _compare(
    folder: Path, outputs: Tensor, contents: Contents, *, weights: Path | None, progress: Callable[[str], None]
) -> dict[str, float]:
    """Load the folder in every way that its card names, and compare the outputs with those of the run's model."""
    recipe = loading.read(folder)
    ways: dict[str, Callable[[], Sam]] = {"registry.load": lambda: loading.build(recipe, weights=weights)}
    if contents.is_plain:
        ways["peft" if contents.has_adapter else "the plain backbone"] = lambda: _plain(folder, recipe, weights)
    if contents.merged:
        path = folder / contents.merged
        ways[MERGED] = lambda: backbones.build(recipe.backbone, image_size=recipe.image_size, checkpoint=path)
    differences: dict[str, float] = {}
    for name, load in ways.items():
        progress(f"comparing the outputs of {name}")
        differences[name] = float((_outputs(load()) - outputs).abs().max() / outputs.abs().max().clamp(min=1e-12))
        if not differences[name] <= (MERGED_TOLERANCE if name == MERGED else TOLERANCE):
            raise BenchError(
                f"nothing was written: loaded by {name}, the model's outputs differ from the run's by "
                f"{differences[name]:.1e} of the largest. The strategy {recipe.strategy!r} changes the backbone in a "
                "way that its weights do not show; use the run's own folder with registry.load."
            )
    return differences


def _plain(folder: Path, recipe: Recipe, weights: Path | None) -> Sam:
    """Return the backbone with the trained part, loaded without the strategy's code."""
    from safetensors.torch import load_file

    from registry import trained

    sam = loading.build(replace(recipe, strategy="zero_shot", options={}, trained=None), weights=weights)
    sam.load_state_dict(load_file(folder / trained.OTHERS), strict=False)
    if (folder / trained.LORA_CONFIG).is_file():
        from peft import PeftModel

        PeftModel.from_pretrained(sam, str(folder))  # changes the layers of the model in place
    return sam.eval()


def _outputs(sam: Sam) -> Tensor:
    import torch

    size = sam.image_size
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, _ = sam(images)
    return logits
