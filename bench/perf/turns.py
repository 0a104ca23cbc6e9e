"""Forms of a computation that are timed in turns, and their ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def without_each(used: frozenset[str], names: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return the forms to compare with: without each of `names` that is in use, and the plain form, ``all``."""
    chosen = {name: used - {name} for name in names if name in used}
    return {**chosen, "all": frozenset()} if used else {}


def in_turns(
    calls: Mapping[str, Callable[[], T]], seconds: Callable[[T], float], rounds: int, limit_s: float
) -> dict[str, T]:
    """Call each in turns (A B A B …), so that other load meets all of them; return the fastest result of each."""
    best: dict[str, T] = {}
    begun = time.perf_counter()
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - begun > limit_s:
            break
        for name, call in calls.items():
            result = call()
            if name not in best or seconds(result) < seconds(best[name]):
                best[name] = result
    return best


def seconds_of(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()  # its results are on the CPU when it returns, or it waits for the device itself
    return time.perf_counter() - begun
