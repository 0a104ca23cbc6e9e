"""Plug-ins without installation: Python files, or folders of them, that register names when they are imported."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from bench.errors import BenchError, PluginError
from registry.errors import RegistryError
from registry.store import local_names, registering


def load(sources: Sequence[Path]) -> None:
    """Import plug-ins, each once per process.

    Their folders stay importable afterwards, because builders import when they are called. The folders stand at the
    end of `sys.path`, so no file in them takes the place of an installed package.

    Args:
        sources: .py files, packages, or other folders; the .py files of a folder are imported in the order of their
            names, those of a package as its modules.

    Raises:
        PluginError: a source that is not there, or a file that can't be imported, with line and error.
    """
    for source in (source.resolve() for source in sources):
        if not source.is_dir() and not (source.is_file() and source.suffix == ".py"):
            what = "is no .py file" if source.exists() else "is not there"
            raise PluginError(f"the plug-in {source} {what}; give a .py file, or a folder of .py files.")
        if (source / "__init__.py").is_file():
            _import_package(source)
            continue
        for path in sorted(source.glob("*.py")) if source.is_dir() else [source]:
            if not _is_loaded(path):
                _import(path, may_hide=path == source)


def run_file(path: Path, what: str = "the grid file") -> ModuleType:
    """Run a file as a module of its own, once per process for the same content, and return the module.

    The folder of the file is importable as in `load`.

    Args:
        path: the file.
        what: the words for it in the error.

    Raises:
        PluginError: the file can't be run.
    """
    path = path.resolve()
    with _imports_from(path, what):
        content = path.read_bytes()
        # The content is in the name, so that an edited file is run anew by a process that goes on, e.g. a notebook.
        name = f"bench_file_{hashlib.sha256(os.fsencode(path) + content).hexdigest()[:16]}"
        if name not in sys.modules:
            module = ModuleType(name)
            module.__file__ = str(path)
            sys.modules[name] = module  # `dataclass` looks its module up there
            exec(compile(content, str(path), "exec"), module.__dict__)
    return sys.modules[name]


def with_grid_file(sources: Sequence[Path], path: Path) -> tuple[Path, ...]:
    """Return the sources, and the grid file as well if names are registered here that no source brings."""
    brought = [any(Path(origin).is_relative_to(source) for source in sources) for origin in local_names().values()]
    return tuple(sources) if all(brought) else (*sources, path.resolve())


def digests(sources: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file of the plug-ins by its path, for the provenance of a record.

    These are the files that `load` imports, and those that this process has imported from the folder of a file, from
    a folder, or from a package. A virtual environment or other files below a folder don't count.

    Raises:
        OSError: a file that can't be read.
    """
    paths: set[Path] = set()
    for source in sources:
        if (source / "__init__.py").is_file():
            imported = {path for path in _imported_from(source.parent).values() if path.is_relative_to(source)}
        else:
            imported = set(_imported_from(source if source.is_dir() else source.parent).values())
        paths |= imported | (set(source.glob("*.py")) if source.is_dir() else {source})
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths) if path.is_file()}


def _import(path: Path, *, may_hide: bool) -> None:
    """Import a file under its own name, so that others can import it; `may_hide`: or under a private one."""
    with _imports_from(path, "the plug-in"):
        if _is_imported_as(path.stem, path):
            importlib.import_module(path.stem)
            return
        if not may_hide and path.stem.isidentifier():
            raise _name_taken(path)
    run_file(path, "the plug-in")


def _import_package(folder: Path) -> None:
    with _imports_from(folder, "the plug-in"):
        if not _is_imported_as(folder.name, folder / "__init__.py"):
            raise _name_taken(folder)
        importlib.import_module(folder.name)
        for path in sorted(folder.glob("*.py")):
            if path.name != "__init__.py":
                importlib.import_module(f"{folder.name}.{path.stem}")


def _is_imported_as(name: str, path: Path) -> bool:
    """Tell whether ``import name`` reads a file."""
    origin = _origin(name)
    return origin is not None and origin.exists() and origin.samefile(path)


def _name_taken(path: Path) -> PluginError:
    origin = _origin(path.stem) or f"module {path.stem!r}"
    return PluginError(f"the plug-in {path} has a name that Python finds first elsewhere ({origin}); rename it.")


def _origin(name: str) -> Path | None:
    """Return the file that ``import name`` reads; None for a built-in module, or a name that can't be imported."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # e.g. __main__
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _register_own_names() -> None:
    """Import everything that is registered without plug-ins, so that a plug-in can't take such a name."""
    for package in ("backbones", "strategies", "heads", "datasets"):
        importlib.import_module(f"registry.{package}").names()


@contextmanager
def _imports_from(path: Path, what: str) -> Iterator[None]:
    """Make the folder that holds `path` importable, and name `path` as the origin of what is registered inside.

    Raises:
        PluginError: any error inside. Nothing that was registered or imported from the folder since then is kept.
    """
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    importlib.invalidate_caches()  # the files may be younger than the folder's listing
    _register_own_names()
    before = set(sys.modules)
    try:
        with registering(str(path)):
            yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file does
        for name in _imported_from(path.parent).keys() - before:
            del sys.modules[name]
        for name in [name for name in set(sys.modules) - before if name.startswith("bench_file_")]:
            del sys.modules[name]
        text = " ".join(str(error).split())
        if not isinstance(error, BenchError | RegistryError):
            text = f"{type(error).__name__}: {text}"
        raise PluginError(f"{what} {path} can't be run: {text.rstrip('.')} ({_place(error, path)}). Fix it.") from error


def _place(error: BaseException, path: Path) -> str:
    """Return the line that is to blame, in the user's own files: ``line 3``, or ``line 3 of /a/file.py``."""
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno or 0
    else:
        frames = traceback.extract_tb(error.__traceback__)
        folder = path if path.is_dir() else path.parent
        own = [frame for frame in frames if Path(frame.filename).parent == folder]
        file, line = (own[-1].filename, own[-1].lineno or 0) if own else (str(path), 0)
    return f"line {line}" + ("" if file == str(path) else f" of {file}")


def _is_loaded(path: Path) -> bool:
    """Tell whether a module of this process was read from a file, under whatever name."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    named = [Path(file) for file in files if isinstance(file, str) and file.endswith(path.name)]
    return any(file.exists() and file.samefile(path) for file in named)


def _imported_from(folder: Path) -> dict[str, Path]:
    """Return the files of the modules whose top-level module or package lies in a folder, by module name."""
    files: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        top = sys.modules.get(name.partition(".")[0])
        file = getattr(module, "__file__", None)
        if top is None or not isinstance(file, str) or name.partition(".")[0] in ("__main__", "bench", "registry"):
            continue
        package = list(getattr(top, "__path__", []))
        place = Path(package[0] if package else getattr(top, "__file__", None) or "").parent
        if place == folder:
            files[name] = Path(file)
    return files
