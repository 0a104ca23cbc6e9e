"""Places of a fine-tuned model's tensors in the plain backbone, whose layers a strategy may have split or wrapped.

PEFT wraps a layer, and `lora_qv` splits the fused query-key-value layer before; the plain backbone has neither. A LoRA
of rank r on q and one on v are together exactly a LoRA of rank 2r on the fused layer: A is stacked, and B has its rows
and columns where they belong and zeros elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from registry.errors import StrategyError

if TYPE_CHECKING:
    from registry.sam import Sam

BASE_LAYER = ".base_layer."
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Place:
    """Place of one tensor of a fine-tuned model in a tensor of the plain backbone or its adapter.

    Attributes:
        name: the plain tensor's.
        rows: rows of it that the tensor fills; None fills it whole.
        n_rows: number of rows of the plain tensor, where `rows` is given.
        columns: first column and end; None fills whole rows.
        n_columns: number of columns of the plain tensor, where `columns` is given.
        scale: factor from the tensor to the plain one.
    """

    name: str
    rows: Tensor | None = None
    n_rows: int = 0
    columns: tuple[int, int] | None = None
    n_columns: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Part:
    """Linear layer of a split one.

    Attributes:
        layer: name of the split layer, which is that of the plain layer.
        rows: outputs of the plain layer that this part computes.
        n_rows: number of all outputs of the plain layer.
    """

    layer: str
    rows: Tensor
    n_rows: int


def parts(sam: Sam) -> dict[str, Part]:
    """Return the parts of all split layers by their full names.

    A split layer is a module with a method ``fused_rows() -> {name: rows}``: for each of its parts, by the name of the
    submodule, the outputs of the plain layer that it computes (see `registry.modules.split_qkv.SplitQkv`).
    """
    by_name: dict[str, Part] = {}
    for name, module in sam.named_modules():
        if hasattr(module, "fused_rows"):
            rows_by_part: Mapping[str, Tensor] = module.fused_rows()
            n_rows = sum(len(rows) for rows in rows_by_part.values())
            by_name |= {f"{name}.{part}": Part(name, rows, n_rows) for part, rows in rows_by_part.items()}
    return by_name


def lora_state(sam: Sam) -> dict[str, Tensor]:
    """Return LoRA's tensors by PEFT's names; empty without LoRA."""
    if not hasattr(sam, "peft_config"):
        return {}
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(sam, save_embedding_layers=False))


def own_places(sam: Sam) -> dict[str, Place]:
    """Return the places of all tensors of a model's state dict but those of PEFT's adapters, by their names."""
    of_adapters = {tensor.data_ptr() for tensor in lora_state(sam).values()}
    split = parts(sam)
    places: dict[str, Place] = {}
    for name, tensor in sam.state_dict().items():
        if tensor.data_ptr() in of_adapters and tensor.numel():
            continue
        plain = name.replace(BASE_LAYER, ".")
        module, _, leaf = plain.rpartition(".")
        part = split.get(module)
        places[name] = Place(f"{part.layer}.{leaf}", part.rows, part.n_rows) if part else Place(plain)
    return places


def lora_places(sam: Sam, names: Iterable[str]) -> dict[str, Place]:
    """Return the places of an adapter's tensors in the adapter of the plain backbone.

    Args:
        sam: a model with a strategy.
        names: of the adapter's tensors, as PEFT writes them.

    Raises:
        StrategyError: an adapter on a part of a split layer that is no plain LoRA on a linear layer.
    """
    names = list(names)
    split = parts(sam)
    on_parts = {module: part for module, part in split.items() if any(name.startswith(f"{module}.") for name in names)}
    for module in on_parts:
        _require_plain_lora(sam, module, [name for name in names if name.startswith(f"{module}.")])
    ranks = {module: _lora(sam, module).r["default"] for module in on_parts}
    scales = layer_scales(sam, on_parts)
    totals: dict[str, int] = {}
    places: dict[str, Place] = {name: Place(name) for name in names}
    for module, part in on_parts.items():
        first = totals.get(part.layer, 0)
        totals[part.layer] = end = first + ranks[module]
        rank_rows = torch.arange(first, end)
        places[module + A] = Place(part.layer + A, rank_rows)
        scale = scale_of(sam, module) / scales[part.layer]
        places[module + B] = Place(part.layer + B, part.rows, part.n_rows, (first, end), scale=scale)
    return {name: _with_totals(place, totals) for name, place in places.items()}


def scale_of(sam: Sam, module: str) -> float:
    """Return the factor of the LoRA on a layer."""
    return float(_lora(sam, module).scaling["default"])


def layer_scales(sam: Sam, modules: Iterable[str]) -> dict[str, float]:
    """Return the factor of the LoRA on each split layer: that of its first part, relative to which others are scaled.

    Args:
        sam: a model with a strategy.
        modules: full names of parts with a LoRA.
    """
    split, scales = parts(sam), dict[str, float]()
    for module in modules:
        scales.setdefault(split[module].layer, scale_of(sam, module))
    return scales


def plain_adapter(sam: Sam, lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapter's tensors by PEFT's names for the plain backbone; raises `StrategyError`, see `lora_places`."""
    return gather(lora, lora_places(sam, lora))


