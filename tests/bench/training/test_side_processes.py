"""Work in processes of their own: same results in the same order, errors with names, nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import DivergedError, PlanError
from bench.training import side_processes
from bench.training.context import RunContext

HERE = os.getpid()
ROOT = Path(__file__).parents[3]
NAMES = tuple("abcdefgh")


def squared_where(number: int) -> tuple[int, bool]:
    """Square of a number, and whether it was made in this process."""
    return number * number, os.getpid() == HERE


def each(work, items=range(8), *, names=NAMES, processes=2, **options):
    return side_processes.each(work, items, names=names, processes=processes, pays_s=0.0, **options)


def children() -> list[str]:
    return Path(f"/proc/{HERE}/task/{HERE}/children").read_text().split()


def test_results_are_those_of_the_plain_form_in_their_order():
    before, followed = children(), []
    results = each(squared_where, follow=followed.append)
    assert [square for square, _ in results] == [square for square, _ in each(squared_where, processes=0)]
    assert [here for _, here in results] == [True] * 2 + [False] * 6
    assert followed == list(range(1, 9))
    assert children() == before


def test_work_that_does_not_pay_stays_in_this_process():
    assert all(here for _, here in side_processes.each(squared_where, range(8), names=NAMES, processes=2, pays_s=60.0))
    assert all(here for _, here in each(squared_where, processes=0))
    assert all(here for _, here in each(squared_where, range(3), names=NAMES[:3]))
    assert each(squared_where, (), names=()) == []


def test_tensors_and_arrays_are_the_same_on_the_other_side():
    def work(item):
        number, tensor, array = item
        assert isinstance(tensor, torch.Tensor) and isinstance(array, np.ndarray)
        return number, float(tensor.double().sum()), array + 1, os.getpid() == HERE, torch.get_num_threads()

    items = [(number, torch.full((3, 50, 50), number / 3), np.full((40, 40), number)) for number in range(8)]
    results = each(work, items)
    for (number, tensor, array), result in zip(items, results, strict=True):
        assert result[0] == number and result[1] == float(tensor.double().sum())
        np.testing.assert_array_equal(result[2], array + 1)
    assert results[-1][3:] == (False, 1)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("failing", [1, 5])
def test_error_names_the_image_and_comes_after_all_results_before_it(processes, failing):
    def work(number):
        if number >= failing:
            raise ValueError(f"{number} is too many.")
        return number

    followed: list[int] = []
    with pytest.raises(ValueError, match=f"^{failing} is too many") as caught:
        each(work, processes=processes, follow=followed.append)
    assert f"This was image '{NAMES[failing]}'." in caught.value.__notes__
    assert followed == list(range(1, failing + 1))
    if processes and failing > 1:
        assert any(", in work\n" in note for note in caught.value.__notes__)


class Local:
    class Unknown(Exception):
        __module__ = "nowhere"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (Local.Unknown("no way out"), RuntimeError, "Unknown: no way out"),
        (PlanError(["one", "two"]), RuntimeError, "PlanError: 2 things are wrong"),
        (DivergedError("not finite"), DivergedError, "not finite"),
        (MemoryError("16 GiB"), MemoryError, "16 GiB"),
    ],
)
def test_error_keeps_its_kind_or_arrives_as_text_if_it_cannot_be_pickled(error, kind, text):
    def work(number):
        if number == 4:
            raise error
        return number

    with pytest.raises(Exception, match=f"^{text}") as caught:
        each(work)
    assert type(caught.value) is kind and "This was image 'e'." in caught.value.__notes__


def test_item_whose_process_dies_is_done_here():
    def work(number):
        if number in (3, 4, 6) and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return squared_where(number)

    results = each(work)
    assert [square for square, _ in results] == [number * number for number in range(8)]
    assert all(results[number][1] for number in (3, 4, 6))


class Held:
    """An item whose life can be followed."""


def test_no_more_than_two_items_for_each_process_are_held():
    living: weakref.WeakSet[Held] = weakref.WeakSet()
    counts = []

    def items() -> Iterator[Held]:
        for _ in range(40):
            item = Held()
            living.add(item)
            counts.append(len(living))
            yield item

    assert len(each(lambda item: item.__class__.__name__, items(), names=["image"] * 40)) == 40
    assert 2 < max(counts) <= 2 * 2 + 1  # and the one just made


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_process_is_left_when_the_making_of_items_or_a_caller_fails(error):
    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    def refuse(number: int) -> None:
        if number == 4:
            raise error

    before = children()
    with pytest.raises(error):
        each(squared_where, items())
    assert children() == before
    with pytest.raises(error):
        each(squared_where, follow=refuse)
    assert children() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_by_a_signal(number):
    code = """
        import signal
        from bench.training import side_processes
        from bench.worker.stop import StopFlag

        def items():
            yield from range(4)
            print("ready", flush=True)
            signal.pause()

        side_processes.WATCH_S = 0.1
        with StopFlag(is_immediate=True):
            side_processes.each(abs, items(), names="abcdefgh", processes=2, pays_s=0.0)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
        left = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(left) == 2
        ends = [os.pidfd_open(int(child)) for child in left]
        parent.send_signal(number)
        assert all(select.select([end], [], [], 60)[0] for end in ends)  # readable once the process has ended


def test_number_of_processes_leaves_a_core_and_follows_the_switch(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert RunContext(results=tmp_path).side_processes == 5
    assert RunContext(results=tmp_path, is_shared=True).side_processes == 1
    assert RunContext(results=tmp_path, fast_paths=frozenset()).side_processes == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert RunContext(results=tmp_path).side_processes == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert RunContext(results=tmp_path).side_processes == side_processes.MOST
