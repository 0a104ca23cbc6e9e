"""Names of tensors in an official checkpoint and in this project's model, one table for both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Renaming:
    """Steps that lead from official names to those of the model; read backwards, they lead back.

    A step is a list of pairs of templates, (official, own). The first pair whose template fits the whole name applies;
    a name that none fits stays as it is. A field in braces stands for digits where it is named ``n``, ``i`` or ``j``,
    and for any text elsewhere; both templates of a pair have the same fields.

    ``Renaming(((("layers.{n}.{rest}", "stages.{n}.{rest}"),),))`` turns ``layers.2.mlp.bias`` into
    ``stages.2.mlp.bias``.

    Attributes:
        steps: from official to own names.
    """

    steps: tuple[tuple[tuple[str, str], ...], ...]

    def convert(self, official: Mapping[str, Any]) -> dict[str, Any]:
        """Return tensors by the model's names, given those by official names."""
        return {self._own(name): tensor for name, tensor in official.items()}

    def restore(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return tensors by official names, given those by the model's names: the inverse of `convert`."""
        return {self._official(name): tensor for name, tensor in own.items()}

    def _own(self, name: str) -> str:
        for step in self.steps:
            name = _renamed(name, step)
        return name

    def _official(self, name: str) -> str:
        for step in reversed(self.steps):
            name = _renamed(name, tuple((own, official) for official, own in step))
        return name


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for given, wanted in pairs:
        if match := re.fullmatch(_pattern(given), name):
            return wanted.format(**match.groupdict())
    return name


def _pattern(template: str) -> str:
    literals, fields = _FIELD.split(template)[::2], _FIELD.findall(template)
    groups = [f"(?P<{field}>{'[0-9]+' if field in ('n', 'i', 'j') else '.+'})" for field in fields]
    return "".join(re.escape(text) + group for text, group in zip(literals, [*groups, ""], strict=True))
