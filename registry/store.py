"""The named store behind backbones, strategies, heads and datasets."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from registry.errors import DuplicateNameError, UnknownNameError

Entry = TypeVar("Entry")


class Store(Generic[Entry]):
    """Names to entries, filled when first asked: by the modules of one package, then by entry points.

    Filling late keeps `import registry` cheap and lets the modules import this package while they register.

    Args:
        kind: what an entry is called in messages, e.g. ``"backbone"``.
        package: dotted name of the package whose modules register entries.
        group: entry-point group through which other distributions register theirs.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self._kind, self._package, self._group = kind, package, group
        self._entries: dict[str, Entry] = {}
        self._filled = False

    def add(self, name: str, entry: Entry) -> None:
        """Register `entry`; a name that is taken raises `DuplicateNameError`."""
        if name in self._entries:
            raise DuplicateNameError(f"the {self._kind} {name!r} is registered already; choose another name.")
        self._entries[name] = entry

    def get(self, name: str) -> Entry:
        """The entry called `name`; otherwise `UnknownNameError`, with the nearest match."""
        self._fill()
        if name not in self._entries:
            raise UnknownNameError(self._kind, name, self.names())
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """All registered names, in order of registration (files in alphabetical order, then entry points)."""
        self._fill()
        return tuple(self._entries)

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        package = importlib.import_module(self._package)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{self._package}.{module}")
        for point in entry_points(group=self._group):
            try:
                point.load()
            except Exception as error:  # a broken plug-in must not take the others down
                warnings.warn(f"{self._group}: {point.value} could not be loaded: {error}", stacklevel=2)
