"""Registered names as tables and trees for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from bench.errors import BenchError
from bench.fast_paths import FAST_PATHS, FastPath
from bench.grid import Settings, TrainSettings
from bench.planning import overrides, plan
from bench.units import millions
from registry import backbones, datasets, heads, strategies
from registry.contract import CheckReport
from registry.errors import RegistryError, unknown
from registry.strategy_options import spell

if TYPE_CHECKING:
    from bench.training.model import Node
    from registry.card import Card
    from registry.sam import Sam
    from registry.weights import Status

MARKS = {"ok": "green", "missing": "yellow", "unverified": "yellow"}


def listing(kind: str) -> Table:
    """Return a table of everything that is registered of a kind; ``settings`` lists what `--set` takes."""
    table = Table(title=kind, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    if kind == "backbones":
        for name in ("name", "parameters", "input", "official checkpoint"):
            table.add_column(name, justify="right" if name in ("parameters", "input") else "left")
        for name in backbones.names():
            card = backbones.card(name)
            file = card.checkpoint.filename if card.checkpoint else "none: random weights only"
            table.add_row(escape(name), millions(card.parameters.total), f"{card.native_image_size} px", escape(file))
        return table
    for name in ("name", "type, default and meaning" if kind == "settings" else "summary"):
        table.add_column(name)
    rows: Iterable[tuple[str, str]] = {
        "strategies": lambda: ((n, f"{strategies.get(n).summary} ({_listed(n)})") for n in strategies.names()),
        "heads": lambda: ((n, heads.get(n).summary) for n in heads.names()),
        "datasets": lambda: ((n, datasets.get(n).summary) for n in datasets.names()),
        "grids": lambda: ((n, plan.load_grid(n).summary) for n in plan.grid_names()),
        "settings": lambda: overrides.setting_names().items(),
        "fast-paths": lambda: ((n, path.summary + _unless_default(path)) for n, path in FAST_PATHS.items()),
    }[kind]()
    for name, summary in rows:
        table.add_row(escape(name), escape(summary))  # a plug-in's text may hold brackets
    if kind == "settings":
        table.caption = "--set KEY=VALUE changes a setting, --set KEY=A,B,C plans each value."
        table.caption_justify = "left"
    return table


def _unless_default(path: FastPath) -> str:
    return "" if path.default else " (only --with it)"


@dataclass(frozen=True)
class ModelSettings:
    """Settings that a model's modules follow from.

    Attributes:
        options: of the strategy, other than its defaults.
        image_size: side of the input in pixels; None where it was not given.
        head: which may add modules to the decoder.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    head: str = Settings.head


def model_settings(backbone: str, strategy: str | None, assignments: Sequence[str]) -> ModelSettings:
    """Return what ``KEY=VALUE`` texts set: options of the strategy, the head, and the image size.

    Raises:
        BenchError: an ill-typed value, or a setting that the strategy does not have or modules do not follow from.
        UnknownNameError: an image size for a backbone that is not registered.
    """
    keys, _ = overrides.read(assignments)
    own = strategies.options(strategy) if strategy else {}
    allowed = [*(f"strategy.{name}" for name in own), "head", "image_size"]
    for key in keys:
        if key not in allowed:
            text = unknown("setting", key, allowed)
            hint = " Name a strategy to set its options." if strategy is None and key.startswith("strategy.") else ""
            raise BenchError(f"--set {key}: {text} All others change no module.{hint}")
    settings = overrides.apply(Settings(), assignments, (strategy,) if strategy else ())
    if "image_size" not in keys:
        return ModelSettings(settings.strategy, head=settings.head)
    if problem := backbones.card(backbone).size_problem(settings.image_size):
        raise BenchError(f"--set image_size: {problem}")
    return ModelSettings(settings.strategy, settings.image_size, settings.head)


def show(
    backbone: str, strategy: str | None, depth: int, settings: ModelSettings | None = None
) -> Iterator[Table | Tree]:
    """Yield a backbone's card, then its tree of modules with what is trained marked.

    Raises:
        RegistryError: an unknown name, or a strategy that can't be applied.
    """
    card = backbones.card(backbone)
    if strategy is not None:
        strategies.get(strategy)
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    rows = {
        "backbone": f"{card.name} – {card.title}",
        "parameters": f"{card.parameters.total:,} (encoder {card.parameters.encoder:,}, prompt encoder "
        f"{card.parameters.prompt_encoder:,}, mask decoder {card.parameters.decoder:,})",
        "native input": f"{card.native_image_size} px",
        "feature maps": "; ".join(f"stride {s}: {width} channels" for s, width in card.feature_widths.items()),
        "embedding": f"a cell for {card.stride} × {card.stride} pixels",
        "checkpoint": _origin(card),
        "licence": card.licence,
        "paper": card.paper,
        "repository": card.repository,
        "note": card.note,
    }
    if strategy is not None:
        entry = strategies.get(strategy)
        rows |= {
            "strategy": f"{strategy} – {entry.summary}",
            "source": entry.source,
            "options": _options(strategy, with_types=True),
            "learning rates": _rates(strategy),
        }
    for name, value in rows.items():
        if value:
            facts.add_row(f"[dim]{name}[/]", escape(value))
    yield facts

    from bench.training import model

    root = model.describe(_built(backbone, strategy or "zero_shot", settings or ModelSettings()), depth)
    tree = Tree(_label(root, backbone))
    _grow(tree, root)
    yield tree


