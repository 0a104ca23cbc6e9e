"""Heads by name. Add one by writing one file in this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from registry.contract import Head, LabelMap
from registry.store import Store

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

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


def loss_and_terms(
    head: Head, logits: Float[Tensor, "b c h w"], targets: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Return the loss of a batch, and the mean of each of its named terms; no terms of a head that names none."""
    terms = head.loss_terms(logits, targets) if hasattr(head, "loss_terms") else {}
    if not terms:
        return head.loss(logits, targets), {}
    from registry.modules.dense_losses import mean_total

    return mean_total(terms), {name: term.detach().mean() for name, term in terms.items()}
