"""Architecture figures of the page: those that stand in the results folder, because drawing one builds its model."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.grid import CLASSICAL
from bench.report.canvas import save
from bench.report.pack_redaction import without_paths
from bench.report.site.parts import MOST_BYTES, Part, Picture
from bench.results.record import RunRecord, read_all
from bench.units import plural
from registry import heads
from registry.errors import RegistryError
from registry.figure_order import BACKBONES, STRATEGIES

logger = logging.getLogger(__name__)

HOW = "`bench report --architecture` draws what is missing; it builds each model, some seconds each."


@dataclass(frozen=True)
class Model:
    """A backbone with a strategy and its options, as the code of some version built it.

    Attributes:
        backbone: its name.
        strategy: its name.
        options: of the strategy.
        image_size: side of the input in pixels; None if the record does not tell it.
        plugins: digests of the plug-ins that were loaded.
        head: its name where it adds modules to the decoder; None for the others, which change no figure.
    """

    backbone: str
    strategy: str
    options: Mapping[str, Any]
    image_size: int | None
    plugins: tuple[str, ...] = ()
    head: str | None = None

    @property
    def key(self) -> str:
        """Digest of all that the figure follows from, this program's version included."""
        values = [self.backbone, self.strategy, self.options, self.image_size, self.plugins, self.head, _version()]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Name of the pair with the options, without paths, and the image size."""
        settings = [f"{name}={_shown(value)}" for name, value in sorted(self.options.items())]
        settings += [f"{self.image_size} px"] * (self.image_size is not None)
        settings += [f"head {self.head}"] * (self.head is not None)
        return f"{self.backbone}/{self.strategy}" + (f" ({', '.join(settings)})" if settings else "")

    def path(self, results: Path) -> Path:
        """Return the place of its figure: ``figures/architecture_BACKBONE_STRATEGY_DIGEST.svg``."""
        name = re.sub(r"[^\w.-]+", "_", f"architecture_{self.backbone}_{self.strategy}")[:80]
        return results / "figures" / f"{name}_{self.key}.svg"


def draw_missing(results: Path) -> list[Path]:
    """Draw the figure of each model that has none yet, and return the files; needs torch, but no weights.

    A model that can't be built here, e.g. of a plug-in that is not installed, is left out with a warning.

    Raises:
        BenchError: there are no records, or nothing can be written.
    """
    from bench import architecture

    records = list(read_all(results, [], history=False))
    if not records:
        raise BenchError(f"no records below {results / 'runs'}; run `bench run --grid quick` first.")
    paths = []
    for model in _models(records):
        path = model.path(results)
        if path.is_file():
            continue
        try:
            figure = architecture.figure(
                model.backbone,
                model.strategy,
                model.options,
                image_size=model.image_size,
                **({} if model.head is None else {"head": model.head}),
            )
        except (RegistryError, ValueError) as error:  # a size that does not fit
            logger.warning("no architecture figure of %s with %s: %s", model.backbone, model.strategy, error)
            continue
        paths.append(save(figure, path))
    return paths


def part(results: Path, records: Sequence[RunRecord], files: dict[str, bytes]) -> Part:
    """Return the figures that are there, which are added to the files, and a sentence on the others."""
    models, large = _models(records), 0
    n_bytes = sum(map(len, files.values()))
    pictures: list[Picture] = []
    for model in models:
        path = model.path(results)
        content = path.read_bytes() if path.is_file() else b""
        if not content:
            continue
        if n_bytes + len(content) > MOST_BYTES:
            large += 1
            continue
        n_bytes += len(content)
        file = f"architecture-{len(pictures) + 1}.svg"
        files[file] = content
        alt = f"Architecture of {model.title}: its parts, coloured by what is trained or added."
        width, height = _size(content)
        pictures.append(Picture(file, model.title, alt, width, height))
    text = []
    n_missing = len(models) - len(pictures) - large
    if n_missing:
        none = "" if pictures else "No figure was drawn yet. "
        text.append(
            f"{none}Not drawn: {plural(n_missing, 'model')} (backbone, strategy, its options, image size). {HOW}"
        )
    if large:
        text.append(
            f"Left out, because together they are large: {plural(large, 'figure')}, see {results.name}/figures."
        )
    return Part("architectures", "Architectures", text, [], pictures)


def _models(records: Iterable[RunRecord]) -> list[Model]:
    """Return each model that was run, in the order of the names; options come from records, whose integers are such."""
    models: dict[str, Model] = {}
    for record in records:
        backbone, strategy = str(record.run.get("backbone")), str(record.run.get("strategy"))
        options, loaded = record.run.get("options"), (record.provenance or {}).get("plugins")
        if backbone == CLASSICAL:
            continue
        plugins: tuple[str, ...] = ()
        if isinstance(loaded, Mapping) and not (backbone in BACKBONES and strategy in STRATEGIES):
            plugins = tuple(sorted(str(value) for value in loaded.values()))
        size = record.run.get("image_size")
        size = size if isinstance(size, int) and size > 0 else None
        head = str(record.run.get("head"))
        attached = head if head in heads.names() and hasattr(heads.get(head), "attach") else None
        model = Model(backbone, strategy, options if isinstance(options, Mapping) else {}, size, plugins, attached)
        models.setdefault(model.key, model)
    return sorted(models.values(), key=lambda model: (model.backbone, model.strategy, model.title, model.plugins))


@cache
def _version() -> str:
    """Return the version of this program; finding it reads files, too slow for each record of a study."""
    return metadata.version("nuclei-bench")


def _shown(value: Any) -> str:
    text = without_paths(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 60 else f"{text[:59]}…"


def _size(svg: bytes) -> tuple[int, int]:
    """Return width and height of a figure of Matplotlib in pixels; 0 where it does not tell them."""
    match = re.search(rb'<svg[^>]*?height="([\d.]+)pt"[^>]*?width="([\d.]+)pt"', svg[:4_000], re.DOTALL)
    if match is None:
        return 0, 0
    height, width = (round(float(number) * 96 / 72) for number in match.groups())
    return width, height
