"""`bench report`: one folder with everything about a results folder, which a browser opens without network."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from bench.errors import BenchError
from bench.report.output import STDOUT, explained
from bench.report.site.contents import gather
from bench.report.site.render import FOLDER, render
from registry import atomic

PAGE = "index.html"
MANIFEST = "manifest.json"
"""Names of the files of a report in its folder ``files``, by which the next report knows what it may remove."""
_GENERATOR = b'<meta name="generator" content="nuclei-bench">'


def write_report(results: Path, *, output: Path | None = None, baselines: Path | None = None) -> Path:
    """Write the report page and its files.

    Args:
        results: the results folder.
        output: folder of the report; None takes ``report`` below `results`. What an earlier report left in its folder
            ``files`` and this one does not need is removed; other files stay as they are.
        baselines: published scores; None takes the shipped ones.

    Returns:
        The page, ``index.html``.

    Raises:
        BenchError: there are no records, nothing can be written there, or a file that is no report's is in the way.
    """
    folder = results / "report" if output is None else output
    if folder == STDOUT or folder.suffix == ".html" or (folder.exists() and not folder.is_dir()):
        raise BenchError(f"a report is a folder of several files, and {folder} is none; give a folder with -o DIR.")
    page = folder / PAGE
    with explained(page, "DIR"):
        earlier = _earlier(folder)
    files = render(gather(results, baselines=baselines))
    with explained(page, "DIR"):
        _refuse_foreign(folder, files, earlier)
        # Names come first and the page last: whatever ends this, the next report knows all that is its own, and the
        # page never refers to a file that is not there yet.
        names = {Path(name).name for name in files if name != PAGE}
        _write_names(folder, names | earlier)
        for name in sorted(files, key=lambda name: name == PAGE):
            with atomic.replacing(folder / name, sync=False) as temporary:
                temporary.write_bytes(files[name])
        for name in sorted(earlier - names):
            (folder / FOLDER / name).unlink(missing_ok=True)
        _write_names(folder, names)
    return page


def _earlier(folder: Path) -> set[str]:
    """Return the names of the files that an earlier report wrote; empty for none, and for a list that is damaged.

    Raises:
        BenchError: the page is no report.
    """
    page = folder / PAGE
    if page.exists() and (not page.is_file() or _GENERATOR not in page.read_bytes()):
        raise BenchError(f"{page} is no report of this program and is kept; give another folder with -o DIR.")
    try:
        names = json.loads((folder / FOLDER / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()
    plain = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    return {name for name in plain if name == Path(name).name and (folder / FOLDER / name).is_file()}


def _refuse_foreign(folder: Path, files: Collection[str], earlier: Collection[str]) -> None:
    """Refuse to replace a file that no report wrote. A page of this program owns files of these names without a list.

    Raises:
        BenchError: there is such a file.
    """
    if (folder / PAGE).exists():
        return
    taken = [name for name in files if Path(name).name not in earlier and (folder / name).exists()]
    if taken:
        raise BenchError(f"{folder / taken[0]} was not written by a report and is kept; give another folder, -o DIR.")


def _write_names(folder: Path, names: Collection[str]) -> None:
    text = json.dumps({"generator": "nuclei-bench", "files": sorted(names)}, indent=1)
    with atomic.replacing(folder / FOLDER / MANIFEST, sync=False) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