def plain_others(sam: Sam, others: Iterable[str]) -> dict[str, Tensor]:
    """Return other tensors of a model by the plain backbone's names; a split layer is whole if a part was trained."""
    places = own_places(sam)
    wanted = {places[name].name for name in others}
    return gather(sam.state_dict(), {name: place for name, place in places.items() if place.name in wanted})


def gather(tensors: Mapping[str, Tensor], places: Mapping[str, Place]) -> dict[str, Tensor]:
    """Return the plain tensors that a model's tensors make up; rows that none of them fills are zero.

    Args:
        tensors: by their names in the model; those without a place are left out.
        places: by the same names.
    """
    plain: dict[str, Tensor] = {}
    for name, place in places.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        if place.rows is None:
            plain[place.name] = tensor
            continue
        if place.name not in plain:
            rest = (place.n_columns, *tensor.shape[2:]) if place.columns else tuple(tensor.shape[1:])
            plain[place.name] = tensor.new_zeros((place.n_rows, *rest))
        _window(plain[place.name], place, tensor * place.scale)
    return plain


def scatter(plain: Mapping[str, Tensor], places: Mapping[str, Place]) -> dict[str, Tensor]:
    """Return a model's tensors from the plain ones: the inverse of `gather`."""
    own: dict[str, Tensor] = {}
    for name, place in places.items():
        tensor = plain[place.name]
        if place.rows is not None:
            tensor = tensor[place.rows.to(tensor.device)]
        if place.columns is not None:
            tensor = tensor[:, slice(*place.columns)]
        own[name] = (tensor if place.scale == 1 else tensor / place.scale).contiguous()
    return own


def _window(plain: Tensor, place: Place, values: Tensor) -> None:
    rows = place.rows.to(plain.device) if place.rows is not None else slice(None)
    if place.columns is None:
        plain[rows] = values
    else:
        plain[rows, slice(*place.columns)] = values


def _with_totals(place: Place, totals: Mapping[str, int]) -> Place:
    if place.rows is None:
        return place
    total = totals[place.name.removesuffix(A).removesuffix(B)]
    if place.columns is None:
        return Place(place.name, place.rows, total)
    return Place(place.name, place.rows, place.n_rows, place.columns, total, place.scale)


def _lora(sam: Sam, module: str) -> Any:
    return sam.get_submodule(module)


def _require_plain_lora(sam: Sam, module: str, names: list[str]) -> None:
    """Refuse what a LoRA on the fused layer can't express: another method, DoRA's magnitudes, a bias, convolutions."""
    layer = _lora(sam, module)
    base = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    variant = getattr(layer, "lora_variant", {}).get("default")
    if set(names) != {module + A, module + B} or variant is not None or not isinstance(base, nn.Linear):
        raise StrategyError(
            f"the adapter on {module!r}, a part of the layer {parts(sam)[module].layer!r}, is no plain LoRA, so it "
            "can't be written for the whole layer; use the run's own folder with registry.load, or a strategy that "
            "puts plain LoRA (no DoRA, no bias) on the parts."
        )
