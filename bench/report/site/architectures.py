"""Architecture figures of the page: those that stand in the results folder, because drawing one builds its model."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.canvas import save
from bench.report.site.parts import Part, Picture
from bench.results.record import read_all
from bench.units import plural
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

MOST_BYTES = 4_000_000
"""Of all figures, so that the report stays small enough to be sent."""
HOW = "`bench report --architecture` draws what is missing; it builds each model, some seconds each."


@dataclass(frozen=True)
class Pair:
    """A backbone with a strategy."""

    backbone: str
    strategy: str

    def path(self, results: Path) -> Path:
        """Return the place of its figure: ``figures/architecture_BACKBONE_STRATEGY.svg``."""
        name = re.sub(r"[^\w.-]+", "_", f"architecture_{self.backbone}_{self.strategy}")[:120]
        return results / "figures" / f"{name}.svg"


def draw_missing(results: Path) -> list[Path]:
    """Draw the figure of each pair that has none yet, and return the files; needs torch, but no weights.

    A pair that can't be built here, e.g. of a plug-in that is not installed, is left out with a warning.

    Raises:
        BenchError: there are no records, or nothing can be written.
    """
    from bench import architecture

    options: dict[Pair, Mapping[str, Any]] = {}  # of the first run; in a frame, whole numbers would be floats
    for record in read_all(results, [], history=False):
        pair = Pair(str(record.run.get("backbone")), str(record.run.get("strategy")))
        options.setdefault(pair, record.run.get("options") or {})
    if not options:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    paths = []
    for pair in sorted(options, key=lambda pair: (pair.backbone, pair.strategy)):
        path = pair.path(results)
        if path.is_file() or pair.backbone == CLASSICAL:
            continue
        try:
            figure = architecture.figure(pair.backbone, pair.strategy, options[pair])
        except RegistryError as error:
            logger.warning("no architecture figure of %s with %s: %s", pair.backbone, pair.strategy, error)
            continue
        paths.append(save(figure, path))
    return paths


def part(results: Path, records: pd.DataFrame, files: dict[str, bytes]) -> Part:
    """Return the figures that are there, which are added to the files, and a sentence on the others."""
    pairs, n_bytes, large = _pairs(records), 0, 0
    pictures: list[Picture] = []
    for pair in pairs:
        path = pair.path(results)
        content = path.read_bytes() if path.is_file() else b""
        if not content:
            continue
        n_bytes += len(content)
        if n_bytes > MOST_BYTES:
            large += 1
            continue
        file = f"architecture-{len(pictures) + 1}.svg"
        files[file] = content
        alt = f"Architecture of {pair.backbone} with {pair.strategy}: its parts, coloured by what is trained or added."
        width, height = _size(content)
        pictures.append(Picture(file, f"{pair.backbone}/{pair.strategy}", alt, width, height))
    text = []
    n_missing = len(pairs) - len(pictures) - large
    if n_missing:
        none = "" if pictures else "No figure was drawn yet. "
        text.append(f"{none}Not drawn: {plural(n_missing, 'pair')} of backbone and strategy. {HOW}")
    if large:
        text.append(
            f"Left out, because together they are large: {plural(large, 'figure')}, see {results.name}/figures."
        )
    return Part("architectures", "Architectures", text, [], pictures)


def _pairs(records: pd.DataFrame) -> list[Pair]:
    """Return each backbone with each strategy that it was run with, in the order of their names."""
    own = records[records["backbone"] != CLASSICAL]
    return [Pair(*names) for names in sorted(set(zip(own["backbone"], own["strategy"], strict=True)))]


def _size(svg: bytes) -> tuple[int, int]:
    """Return width and height of a figure of Matplotlib in pixels; 0 where it does not tell them."""
    match = re.search(rb'<svg[^>]*?height="([\d.]+)pt"[^>]*?width="([\d.]+)pt"', svg[:4_000], re.DOTALL)
    if match is None:
        return 0, 0
    height, width = (round(float(number) * 96 / 72) for number in match.groups())
    return width, height
