"""Environment of all tests, and of the processes that they start."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

# OpenMP's threads wait by spinning, which on a busy machine is most of the time. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell that starts the tests in the background has them ignore SIGINT, and the commands that they interrupt too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Undo what commands that ran in this process did to the program's loggers."""
    loggers = [logging.getLogger(name) for name in ("bench", "registry")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagates, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagates
        logger.handlers[:] = handlers
