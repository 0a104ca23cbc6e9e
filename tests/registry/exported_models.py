"""Trained models for the tests of exports, and the models that are loaded from an exported folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from strategy_models import build, predict
from torch import nn

from registry import blocks, lora, strategies, trainable

SIZE = 64
LARGEST = 1e-6


def trained_model(strategy: str, backbone: str = "sam_nano", **options: Any) -> Any:
    """Return a model whose trained parameters are not those that it started with."""
    sam = build(backbone, SIZE)
    strategies.apply(strategy, sam, **options)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in sam.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return sam.eval()


def outputs(sam: Any) -> torch.Tensor:
    return predict(sam, torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)))


def by_peft_alone(folder: Path, backbone: str = "sam_nano") -> Any:
    """Return the plain backbone with an exported folder, loaded by PEFT's and torch's own functions."""
    from peft import PeftModel
    from safetensors.torch import load_file

    plain = build(backbone, SIZE).eval()
    result = plain.load_state_dict(load_file(folder / "trained.safetensors"), strict=False)
    assert result.unexpected_keys == []
    return PeftModel.from_pretrained(plain, str(folder)).eval()


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


@contextmanager
def registered(apply: Any, name: str = "third_party") -> Iterator[str]:
    """Register a strategy while the block runs."""
    store = strategies._store
    strategies.names()  # filled before it is changed
    strategies.register(name, summary="s", source="s", encoder_lr=1e-3)(apply)
    try:
        yield name
    finally:
        del store._entries[name], store._sources[name]


class Halves(nn.Module):
    """A linear layer split into two halves of its outputs, without a word on which."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        half = layer.out_features // 2
        self.first, self.second = (nn.Linear(layer.in_features, half) for _ in range(2))
        for part, rows in ((self.first, slice(None, half)), (self.second, slice(half, None))):
            part.load_state_dict({"weight": layer.weight[rows], "bias": layer.bias[rows]})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.first(x), self.second(x)], dim=-1)


class NamedHalves(Halves):
    """The same with the rows of the whole layer that each half computes."""

    def fused_rows(self) -> dict[str, torch.Tensor]:
        half = self.first.out_features
        return {"first": torch.arange(half), "second": torch.arange(half, 2 * half)}


def on_halves(kind: type[Halves], sam: Any, tokens: tuple[int, ...], config: Any = None) -> None:
    """Split the first layer of every MLP and put LoRA on the second half; train the first half's bias."""
    from peft import inject_adapter_in_model

    targets = blocks.linears(sam, sam.card.targets.mlp_in)
    for name, layer in targets.items():
        sam.set_submodule(name, kind(layer))
    trainable.freeze(sam)
    names = [f"{name}.second" for name in targets]
    if config is None:
        lora.inject(sam, names, 2)
    else:
        inject_adapter_in_model(config(names), sam)
    for name in targets:
        sam.get_parameter(f"{name}.first.bias").requires_grad_(True)
    trainable.train_decoder(sam, tokens)
