"""Grid → Runs with ids. Impossible pairs are skipped with a reason; every problem is reported at once."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from bench.errors import PlanError, PluginError
from bench.grid import CLASSICAL, RULES_VERSION, Grid, Run, Settings, TrainSettings, neutral_values
from bench.planning import plugins, problems, sweeps, tuning
from registry import backbones, heads, quantised, strategies
from registry.contract import Strategy
from registry.errors import UnknownNameError, unknown

FROZEN_BATCHNORM = "frozen"
RANDOM_BATCHNORM = "trained"
"""Choice of ``train.batchnorm`` where a whole encoder is trained from random weights."""


@dataclass(frozen=True)
class Plan:
    """Runs of a grid.

    Attributes:
        grid: with all overrides applied.
        runs: to be done, in the grid's order; the classical pipeline's first. No two have the same id.
        skipped: impossible runs with the reason.
    """

    grid: Grid
    runs: tuple[Run, ...]
    skipped: tuple[tuple[Run, str], ...]

    @property
    def plugins(self) -> tuple[Path, ...]:
        """Absolute paths of what a worker has to import before it looks a name up."""
        return tuple(Path(source) for source in self.grid.plugins)

    @property
    def sweep(self) -> str:
        """The swept settings and their number, and the changes, in a line; empty without any."""
        return f"sweep: {sweeps.describe(self.grid)}" if self.grid.sweep or self.grid.changes else ""


def grid_names() -> tuple[str, ...]:
    """Return the names of the grids that come with the program."""
    return tuple(sorted(p.stem for p in (Path(__file__).parents[1] / "grids").glob("*.py") if p.stem != "__init__"))


def load_grid(name: str, further_plugins: Sequence[Path] = ()) -> Grid:
    """Return a grid by name, or from a Python file that defines ``GRID``; its plug-ins are loaded.

    Args:
        name: of a grid of this program, or the path of a .py file.
        further_plugins: loaded before the grid and its own plug-ins.

    Returns:
        The grid. Its `plugins` are absolute paths: the further ones, its own, and the grid file if it
        registers names.

    Raises:
        PlanError: no such grid or file, a file without a `Grid` called ``GRID``, or a plug-in that can't be loaded.
    """
    sources = [source.resolve() for source in further_plugins]
    try:
        plugins.load(sources)
        module = _grid_module(name)
        grid = getattr(module, "GRID", None)
        if not isinstance(grid, Grid):
            raise PlanError([f"{name} defines no GRID; write GRID = Grid(name=…, backbones=…, strategies=…)."])
        for field in ("backbones", "strategies", "plugins"):
            if isinstance(value := getattr(grid, field), str):
                raise PlanError([f"{name}: {field} is the text {value!r}; write a tuple: {field}=({value!r},)."])
        if not isinstance(grid.sweep, Mapping):
            raise PlanError([f'{name}: sweep is {grid.sweep!r}; write sweep={{"strategy.rank": (1, 4, 8)}}.'])
        folder = Path(str(module.__file__)).parent
        sources += [(folder / source).resolve() for source in grid.plugins]
        plugins.load(sources)
    except PluginError as error:
        raise PlanError([str(error)]) from error
    if name.endswith(".py"):
        sources = [*plugins.with_grid_file(sources, Path(name))]
    summary = (module.__doc__ or "").strip().split("\n")[0]
    return replace(grid, summary=grid.summary or summary, plugins=tuple(map(str, sources)))


def _grid_module(name: str) -> ModuleType:
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise PlanError([f"there is no grid file {name!r}; give a path, or one of: {', '.join(grid_names())}."])
        return plugins.run_file(Path(name))
    if name in grid_names():
        return importlib.import_module(f"bench.grids.{name}")
    raise PlanError([unknown("grid", name, grid_names()) + " Or give the path of a .py file."])


def make(grid: Grid, dataset_digest: str, *, available: Collection[str] = ()) -> Plan:
    """Return the runs of a grid.

    Args:
        grid: with all overrides applied.
        dataset_digest: fingerprint of the dataset that the runs are about.
        available: backbones whose official checkpoint is here, for ``weights=available``.

    Raises:
        PlanError: unknown names or settings out of range, all at once.
    """
    if sentences := problems.of_grid(grid):
        raise PlanError(sentences)
    combinations = sweeps.expand(grid)
    runs: dict[str, Run] = {}
    skipped: dict[str, tuple[Run, str]] = {}
    if grid.classical:
        runs = {run.id: run for single in combinations for run in _classical_runs(single, dataset_digest)}
    for backbone, strategy, single in itertools.product(grid.backbones, grid.strategies, combinations):
        for run in _runs_of_pair(_with_weights(single, backbone, available), backbone, strategy, dataset_digest):
            # A swept setting that a strategy does not have leaves its ids: such a run is planned once.
            if reason := impossible(run):
                skipped.setdefault(run.id, (run, reason))
            else:
                runs.setdefault(run.id, run)
    return Plan(grid, tuple(runs.values()), tuple(skipped.values()))


def names_used(grid: Grid) -> dict[str, tuple[str, ...]]:
    """Return the registered names that a grid uses, by kind; a strategy may bring its own head."""
    own_heads = [strategies.get(name).head for name in grid.strategies]
    heads_by_name = dict.fromkeys([single.settings.head for single in sweeps.expand(grid)])
    return {
        "backbone": grid.backbones,
        "strategy": grid.strategies,
        "head": (*heads_by_name, *(head for head in own_heads if head)),
        "dataset": (grid.settings.dataset,),
    }


def impossible(run: Run) -> str | None:
    """Return the reason why a run can't be done at all, or None."""
    card = backbones.card(run.backbone)
    if run.weights == "official" and card.checkpoint is None:
        return f"{run.backbone} has no official checkpoint; it runs with --set weights=random only"
    if run.train and not heads.get(run.head).dense:
        return f"head {run.head!r} prompts the model and can't be trained; strategy {run.strategy!r} needs a dense head"
    kind = run.train.get("base_weights", quantised.FULL)
    if kind != quantised.FULL and strategies.get(run.strategy).trains_encoder:
        return f"strategy {run.strategy!r} trains the whole encoder; train.base_weights={kind} is for frozen layers"
    return None


