"""Adapter of a fine-tuned model as `peft` loads it onto the plain backbone: its layers and its configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from registry import backbones, export_layers
from registry.errors import StrategyError
from registry.export_layers import A

if TYPE_CHECKING:
    from registry.sam import Sam


def plain_config(sam: Sam, config: Mapping[str, Any], lora: Iterable[str]) -> dict[str, Any]:
    """Return an adapter's configuration for the plain backbone.

    Args:
        sam: a model with a strategy.
        config: of its adapter, as PEFT writes it; returned as it is where no part of a split layer has an adapter.
        lora: names of the adapter's tensors, as PEFT writes them.

    Raises:
        StrategyError: see `export_layers.lora_places`.
    """
    places = export_layers.lora_places(sam, lora)
    modules = [name.removesuffix(A) for name in places if name.endswith(A)]
    on_parts = [module for module in modules if places[module + A].rows is not None]
    if not on_parts:
        return dict(config)
    scales = export_layers.layer_scales(sam, on_parts)
    ranks: dict[str, tuple[int, float]] = {}
    for module in modules:
        place = places[module + A]
        layer: Any = sam.get_submodule(module)
        name, rank = place.name.removesuffix(A), place.n_rows or layer.r["default"]
        alpha = rank * scales.get(name, export_layers.scale_of(sam, module))
        ranks[name] = rank, int(alpha) if alpha == int(alpha) else alpha  # PEFT's own is an integer
    rank, alpha = Counter(ranks.values()).most_common(1)[0][0]
    return {
        **config,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": False,  # alpha holds the whole scale
        "rank_pattern": {name: r for name, (r, _) in sorted(ranks.items()) if r != rank},
        "alpha_pattern": {name: a for name, (_, a) in sorted(ranks.items()) if a != alpha},
        "target_modules": sorted(ranks),
    }


def check_layers(sam: Sam) -> None:
    """Refuse an adapter on layers that the plain backbone does not have.

    Raises:
        StrategyError: names such a layer.
    """
    split, plain = export_layers.parts(sam), backbone_names(sam)
    for name, _ in adapted(sam):
        layer = split[name].layer if name in split else name
        if not any(tensor.startswith(f"{layer}.") for tensor in plain):
            raise StrategyError(
                f"the adapter is on {layer!r}, which the plain {sam.card.title} does not have, so PEFT alone could not "
                "load it. The module that the strategy puts in place of a layer needs a method fused_rows (see "
                "registry/modules/split_qkv.py); use the run's own folder with registry.load until then."
            )


def adapted(sam: Sam) -> list[tuple[str, Any]]:
    """Return the layers that PEFT wrapped, with their full names."""
    if not hasattr(sam, "peft_config"):
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in sam.named_modules() if isinstance(module, BaseTunerLayer)]


def backbone_names(sam: Sam) -> set[str]:
    """Return the names of all tensors of the plain backbone."""
    entry = backbones.get(sam.card.name)
    try:
        with torch.device("meta"):  # names need no values, and ViT-H takes 2.5 GB
            return set(entry.build(sam.image_size).state_dict())
    except Exception:  # a plug-in that reads values while it is built
        return set(entry.build(sam.image_size).state_dict())
