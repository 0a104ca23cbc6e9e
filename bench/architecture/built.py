"""A model built for its figure: parameters without values, and which of them the strategy trains or has added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.architecture.graph import Counts, State
from registry import backbones, heads, strategies
from registry.errors import RegistryError
from registry.sam import Sam


@dataclass(frozen=True)
class Built:
    """A backbone with a strategy applied, in eval mode.

    Attributes:
        sam: the model; on fake tensors within `usable`, unless a plug-in needs values.
        states: of all parameters, by name.
        options: of the strategy, but those that have their neutral value and change nothing.
        is_fake: whether its parameters have no values.
    """

    sam: Sam
    states: Mapping[str, State]
    options: Mapping[str, Any]
    is_fake: bool

    def counts(self, name: str = "") -> Counts:
        """Return the numbers of parameters of a module, by its full name; of the model by default."""
        values = dict.fromkeys(("frozen", "trained", "added"), 0)
        for parameter, value in self.sam.named_parameters():
            if not name or parameter == name or parameter.startswith(f"{name}."):
                values[self.states[parameter]] += value.numel()
        return Counts(**values)


def build(
    backbone: str,
    strategy: str,
    *,
    head: str,
    options: Mapping[str, Any] = MappingProxyType({}),
    image_size: int | None = None,
) -> Built:
    """Build a pair on the meta device: shapes are all that a figure needs, and ViT-H would take 20 s and 2.5 GB.

    Args:
        backbone, strategy: registered names.
        head: registered name; its mask tokens are trained, and its modules are added to the decoder.
        options: of the strategy, other than its defaults.
        image_size: side of the input in pixels; that of the backbone's training by default.

    Raises:
        RegistryError: an unknown name, or a strategy that can't be applied.
    """
    strategies.get(strategy)
    size = image_size or backbones.card(backbone).native_image_size
    try:
        with torch.device("meta"):
            return _build(backbone, strategy, head, options, size, is_fake=True)
    except RegistryError:
        raise
    except Exception:  # a plug-in that reads values while it is built
        return _build(backbone, strategy, head, options, size, is_fake=False)


def _build(
    backbone: str, strategy: str, head: str, options: Mapping[str, Any], image_size: int, *, is_fake: bool
) -> Built:
    with torch.random.fork_rng(devices=[]):
        sam = backbones.build(backbone, image_size=image_size, checkpoint=None)
        before = {id(parameter) for parameter in sam.parameters()}
        heads.attach(heads.get(head), sam)
        strategies.apply(strategy, sam, tokens=heads.get(head).channels, **options)
    states: dict[str, State] = {}
    for name, parameter in sam.named_parameters():
        # A strategy may replace layers by others (qkv by q, k and v): what it replaces and leaves frozen is not added.
        is_new = id(parameter) not in before
        states[name] = "frozen" if not parameter.requires_grad else "added" if is_new else "trained"
    applied = strategies.applied(sam)
    given, neutral = (applied.options if applied else {}), strategies.get(strategy).neutral
    changing = {name: value for name, value in given.items() if name not in neutral or value != neutral[name]}
    return Built(sam.eval(), states, changing, is_fake)


@contextmanager
def usable(built: Built) -> Iterator[Sam]:
    """Yield the model on the CPU, where autocast and all operations work; fake tensors compute shapes alone."""
    if not built.is_fake:
        with torch.no_grad():
            yield built.sam
        return
    with torch.random.fork_rng(devices=[]), FakeTensorMode(), torch.no_grad():
        for module in built.sam.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                    module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        yield built.sam.eval()
