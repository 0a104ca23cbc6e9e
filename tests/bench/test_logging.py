"""Log messages on the console."""

from __future__ import annotations

import logging
from io import StringIO

import pytest
from rich.console import Console

from bench.console import LOGGERS, ConsoleHandler, logging_to, set_up_logging


@pytest.fixture
def logger():
    """A logger of the program; all its settings are as before after the test."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield logging.getLogger("bench.some_module")
    for logger, (level, propagates, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagates
        logger.handlers[:] = handlers


def test_messages_are_plain_lines_on_standard_error(logger, capsys):
    set_up_logging()
    logger.debug("not shown")
    logger.info("a [bold]path[/] of %s", "x" * 200)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"a [bold]path[/] of {'x' * 200}\n"


def test_more_verbosity_shows_debug_messages_and_no_message_twice(logger, capsys):
    set_up_logging()
    set_up_logging(1)
    logger.debug("details")
    assert capsys.readouterr().err == "details\n"


def test_a_root_logger_that_a_plug_in_sets_up_prints_no_message_twice(logger, capsys):
    root, printed = logging.getLogger(), StringIO()
    handler = logging.StreamHandler(printed)  # as `logging.basicConfig` adds it
    root.addHandler(handler)
    try:
        set_up_logging()
        logger.info("once")
    finally:
        root.removeHandler(handler)
    assert capsys.readouterr().err == "once\n" and printed.getvalue() == ""


@pytest.mark.parametrize("is_set_up", [True, False])
def test_messages_go_to_another_console_while_a_block_runs(logger, capsys, is_set_up):
    if is_set_up:
        set_up_logging()
    printed = StringIO()
    with logging_to(Console(file=printed, width=80)):
        logger.info("inside")
    assert printed.getvalue() == "inside\n"
    logger.info("outside")
    assert printed.getvalue() == "inside\n"
    assert capsys.readouterr().err == ("outside\n" if is_set_up else "")
    left = [one for name in LOGGERS for one in logging.getLogger(name).handlers if isinstance(one, ConsoleHandler)]
    assert len(left) == (len(LOGGERS) if is_set_up else 0)


def test_messages_stand_above_a_live_view(logger):
    from rich.live import Live

    printed = StringIO()
    console = Console(file=printed, width=80, force_terminal=True, color_system=None)
    with logging_to(console), Live("the view", console=console, auto_refresh=False, transient=True) as live:
        live.refresh()
        logger.info("a message")
    text = printed.getvalue()
    assert text.index("a message") < text.rindex("the view")
