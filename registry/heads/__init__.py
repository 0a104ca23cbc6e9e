"""Heads by name. Add one by writing one file in this folder."""

from __future__ import annotations

from registry.contract import Head
from registry.store import Store

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
