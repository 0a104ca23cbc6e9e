"""Backbones by name. Add one by writing one file in this folder: a card and a builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.card import Card
from registry.contract import Backbone
from registry.store import Store

if TYPE_CHECKING:
    from registry.sam import Sam

_store: Store[Backbone] = Store("backbone", __name__, "bench.backbones")


def register(
    card: Card,
    convert: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
    restore: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Callable[[int], Sam]], Callable[[int], Sam]]:
    """Decorator: register a builder ``image_size -> Sam`` under the card's name; the others are fields of `Backbone`.

    `registry.renaming.Renaming` gives both conversions from one table.
    """

    def add(build: Callable[[int], Sam]) -> Callable[[int], Sam]:
        _store.add(card.name, Backbone(card=card, build=build, convert=convert, restore=restore))
        return build

    return add


def names() -> tuple[str, ...]:
    """Return the names of all registered backbones."""
    return _store.names()


def get(name: str) -> Backbone:
    """Return a backbone's card, builder and key conversion; raises `UnknownNameError`."""
    return _store.get(name)


def card(name: str) -> Card:
    """Return the card of a backbone; raises `UnknownNameError`."""
    return get(name).card


def build(name: str, image_size: int | None = None, checkpoint: str | Path | None = None) -> Sam:
    """Build a backbone, and load its official checkpoint if one is given.

    Args:
        name: a registered name.
        image_size: side of the square input in pixels, a multiple of what the card says; the native one by default.
        checkpoint: path of the official file as published; None leaves the weights random.

    Returns:
        The model in eval mode, on the CPU, in float32.

    Raises:
        UnknownNameError: no such backbone.
        ValueError: an image size that is no positive multiple of the card's `size_multiple`.
        WeightsError: a file that is damaged, unsafe, of another model, or with values that are not finite.
    """
    entry = get(name)
    size = entry.card.native_image_size if image_size is None else image_size
    if problem := entry.card.size_problem(size):
        raise ValueError(problem)
    sam = entry.build(size)
    if checkpoint is not None:
        from registry import weights

        weights.load(sam, entry, Path(checkpoint), candidates=map(get, names()))
    else:
        from registry.modules.batchnorm import calibrate_batchnorm

        calibrate_batchnorm(
            sam.image_encoder, stride=entry.card.stride, unit_range=entry.card.input_scaling == "min_max"
        )
    return sam.eval()
