"""Signals and other reasons to stop: what is interrupted at once, and what waits for the next step."""

from __future__ import annotations

import signal

import pytest

from bench.errors import InterruptedRunError
from bench.results import run_lock
from bench.worker import stop
from bench.worker.stop import StopCheck, StopFlag, StopNow


def check(folder, flag, *, is_cancelled=lambda: False) -> StopCheck:
    lock = run_lock.acquire(folder)
    assert lock is not None
    return StopCheck(flag, lock, is_cancelled)


@pytest.mark.parametrize("number", StopFlag.SIGNALS)
def test_a_signal_sets_the_flag_and_the_handler_before_comes_back(number):
    before = signal.getsignal(number)
    with StopFlag() as flag:
        assert not flag()
        signal.raise_signal(number)
        assert flag() and flag.count == 1
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_nothing_has_to_be_saved_a_signal_stops_at_once_and_a_second_one_lets_clean_up(number):
    with StopFlag(is_immediate=True) as flag:
        with pytest.raises(StopNow):
            signal.raise_signal(number)
        signal.raise_signal(number)
        assert flag.count == 2


def test_the_signal_of_a_time_limit_never_stops_at_once():
    with StopFlag(is_immediate=True) as flag:
        signal.raise_signal(signal.SIGUSR2)
        assert flag()


def test_a_third_ctrl_c_ends_the_process_while_it_saves():
    with StopFlag() as flag:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(caught.value, StopNow) and flag.count == 3


def test_after_a_time_limits_signal_while_preparing_sigterm_does_not_interrupt_the_save(tmp_path):
    with StopFlag() as flag:
        checked = check(tmp_path, flag)
        checked.allow_immediate(True)  # preparing
        signal.raise_signal(signal.SIGUSR2)
        checked.allow_immediate(False)  # training: the state is saved after one step
        try:
            signal.raise_signal(signal.SIGTERM)
        except StopNow:  # as a KeyboardInterrupt it would end all tests
            pytest.fail("SIGTERM interrupted the save")
        assert flag.count == 2 and checked() and checked.why == "interrupted"


def test_after_a_signal_stopping_at_once_is_not_allowed_again(tmp_path):
    with StopFlag() as flag:
        checked = check(tmp_path, flag)
        signal.raise_signal(signal.SIGTERM)
        checked.allow_immediate(True)
        signal.raise_signal(signal.SIGTERM)
        assert flag.count == 2


def test_a_run_that_a_user_cancelled_stops_when_files_are_read(tmp_path, monkeypatch):
    checked = check(tmp_path, lambda: False, is_cancelled=lambda: True)
    assert not checked() and checked.why is None  # files were read a moment ago
    monkeypatch.setattr(stop, "CHECK_EVERY_S", -1.0)
    assert checked() and checked.why == "cancelled"


def test_a_run_that_another_process_took_over_is_left_without_a_save(tmp_path):
    checked = check(tmp_path, lambda: False)
    checked.lock.path.unlink()
    with pytest.raises(InterruptedRunError, match="another process took this run over"):
        checked.check_files()
    assert checked.why == "lost" and checked()


def test_a_signal_counts_before_a_cancellation(tmp_path, monkeypatch):
    monkeypatch.setattr(stop, "CHECK_EVERY_S", -1.0)
    checked = check(tmp_path, lambda: True, is_cancelled=lambda: True)
    assert checked() and checked.why == "interrupted"


def test_the_list_of_cancelled_runs_that_can_not_be_read_cancels_nothing(tmp_path, monkeypatch):
    def read_cancelled(_):
        raise OSError("stale")

    monkeypatch.setattr(stop.submissions, "read_cancelled", read_cancelled)
    assert stop.is_cancelled(tmp_path, "a") is False
    monkeypatch.setattr(stop.submissions, "read_cancelled", lambda _: {"a"})
    assert stop.is_cancelled(tmp_path, "a") is True
