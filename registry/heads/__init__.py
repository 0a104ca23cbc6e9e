"""Heads by name. Add one by writing one file in this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from registry.contract import Head, LabelMap
from registry.store import Store

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from registry.sam import Sam

FILL_HOLES = "fill_holes"
"""Parameter of a head's `instances`, where it has one: 1 fills the holes of each instance, 0 leaves them."""

_store: Store[Head] = Store("head", __name__, "bench.heads")


def register(head: Head) -> Head:
    """Register a head under its own name."""
    _store.add(head.name, head)
    return head


def names() -> tuple[str, ...]:
    """Return the names of all registered heads."""
    return _store.names()


def get(name: str) -> Head:
    """Return a head; raises `UnknownNameError`."""
    return _store.get(name)


def prepared(head: Head, logits: Any) -> Callable[..., LabelMap]:
    """Return ``head.instances`` of one image as a function of its parameters, by the head's `prepare` if it has one."""
    return head.prepare(logits) if hasattr(head, "prepare") else partial(head.instances, logits)


def attach(head: Head, sam: Sam) -> None:
    """Add to a plain model what the head trains in it, by the head's `attach` if it has one; in place.

    Random weights come from the global state, which is left as it was: a strategy that is applied afterwards starts
    from the same numbers with every head.
    """
    if not hasattr(head, "attach"):
        return
    import torch

    with torch.random.fork_rng(devices=[]):
        head.attach(sam)


def starts(head: Head) -> tuple[dict[str, float], ...]:
    """Return complete parameters at which a search begins: the head's defaults, and those that it names in `starts`.

    For a head that names none, three more points are spread over its candidates: neighbouring parameters have low,
    middle and high values in different turns.
    """
    named = head.starts if hasattr(head, "starts") else tuple(_spread(head.search, turn) for turn in range(3))
    points = ({**head.defaults, **start} for start in ({}, *named))
    return tuple({tuple(sorted(point.items())): point for point in points}.values())


def _spread(search: Mapping[str, tuple[float, ...]], turn: int) -> dict[str, float]:
    return {
        name: values[(number + turn) % 3 * (len(values) - 1) // 2]
        for number, (name, values) in enumerate(search.items())
    }


def loss_and_terms(
    head: Head, logits: Float[Tensor, "b c h w"], targets: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Return the loss of a batch, and the mean of each of its named terms; no terms of a head that names none."""
    terms = head.loss_terms(logits, targets) if hasattr(head, "loss_terms") else {}
    if not terms:
        return head.loss(logits, targets), {}
    from registry.modules.dense_losses import mean_total

    return mean_total(terms), {name: term.detach().mean() for name, term in terms.items()}