def _origin(card: Card) -> str:
    """Return where the official checkpoint comes from."""
    file = card.checkpoint
    if file is None:
        return "none: random weights only"
    return f"{file.package.path} of the Python package {file.package.requirement}" if file.package else file.url


def _built(backbone: str, strategy: str, settings: ModelSettings) -> Sam:
    """Build a model on the meta device: its tree needs shapes only, and the weights of ViT-H take 20 s and 2.5 GB."""
    import torch

    from bench.training import model

    def build() -> Sam:
        return model.prepare(
            backbone=backbone,
            strategy=strategy,
            options=settings.options,
            image_size=settings.image_size or 256,
            checkpoint=None,
            tokens=heads.get(settings.head).channels,
            seed=0,
            head=settings.head,
        )

    try:
        with torch.device("meta"):
            return build()
    except RegistryError:
        raise
    except Exception:  # a plug-in that reads values while it is built
        return build()


def save_figure(backbone: str, strategy: str | None, path: Path, settings: ModelSettings | None = None) -> Path:
    """Draw the architecture of a backbone with a strategy, by default with none, into a file.

    Raises:
        RegistryError: an unknown name, or a strategy that can't be applied.
        BenchError: a file of another kind than PNG, SVG and PDF, or one that can't be written.
    """
    from bench import architecture
    from bench.report import canvas

    if path.suffix.lower() not in canvas.SUFFIXES:
        raise BenchError(f"--figure {path}: give a name that ends in {', '.join(canvas.SUFFIXES)}.")
    chosen = settings or ModelSettings()
    figure = architecture.figure(
        backbone, strategy or "zero_shot", chosen.options, head=chosen.head, image_size=chosen.image_size
    )
    return canvas.save(figure, path)


def cards_with_checkpoint(names: Iterable[str]) -> list[Card]:
    """Return the cards of some backbones; of all that have an official checkpoint, if no names are given."""
    return [backbones.card(name) for name in names] or [
        card for card in map(backbones.card, backbones.names()) if card.checkpoint
    ]


def check_report(report: CheckReport) -> Iterator[Table | str]:
    """Yield the report of `bench data check`: a table with a row per organ, then every problem and oddity."""
    table = Table(
        title=f"{report.root}", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    keys = list(dict.fromkeys(key for counts in report.organs.values() for key in counts))
    table.add_column("organ")
    for key in keys:
        table.add_column(key, justify="right")
    for organ, counts in report.organs.items():
        table.add_row(escape(organ), *(f"{counts.get(key, 0):,}" for key in keys))
    totals = [sum(counts.get(key, 0) for counts in report.organs.values()) for key in keys]
    table.add_row(f"[bold]{len(report.organs)} organs[/]", *(f"[bold]{total:,}[/]" for total in totals))
    lines = [f"[red]problem[/] {escape(text)}" for text in report.problems]
    lines += [f"[yellow]note[/] {escape(text)}" for text in report.notes]
    if report.release and report.release not in report.problems:
        lines.append(f"[dim]release[/] {escape(report.release)}")
    yield table
    yield from lines
    if not report.problems:
        yield "[green]no problems[/]"


def weights_report(statuses: Iterable[Status]) -> Table:
    """Return the table of `bench weights check`."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("backbone", "state", "file", "detail"):
        table.add_column(name, overflow="fold")
    for status in statuses:
        table.add_row(
            status.name,
            f"[{MARKS.get(status.state, 'red')}]{status.state}[/]",
            escape(str(status.path)),
            escape(status.detail),
        )
    return table


def _options(strategy: str, *, with_types: bool = False) -> str:
    kinds = strategies.option_types(strategy)
    texts = [
        f"{name}: {spell(kinds[name])}, default {shown}" if with_types else f"{name}={shown}"
        for name, default in strategies.options(strategy).items()
        for shown in ["none" if default is None else default]
    ]
    return ("; " if with_types else ", ").join(texts) or "no options"


def _listed(strategy: str) -> str:
    rate = strategies.get(strategy).encoder_lr
    return _options(strategy) + ("" if rate is None else f"; encoder_lr {rate:g}")


def _rates(strategy: str) -> str:
    """Return the peak learning rates of a strategy in words; empty where nothing is trained."""
    entry, common = strategies.get(strategy), f"train.lr {TrainSettings().lr:g} for the decoder, as in every strategy"
    if not entry.trains:
        return ""
    return common if entry.encoder_lr is None else f"train.encoder_lr {entry.encoder_lr:g} in the encoder; {common}"


def _label(node: Node, name: str | None = None) -> str:
    share = "[dim]frozen[/]"
    if node.trained == node.parameters:
        share = "[green]trained[/]"
    elif node.trained:
        share = f"[green]{millions(node.trained)} trained[/]"
    times = f" × {node.count}" if node.count > 1 else ""
    return f"{name or escape(node.name)} [dim]{escape(node.kind)}{times}[/] {millions(node.parameters)}, {share}"


def _grow(tree: Tree, node: Node) -> None:
    for child in node.children:
        _grow(tree.add(_label(child)), child)
