"""Commands about the cached embeddings of frozen encoders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from bench.console import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cache.usage import Group

cache = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Size and removal of the cached embeddings, which runs with `--set embeddings=cached` keep and share.",
)


def _cached_backbones(incomplete: str) -> list[tuple[str, str]]:
    """Names of backbones with cached embeddings, and their sizes, as a shell completes them."""
    from bench.cache import usage
    from bench.units import gigabytes
    from registry import cache_dir

    sizes: dict[str, int] = {}
    for group in usage.groups(cache_dir.embeddings()):
        if group.backbone.startswith(incomplete) and group.backbone:
            sizes[group.backbone] = sizes.get(group.backbone, 0) + group.n_bytes
    return [(name, gigabytes(size)) for name, size in sizes.items()]


CachedBackbones = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[BACKBONE]...",
        help="Only embeddings of these backbones; all by default.",
        autocompletion=_cached_backbones,
    ),
]


@cache.command("size")
def size(backbones: CachedBackbones = None) -> None:
    """Show what is cached, per backbone and dataset.

    Beyond the limit, what was not used for longest is removed. `BENCH_EMBEDDINGS_GB=200` sets another limit for the
    runs that are started with it, and 0 keeps nothing.
    """
    from bench.cache import store, usage
    from bench.units import gigabytes
    from registry import cache_dir, names

    root = cache_dir.embeddings()
    with console().status("measuring the cache"):
        groups = usage.groups(root, backbones or ())
    if groups:
        console().print(_table(groups))
    total, limit = sum(group.n_bytes for group in groups), store.limit_bytes()
    console().print(
        f"{gigabytes(total)} in {names.shown(root)}; limit {gigabytes(limit)} ({store.LIMIT})",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@cache.command("clear")
def clear(
    backbones: CachedBackbones = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> None:
    """Remove cached embeddings, after asking. Runs compute again what they need; no result is lost.

    `bench cache clear mobile_sam --yes`

    Exit code: 0 if they were removed or there were none, 1 if you answered no.
    """
    from bench.cache import usage
    from bench.units import gigabytes, plural
    from registry import cache_dir, names

    root = cache_dir.embeddings()
    groups = usage.groups(root, backbones or ())
    if not groups:
        typer.echo(f"There are no cached embeddings{' of ' + ', '.join(backbones) if backbones else ''}.")
        return
    count, n_bytes = sum(len(group.files) for group in groups), sum(group.n_bytes for group in groups)
    question = f"Remove {plural(count, 'file')}, {gigabytes(n_bytes)}, from {names.shown(root)}?"
    if not yes and not _confirmed(question):
        typer.echo("Nothing was removed; --yes removes without a question.")
        raise typer.Exit(1)
    typer.echo(f"Removed {gigabytes(usage.remove(root, groups))}.")


def _confirmed(question: str) -> bool:
    """Return whether the user says yes; no where there is nobody to ask."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        typer.echo()
        return False


def _table(groups: Sequence[Group]) -> object:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from bench.units import duration, gigabytes

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("backbone", "dataset"):
        table.add_column(title)
    for title in ("entries", "size", "last used"):
        table.add_column(title, justify="right", no_wrap=True)
    for group in groups:
        ago = f"{duration(max(0.0, time.time() - group.used))} ago"
        names = (group.backbone, group.dataset) if group.backbone else ("(to be deleted)", "")
        table.add_row(*map(escape, names), f"{len(group.files):,}", gigabytes(group.n_bytes), ago)
    return table
