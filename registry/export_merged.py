"""Official checkpoint of a fine-tuned model: adapters merged, names and nesting as the backbone's authors have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from registry import backbones, export_adapter, export_layers, strategies
from registry.errors import StrategyError, WeightsError
from registry.modules import high_resolution

if TYPE_CHECKING:
    from registry.contract import Backbone
    from registry.sam import Sam

SHOWN_NAMES = 3
BRANCH = f"mask_decoder.{high_resolution.NAME}."


def filename(sam: Sam) -> str:
    """Return the name of the merged file: the backbone's, with the suffix of the official file."""
    checkpoint = sam.card.checkpoint
    official = PurePosixPath((checkpoint.member or checkpoint.filename) if checkpoint else "sam.pth")
    return f"{sam.card.name}_merged{official.suffix}"


def save(sam: Sam, path: Path, official: Path | None = None) -> None:
    """Write a fine-tuned model as a checkpoint in the format of the backbone's authors.

    Their code loads it, as does ``registry.backbones.build(name, checkpoint=path)``. The same model gives the same
    bytes.

    Args:
        sam: a model with a strategy; its adapter is merged into its layers and stays merged.
        path: the file.
        official: the official file; needed only for a backbone whose card lists unused keys, which are copied.

    Raises:
        StrategyError: the model has modules that the official one lacks.
        WeightsError: the backbone has no inverse of its key conversion, or a wrong one.
    """
    check(sam)
    merge(sam)
    entry = backbones.get(sam.card.name)
    content: dict[str, Any] = _official_names(
        export_layers.gather(sam.state_dict(), export_layers.own_places(sam)), entry
    )
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in content.items()} | _unused(entry, official)
    checkpoint = sam.card.checkpoint
    if checkpoint and checkpoint.nested_key:
        content = {checkpoint.nested_key: content}
    with path.open("wb") as file:  # a path would write its stem into the archive, and so into the bytes
        torch.save(content, file)


def check(sam: Sam) -> None:
    """Refuse a model that the official format can't hold; changes nothing.

    Raises:
        StrategyError: the model has modules that the official one lacks, or an adapter that can't be merged.
        WeightsError: the backbone has no inverse of its key conversion, or a wrong one.
    """
    entry = backbones.get(sam.card.name)
    if entry.convert and not entry.restore:
        raise WeightsError(
            f"the backbone {sam.card.name!r} can't be written in its authors' format: it registers how to read their "
            "names, not how to restore them. Export without --merged, or add the inverse: "
            "register(CARD, convert=…, restore=…); registry.renaming.Renaming gives both."
        )
    state, places = sam.state_dict(), export_layers.own_places(sam)
    own, plain = {place.name for place in places.values()}, export_adapter.backbone_names(sam)
    applied = strategies.applied(sam)
    strategy = "the strategy" if applied is None else repr(applied.name)
    branch = sorted(name for name in own - plain if name.startswith(BRANCH))
    if branch:
        raise StrategyError(
            f"the run's head adds a high-resolution branch to the mask decoder ({len(branch)} tensors, {branch[0]} "
            f"among them), and the official format of {sam.card.title} has no place for it. Export without --merged "
            "and load the folder with registry.load; or train the head 'distance', which adds nothing."
        )
    if added := sorted(own - plain):
        shown = ", ".join(added[:SHOWN_NAMES]) + (", …" if len(added) > SHOWN_NAMES else "")
        raise StrategyError(
            f"{strategy} adds {len(added)} tensors that the official format of {sam.card.title} has no place for "
            f"({shown}), and they can't be merged into its layers. Export without --merged and load the folder with "
            "registry.load, or train a strategy whose weights can be merged, such as lora_qv."
        )
    if missing := sorted(plain - own):
        raise StrategyError(
            f"{strategy} leaves out {len(missing)} tensors of {sam.card.title} ({', '.join(missing[:SHOWN_NAMES])}); "
            "export without --merged."
        )
    for name, module in export_adapter.adapted(sam):
        if not hasattr(module, "merge"):
            raise StrategyError(f"the adapter on {name!r} can't be merged into it; export without --merged.")
    _official_names(export_layers.gather({name: state[name] for name in places}, places), entry)


def merge(sam: Sam) -> None:
    """Merge PEFT's adapters into their layers, in place; raises `StrategyError` for those that can't be merged."""
    for name, module in export_adapter.adapted(sam):
        if module.merged:
            continue
        try:
            module.merge(safe_merge=True)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise StrategyError(
                f"the adapter on {name!r} can't be merged ({error}); export without --merged."
            ) from error


def _official_names(own: Mapping[str, Tensor], entry: Backbone) -> dict[str, Tensor]:
    """Return tensors by official names; raises `WeightsError` if reading them would not give the same names again."""
    try:
        official = entry.restore(own) if entry.restore else dict(own)
        again = entry.convert(official) if entry.convert else official
    except Exception as error:  # of a plug-in
        raise WeightsError(
            f"restore of the backbone {entry.card.name!r} does not give the names that its convert reads, which fails "
            f"on them: {error!r}. Correct it, or export without --merged."
        ) from error
    wrong = sorted(name for name in own if name not in again or again[name].shape != own[name].shape)
    if wrong or len(again) != len(own):
        raise WeightsError(
            f"restore of the backbone {entry.card.name!r} is not the inverse of its convert: {len(wrong)} names or "
            f"shapes differ ({', '.join(wrong[:SHOWN_NAMES])}). Correct it, or export without --merged."
        )
    return official


def _unused(entry: Backbone, official: Path | None) -> dict[str, Tensor]:
    """Return the tensors of the official file that the model has no use for, and its authors' code may ask for."""
    keys = entry.card.checkpoint.unused_keys if entry.card.checkpoint else ()
    if not keys:
        return {}
    if official is None:
        raise WeightsError(
            f"the official file of {entry.card.name} holds tensors that the model here does not need "
            f"({', '.join(keys[:SHOWN_NAMES])}), and with random weights there is no file to copy them from; export "
            "without --merged."
        )
    from registry.modules.checkpoint import read

    tensors = read(official, entry.card)
    return {key: tensors[key].clone() for key in keys if key in tensors}
