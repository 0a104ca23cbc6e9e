"""Work in processes of their own: same results in the same order, errors with names, nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
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
    assert caught.value.__notes__ == [f"This was image '{NAMES[failing]}'."]
    assert caught.traceback[-1].name == "work"
    assert followed == list(range(1, failing + 1))


class Local:
    class Unknown(Exception):
        __module__ = "nowhere"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Local.Unknown("no way out"), "no way out"),
        (PlanError(["one", "two"]), "2 things are wrong"),
        (DivergedError("not finite"), "not finite"),
        (MemoryError("16 GiB"), "16 GiB"),
    ],
)
def test_error_keeps_its_kind_even_if_it_cannot_be_pickled(error, text):
    def work(number):
        if number == 4:
            raise error
        return number

    with pytest.raises(type(error), match=f"^{text}") as caught:
        each(work)
    assert "This was image 'e'." in caught.value.__notes__


def test_item_that_fails_in_a_process_alone_is_done_here():
    def work(number):
        if number == 4 and os.getpid() != HERE:
            raise MemoryError
        return squared_where(number)

    assert [result for result in each(work) if result[1]] == [(0, True), (1, True), (16, True)]


def test_item_whose_process_dies_is_done_here():
    def work(number):
        if number in (3, 4, 6) and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return squared_where(number)

    results = each(work)
    assert [square for square, _ in results] == [number * number for number in range(8)]
    assert all(results[number][1] for number in (3, 4, 6))


def test_no_more_than_two_items_for_each_process_are_held():
    finished, held = [], []

    def items() -> Iterator[int]:
        for number in range(40):
            yield number
            held.append(number + 1 - len(finished))

    assert each(abs, items(), names=["image"] * 40, follow=finished.append) == list(range(40))
    assert 1 < max(held) <= 2 * 2


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
    gpu = RunContext(results=tmp_path, device="cuda")
    assert (gpu.side_processes, gpu.processes) == (5, 6)
    shared = replace(gpu, is_shared=True)
    assert (shared.side_processes, shared.processes) == (1, 0)
    plain = replace(gpu, fast_paths=frozenset())
    assert (plain.side_processes, plain.processes) == (0, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert (gpu.side_processes, gpu.processes) == (0, 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert (gpu.side_processes, gpu.processes) == (side_processes.MOST, side_processes.MOST)


@pytest.mark.parametrize(("threads", "expected"), [(6, 0), (8, 0), (4, 2), (1, 5)])
def test_predictions_on_a_cpu_keep_the_threads_of_torch_for_themselves(monkeypatch, tmp_path, threads, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    context = RunContext(results=tmp_path)
    assert (context.side_processes, context.processes) == (expected, 6)
    assert replace(context, is_shared=True).side_processes == 0
