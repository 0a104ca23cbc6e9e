"""Work on items in processes while the next item is made: post-processing and scores beside predictions."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

PAYS_S = 0.5
"""Seconds of work ahead from which processes are started; starting them takes some hundredths of a second."""
MOST = 8
"""Largest number of processes: predictions come one after the other, and post-processing takes less time than most."""
WATCH_S = 2.0
"""Seconds after which an idle process sees that the one that started it is gone."""


def available(allowed: bool, *, shared: bool = False) -> int:
    """Return the number of processes to use beside this one; 0 where they are not allowed, or there is no core for one.

    Args:
        allowed: whether processes may be used.
        shared: other runs on this machine do the same.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not allowed or multiprocessing.current_process().daemon or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return min(1 if shared else MOST, cores - 1)


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
    has done with it, and compute in one thread. At most two items for each process are held at a time. An item whose
    process died (for lack of memory, say) is worked on here. None of the processes is left behind when this returns or
    raises.

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
            with _Pool(work, min(processes, ahead), names) as pool:
                pool.run(remaining, first=len(results), done=done)
    return results


def _named(work: Callable[[Item], Result], item: Item, name: str) -> Result:
    try:
        return work(item)
    except Exception as error:
        error.add_note(f"This was image {name!r}.")
        raise


@dataclass
class _Process:
    """A process, this end of its pipe, and the number and content of the item that it works on."""

    process: Any
    connection: Connection
    item: tuple[int, Any] | None = None


@dataclass
class _Pool:
    work: Callable[[Any], Any]
    size: int
    names: Sequence[str]
    _free: list[_Process] = field(default_factory=list)
    _busy: dict[Connection, _Process] = field(default_factory=dict)
    _every: list[Any] = field(default_factory=list)
    _waiting: deque[tuple[int, Any]] = field(default_factory=deque)
    _answers: dict[int, tuple[bool, Any]] = field(default_factory=dict)

    def __enter__(self) -> _Pool:
        try:
            for _ in range(self.size):
                self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, self.work, os.getpid()), daemon=True)
        process.start()
        self._every.append(process)
        there.close()  # in this process and those forked after it: a dead process then reads as the end of its pipe
        self._free.append(_Process(process, here))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in self._every:
            process.kill()  # they hold nothing to be saved
        for process in self._every:
            process.join()
        for member in (*self._free, *self._busy.values()):
            member.connection.close()

    def run(self, items: Iterator[Any], *, first: int, done: Callable[[Any], None]) -> None:
        """Work on the items, numbered from `first`; call `done` with each result in their order."""
        following = first
        for number, item in enumerate(items, start=first):
            self._waiting.append((number, item))
            self._collect(timeout=0)
            while len(self._waiting) > self.size:
                self._collect(timeout=None)
            following = self._hand_over(following, done)
        while self._waiting or self._busy:
            self._collect(timeout=None)
            following = self._hand_over(following, done)

    def _hand_over(self, following: int, done: Callable[[Any], None]) -> int:
        while following in self._answers:
            succeeded, answer = self._answers.pop(following)
            if not succeeded:
                raise answer
            done(answer)
            following += 1
        return following

    def _collect(self, *, timeout: float | None) -> None:
        """Take answers, waiting for one if there is none to be had, and give out what waits."""
        self._give_out()
        for connection in wait(list(self._busy), timeout) if self._busy else ():
            member = self._busy.pop(connection)  # type: ignore[call-overload]
            assert member.item is not None
            try:
                self._answers[member.item[0]] = member.connection.recv()
            except (EOFError, OSError):
                self._lose(member)
            else:
                member.item = None
                self._free.append(member)
        self._give_out()

    def _give_out(self) -> None:
        while self._waiting and (self._free or not self._busy):
            if not self._free:  # all processes have died
                self._work_here(self._waiting.popleft())
                continue
            member = self._free.pop()
            member.item = number, item = self._waiting.popleft()
            try:
                member.connection.send((self.names[number], _packed(item)))
            except (BrokenPipeError, ConnectionResetError):
                self._lose(member)
            else:
                self._busy[member.connection] = member

    def _lose(self, member: _Process) -> None:
        member.connection.close()
        assert member.item is not None
        self._work_here(member.item)

    def _work_here(self, item: tuple[int, Any]) -> None:
        number, content = item
        try:
            self._answers[number] = True, _named(self.work, content, self.names[number])
        except Exception as error:
            self._answers[number] = False, error


@dataclass(frozen=True)
class _TensorValues:
    """Values of a tensor: tensors themselves would be sent through shared memory, of which containers have little."""

    values: np.ndarray


def _packed(item: Any) -> Any:
    torch = sys.modules.get("torch")
    if isinstance(item, tuple):
        return tuple(_packed(part) for part in item)
    return _TensorValues(item.numpy()) if torch is not None and isinstance(item, torch.Tensor) else item


def _unpacked(item: Any) -> Any:
    if isinstance(item, tuple):
        return tuple(_unpacked(part) for part in item)
    return sys.modules["torch"].from_numpy(item.values) if isinstance(item, _TensorValues) else item


def _serve(connection: Connection, work: Callable[[Any], Any], parent: int) -> None:
    """Answer items with ``(True, result)`` or ``(False, error)`` until the other end of the pipe is gone."""
    # A signal to the process group is for the parent, which may have to save something first.
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # threads of the parent do not exist here
    while True:
        while not connection.poll(WATCH_S):
            if os.getppid() != parent:
                return
        try:
            name, item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send((True, _named(work, _unpacked(item), name)))
        except BrokenPipeError:
            return
        except Exception as error:
            connection.send((False, _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """Return an error with the traceback of this process as a note; one of plain text if it can't be pickled."""
    error.add_note("".join(traceback.format_tb(error.__traceback__)))
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # differs where a class changes what it is given
            return error
    except Exception as problem:
        error.add_note(f"It can't be pickled: {problem}")
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    for note in error.__notes__:
        plain.add_note(note)
    return plain
