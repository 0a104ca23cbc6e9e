"""Work on items in processes while the next item is made: post-processing and scores beside predictions."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from bench.training.load import n_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

PAYS_S = 0.5
"""Seconds of work ahead from which processes are started; starting them takes some hundredths of a second."""
MOST = 8
"""Largest number of processes: predictions come one after the other, and post-processing takes less time than most."""


def available(allowed: bool, *, busy: int = 1, shared: bool = False) -> int:
    """Return the number of processes to use beside this one; 0 where they are not allowed, or there is no core for one.

    Args:
        allowed: whether processes may be used.
        busy: cores that this process uses meanwhile.
        shared: other runs on this machine do the same.
    """
    if not allowed or multiprocessing.current_process().daemon or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return max(0, min(1 if shared else MOST, n_cores() - busy))


def each(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    names: Sequence[str],
    processes: int = 0,
    pays_s: float = PAYS_S,
    follow: Callable[[int], None] = lambda _: None,
) -> list[Result]:
    """Return ``[work(item) for item in items]``, with `work` in processes where they pay.

    The first two items are worked on here, since the second shows how long that takes. Processes are forked: they know
    plug-ins and data without being sent them, and start in milliseconds. They never use the GPU, whatever this process
    has done with it, and compute in one thread. At most two items for each process are held at a time. An item that
    failed in a process, or whose process died (for lack of memory, say), is worked on again here, so that an error is
    raised where it can be followed. None of the processes is left behind when this returns or raises.

    Args:
        work: function of an item; its results are pickled.
        items: made in this process one after the other; pickled, tensors on the CPU included.
        names: of the items, added to errors.
        processes: most processes; 0 is the plain form.
        pays_s: seconds of work ahead from which they are started.
        follow: called in this process after each item, in their order, with its number from 1.

    Raises:
        What `work` raised for the first item that failed, with a note that names it.
    """
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        follow(len(results))

    remaining = iter(items)
    for item in remaining:
        started = time.perf_counter()
        done(_named(work, item, names[len(results)]))
        ahead = len(names) - len(results)
        if processes > 0 and ahead > 1 and len(results) > 1 and (time.perf_counter() - started) * ahead > pays_s:
            del item
            _in_processes(work, remaining, names[len(results) :], count=min(processes, ahead), done=done)
    return results


def _named(work: Callable[[Item], Result], item: Item, name: str) -> Result:
    try:
        return work(item)
    except Exception as error:
        error.add_note(f"This was image {name!r}.")
        raise


def _in_processes(
    work: Callable[[Item], Result],
    items: Iterator[Item],
    names: Sequence[str],
    *,
    count: int,
    done: Callable[[Result], None],
) -> None:
    """Work on the items in `count` processes; call `done` with each result in their order."""
    waiting: deque[tuple[str, bytes, Future[Result]]] = deque()

    def finish_first() -> None:
        name, packed, answer = waiting.popleft()
        error = answer.exception()  # not `result`: what a signal raises here must not be taken for the item's error
        if error is not None:
            logger.info("Image %r is worked on again in this process: %r", name, error)
        done(answer.result() if error is None else _named(work, pickle.loads(packed), name))

    with ProcessPoolExecutor(count, multiprocessing.get_context("fork"), _begin, (work,)) as pool:
        try:
            for name, item in zip(names, items, strict=True):
                # Pickled here: the pool's pickler sends tensors through shared memory, of which containers have little.
                packed = pickle.dumps(item)
                waiting.append((name, packed, _submitted(pool, packed)))
                while waiting and (len(waiting) == 2 * count or waiting[0][2].done()):
                    finish_first()
            while waiting:
                finish_first()
        except BaseException:
            for process in list(pool._processes.values()):
                process.kill()  # they hold nothing to be saved
            raise


def _submitted(pool: ProcessPoolExecutor, packed: bytes) -> Future[Any]:
    try:
        return pool.submit(_answer, packed)
    except BrokenProcessPool as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def _begin(work: Callable[[Any], Any]) -> None:
    """Prepare a process of the pool; `work` is inherited, so that it need not be one that can be pickled."""
    global _work
    _work = work
    # A signal to the process group is for the parent, which may have to save something first.
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # threads of the parent do not exist here
    threading.Thread(target=_end_with_parent, daemon=True).start()


_work: Callable[[Any], Any]
"""In a process of a pool: its work."""


def _answer(packed: bytes) -> Any:
    return _work(pickle.loads(packed))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
