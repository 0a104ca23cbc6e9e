"""`bench report`: one folder with everything about a results folder, which a browser opens without network."""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError
from bench.report.output import STDOUT, explained
from bench.report.site.contents import gather
from bench.report.site.render import FOLDER, render
from registry import atomic


def write_report(results: Path, *, output: Path | None = None, baselines: Path | None = None) -> Path:
    """Write the report page and its files.

    Args:
        results: the results folder.
        output: folder of the report; None takes ``report`` below `results`. Its folder ``files`` is the report's own:
            what an earlier report left there and this one does not need is removed.
        baselines: published scores; None takes the shipped ones.

    Returns:
        The page, ``index.html``.

    Raises:
        BenchError: there are no records, or nothing can be written there.
    """
    folder = results / "report" if output is None else output
    if folder == STDOUT or folder.suffix == ".html" or (folder.exists() and not folder.is_dir()):
        raise BenchError(f"a report is a folder of several files, and {folder} is none; give a folder with -o DIR.")
    files = render(gather(results, baselines=baselines))
    page = folder / "index.html"
    with explained(page, "DIR"):
        # The page is written last, so that it never refers to a file that is not there yet.
        for name in sorted(files, key=lambda name: name == page.name):
            with atomic.replacing(folder / name, sync=False) as temporary:
                temporary.write_bytes(files[name])
        for path in (folder / FOLDER).iterdir():
            if path.is_file() and f"{FOLDER}/{path.name}" not in files:
                path.unlink()
    return page
