"""The terminal that people read."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

RESULTS = Path("results")
"""The results folder that commands mean when they are told nothing else."""
PLAIN: Mapping[str, Any] = MappingProxyType({"highlight": False, "markup": False, "soft_wrap": True})
"""Options of ``Console.print`` for a text that is shown as it is: no name is markup, and no line is broken."""
LOGGERS = ("bench", "registry")
"""Loggers whose messages are for the user."""


def console(stderr: bool = False) -> Console:
    """The console; rich obeys NO_COLOR and the width of the terminal."""
    from rich.console import Console

    return Console(stderr=stderr)


@contextmanager
def progress_bar(target: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal while things are done one by one; give a function to call with the name of each.

    Args:
        target: the console; nothing is shown where it is no terminal.
        total: number of things.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=target, transient=True, disable=not target.is_terminal) as bar:
        task, started = bar.add_task("", total=total), [0]

        def advance(name: str) -> None:
            bar.update(task, completed=started[0], description=name)
            started[0] += 1

        yield advance


class ConsoleHandler(logging.Handler):
    """Prints log messages as plain lines; above the display where its console shows a live view.

    Attributes:
        target: the console to print on.
    """

    def __init__(self, target: Console, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        try:
            self.target.print(self.format(record), **PLAIN)
        except Exception:  # as all handlers of logging do: a message must not end the program
            self.handleError(record)


def set_up_logging(verbosity: int = 0) -> None:
    """Print log messages of this program on standard error, and nowhere else.

    A plug-in may set up the root logger (`logging.basicConfig`), which would print them a second time.

    Args:
        verbosity: 0 shows messages from INFO on, 1 and more those of DEBUG too.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in [existing for existing in logger.handlers if isinstance(existing, ConsoleHandler)]:
            logger.removeHandler(handler)
        level = logging.DEBUG if verbosity else logging.INFO
        logger.addHandler(ConsoleHandler(console(stderr=True), level))
        logger.setLevel(level)
        logger.propagate = False


@contextmanager
def logging_to(target: Console) -> Iterator[None]:
    """Print log messages on `target` while the block runs: the console of a live view, or of a command's lines."""
    installed = (handler for name in LOGGERS for handler in logging.getLogger(name).handlers)
    handlers = [handler for handler in installed if isinstance(handler, ConsoleHandler)]
    if not handlers:  # not started from the command line
        with _handler_for(target):
            yield
        return
    earlier = [handler.target for handler in handlers]
    for handler in handlers:
        handler.target = target
    try:
        yield
    finally:
        for handler, console_before in zip(handlers, earlier, strict=True):
            handler.target = console_before


@contextmanager
def _handler_for(target: Console) -> Iterator[None]:
    handler = ConsoleHandler(target)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def command(words: str, results: Path) -> str:
    """A command to be given next about a results folder, as it would be typed here."""
    try:
        is_usual = results.resolve() == RESULTS.resolve()
    except FileNotFoundError:  # the current folder was removed
        is_usual = False
    return f"bench {words}" + ("" if is_usual else f" --results {shlex.quote(str(results))}")
