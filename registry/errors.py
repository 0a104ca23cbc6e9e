"""Errors of the registry: each text says what was given, what is allowed, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RegistryError(Exception):
    """Base of all errors of `registry`; the command line prints its text without a traceback."""


class UnknownNameError(RegistryError, KeyError):
    """A name that is not registered.

    Attributes:
        left_out: plug-ins that could not be loaded, which may have registered the name.
    """

    def __init__(self, kind: str, name: str, allowed: Iterable[str], left_out: Iterable[str] = ()) -> None:
        self.kind, self.name, self.allowed, self.left_out = kind, name, tuple(allowed), tuple(left_out)
        note = f" Not loaded: {'; '.join(self.left_out)}." if self.left_out else ""
        super().__init__(unknown(kind, name, self.allowed) + note)

    __str__ = Exception.__str__  # KeyError would print the message in quotes

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is pickled by its message alone, which is not what it is made from.
        return type(self), (self.kind, self.name, self.allowed, self.left_out)


class DuplicateNameError(RegistryError):
    """A name that is registered already."""


class WeightsError(RegistryError):
    """A checkpoint that is missing, damaged, of another model, or unsafe to load."""


class CacheDirError(RegistryError):
    """There is no folder for the user's cache."""


class DataError(RegistryError):
    """Images or labels that are missing, damaged or of the wrong kind."""


class StrategyError(RegistryError):
    """A strategy that can't be applied to this backbone."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return the sentence for an unknown name, with the nearest match and all allowed names."""
    allowed = tuple(allowed)
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{guess} Known: {', '.join(allowed) or 'none'}."
