"""The store of names behind backbones, strategies, heads and datasets."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import Any, ClassVar, Generic, TypeVar

from registry.errors import DuplicateNameError, UnknownNameError

Entry = TypeVar("Entry")
log = logging.getLogger(__name__)


class Store(Generic[Entry]):
    """Names and their entries, filled on first use by the modules of one package and then by entry points.

    Filling late keeps `import registry` cheap and lets those modules import this package while they register.

    A module of the package that can't be imported is a bug: every call raises its error. An entry point that can't be
    loaded is left out, with one warning per process that names its distribution; all others are listed. A name that is
    taken counts as such an error, so no plug-in can replace what it did not bring.

    Args:
        kind: the name of an entry in messages, e.g. ``"backbone"``.
        package: dotted name of the package whose modules register entries.
        group: entry-point group through which other distributions register theirs.
    """

    # Of all stores: one module may register entries in several of them.
    _stores: ClassVar[list[Store[Any]]] = []
    _loading: ClassVar[list[str]] = []
    _fills: ClassVar[int] = 0  # of all stores, at this moment

    def __init__(self, kind: str, package: str, group: str) -> None:
        self._kind, self._package, self._group = kind, package, group
        self._entries: dict[str, Entry] = {}
        self._sources: dict[str, str] = {}
        self._local: set[str] = set()
        self._left_out: list[str] = []
        self._filled = self._filling = False
        self._lock = threading.RLock()  # another thread waits for the whole list
        Store._stores.append(self)

    def add(self, name: str, entry: Entry) -> None:
        """Register `entry`; raises `DuplicateNameError` for a name that is taken."""
        if name in self._entries:
            raise DuplicateNameError(
                f"the {self._kind} {name!r} is registered already by {self._sources[name]}; choose another name."
            )
        self._entries[name] = entry
        self._sources[name] = Store._loading[-1] if Store._loading else "a module that was imported before"
        shipped = Store._fills or _module_being_imported().startswith(f"{self._package}.")
        (self._local.discard if shipped else self._local.add)(name)

    def get(self, name: str) -> Entry:
        """Return the entry called `name`; raises `UnknownNameError`, with the nearest match."""
        self._fill()
        if name not in self._entries:
            raise UnknownNameError(self._kind, name, self.names(), self._left_out)
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names in the order of registration: modules by name, then entry points by distribution."""
        self._fill()
        return tuple(self._entries)

    def _fill(self) -> None:
        with self._lock:
            if self._filled or self._filling:  # a module that asks for names while it registers sees the earlier ones
                return
            self._filling = True
            Store._fills += 1
            try:
                package = importlib.import_module(self._package)
                for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                    self._import(f"{self._package}.{module}")
                for point in sorted(entry_points(group=self._group), key=lambda p: (_distribution(p), p.name)):
                    self._load(point)
                self._filled = True
            finally:
                self._filling = False
                Store._fills -= 1

    def _import(self, module: str) -> None:
        imported = set(sys.modules)
        try:
            with registering(module):
                importlib.import_module(module)
        except BaseException:
            # What this module had imported registered its entries in vain: the next call imports it anew.
            for name in set(sys.modules) - imported:
                if name.startswith(f"{self._package}."):
                    del sys.modules[name]
                    vars(sys.modules[self._package]).pop(name.rpartition(".")[2], None)
            raise

    def _load(self, point: EntryPoint) -> None:
        name, package = f"{self._group}: {point.name} = {point.value}", _distribution(point)
        try:
            with registering(f"the package {package!r}"):
                point.load()
        except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._left_out.append(f"{name} of the package {package!r} ({reason})")
            log.warning(
                "the entry point %r of the package %r can't be loaded and is left out (%s). "
                "Fix, update or uninstall that package.",
                name,
                package,
                reason,
            )


@contextmanager
def registering(source: str) -> Iterator[None]:
    """Name `source` as the origin of what is registered inside; after an error, no store keeps any of it."""
    before = [(store, dict(store._entries), dict(store._sources)) for store in Store._stores]
    Store._loading.append(source)
    try:
        yield
    except BaseException:
        for store, entries, sources in before:
            store._entries, store._sources = entries, sources
        raise
    finally:
        Store._loading.pop()


def local_names() -> dict[tuple[str, str], str]:
    """Return the origin of each name that neither this package nor an entry point registered, by kind and name.

    No other process finds such a name unless it imports the same origin.
    """
    for store in Store._stores:
        store._fill()
    return {(s._kind, name): s._sources[name] for s in Store._stores for name in s._entries if name in s._local}


def _module_being_imported() -> str:
    """Return the name of the innermost module of the call stack whose top level runs; empty if none does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and not name.startswith("importlib."):
            return name
        frame = frame.f_back
    return ""


def _distribution(point: EntryPoint) -> str:
    try:
        return str(point.dist.name) if point.dist else "unknown"
    except Exception:  # damaged metadata of that package
        return "unknown"