def with_neutral_options(run: Run) -> Run:
    """Return a run with every option that its strategy has got since the run was planned, at the neutral value.

    Its id stays as it is. A strategy that is not registered in this process leaves the run unchanged.
    """
    try:
        neutral = strategies.get(run.strategy).neutral
    except UnknownNameError:
        return run
    missing = {option: value for option, value in neutral.items() if option not in run.options}
    if not missing:
        return run
    return replace(run, options={**run.options, **missing}, neutral_options={**run.neutral_options, **missing})


def _with_weights(grid: Grid, backbone: str, available: Collection[str]) -> Grid:
    """Return a grid with the weights that the runs of a backbone start from."""
    if grid.settings.weights != "available":
        return grid
    weights: Literal["official", "random"] = "official" if backbone in available else "random"
    return replace(grid, settings=replace(grid.settings, weights=weights))


def _classical_runs(grid: Grid, dataset_digest: str) -> Iterator[Run]:
    for fold in grid.fold_numbers:
        yield Run(
            backbone=CLASSICAL,
            strategy=CLASSICAL,
            head=CLASSICAL,
            fold=fold,
            seed=0,
            weights="none",
            image_size=0,
            scale=None,
            options={},
            train={},
            validation_fraction=None,
            **_data_settings(grid, dataset_digest),
        )


def _runs_of_pair(grid: Grid, backbone: str, name: str, dataset_digest: str) -> Iterator[Run]:
    settings, strategy = grid.settings, strategies.get(name)
    head = strategy.head or settings.head
    options = strategies.options(name)
    options |= {option: value for option, value in settings.strategy.items() if option in options}
    train = _train_settings(settings, backbone, strategy) if strategy.trains else {}
    embeddings = settings.embeddings if strategy.freezes_encoder else "computed"
    if train and embeddings == "computed":  # not read then, so it makes no run of its own
        train["stain_variants"] = neutral_values(TrainSettings)["stain_variants"]
    train = tuning.resolved(train, freezes_encoder=strategy.freezes_encoder)
    for fold in grid.fold_numbers:
        yield Run(
            backbone=backbone,
            strategy=name,
            head=head,
            fold=fold,
            seed=settings.seed,
            weights=settings.weights,
            image_size=settings.image_size,
            scale=settings.scale if heads.get(head).dense else None,
            options=options,
            train=train,
            validation_fraction=settings.folds.validation_fraction,
            neutral_options=dict(strategy.neutral),
            embeddings=embeddings,
            tta=settings.predict.tta and heads.get(head).dense,
            fill_holes=settings.predict.fill_holes and heads.FILL_HOLES in heads.get(head).defaults,
            search=settings.predict.search,
            **_data_settings(grid, dataset_digest),
        )


def _train_settings(settings: Settings, backbone: str, strategy: Strategy) -> dict[str, Any]:
    """Return the settings of training with the strategy's own rate and the choice of BatchNorm's statistics.

    Settings that are not read have their neutral values, so that they make no run of their own.
    """
    train = asdict(settings.train)
    has_statistics = backbones.card(backbone).batchnorm and not strategy.freezes_encoder
    chosen = RANDOM_BATCHNORM if strategy.trains_encoder and settings.weights == "random" else FROZEN_BATCHNORM
    return train | {
        "encoder_lr": None if strategy.freezes_encoder else settings.train.encoder_lr or strategy.encoder_lr,
        "batchnorm": (settings.train.batchnorm or chosen) if has_statistics else FROZEN_BATCHNORM,
    }


def _data_settings(grid: Grid, dataset_digest: str) -> dict[str, Any]:
    return {
        "dataset": grid.settings.dataset,
        "dataset_digest": dataset_digest,
        "n_splits": grid.settings.folds.n_splits,
        "fold_seed": grid.settings.folds.seed,
        "rules_version": RULES_VERSION,
    }
