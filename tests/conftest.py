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
def untouched_loggers() -> Iterator[None]:
    """Undo what commands that ran in this process, also in fixtures of a module, did to the program's loggers."""
    _reset_loggers()
    yield
    _reset_loggers()


def _reset_loggers() -> None:
    for name in ("bench", "registry"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.handlers.clear()
