"""Report page as files: the templates filled, and the scripts of plotly and DataTables beside them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from bench.report.site.contents import Page

FOLDER = "files"
"""Folder beside ``index.html`` that holds all other files; the report owns it."""


def render(page: Page) -> dict[str, bytes]:
    """Return the files of a report by their path below its folder; the same page gives the same bytes."""
    html = _environment().get_template("index.html").render(page=page, folder=FOLDER)
    files = {"index.html": html.encode("utf-8", "replace")}
    return files | {f"{FOLDER}/{name}": content for name, content in {**_scripts(), **page.files}.items()}


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Every name and reason is text of somebody else: autoescape stands for all templates, whatever their ending.
    return Environment(
        loader=PackageLoader("bench.report.site"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _scripts() -> dict[str, bytes]:
    """Return the scripts and styles: of the page, of plotly, and of DataTables as itables bundles it."""
    import itables.options
    from plotly.offline import get_plotlyjs

    own = resources.files("bench.report.site") / "templates"
    bundle = Path(itables.options.dt_bundle)
    # The bundle is a module, and a browser loads no module from a disk: it is wrapped in a script that imports it.
    source = json.dumps(bundle.read_text(encoding="utf-8"))
    wrapped = (
        f"window.reportTables = import(URL.createObjectURL(new Blob([{source}], {{ type: 'text/javascript' }})));\n"
    )
    return {
        "page.css": (own / "page.css").read_bytes(),
        "page.js": (own / "page.js").read_bytes(),
        "tables.js": wrapped.encode(),
        "tables.css": bundle.with_suffix(".css").read_bytes(),
        "plotly.js": get_plotlyjs().encode(),
    }
