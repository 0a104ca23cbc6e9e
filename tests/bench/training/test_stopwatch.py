"""Seconds of predictions and of what the device waits for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.training import stopwatch
from bench.training.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_an_evaluation_is_divided_into_its_predictions_and_the_rest(clock):
    watch = Stopwatch()

    def passing(seconds: float) -> float:
        clock.seconds += seconds
        return seconds

    predict = watch.timed(passing)
    with watch.evaluation("choice"):
        assert predict(2.0) == 2.0
        passing(7.0)
        predict(seconds=3.0)
    passing(50.0)
    with watch.evaluation("test"):
        predict(1.0)
        passing(0.5)
    assert watch.costs() == {
        "prediction_seconds": 6.0,
        "post_processing_seconds": 7.5,
        "post_processing_parts": {"choice": 7.0, "test": 0.5},
    }


def test_seconds_of_a_prediction_that_fails_are_counted_and_its_error_is_raised(clock):
    watch = Stopwatch()

    def failing() -> None:
        clock.seconds += 4.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        watch.timed(failing)()
    assert watch.predicting == 4.0


def test_a_stopwatch_goes_on_from_the_costs_so_far_and_leaves_them_as_they_are(clock):
    cost = {"prediction_seconds": 5.0, "post_processing_parts": {"validation": 3.0}}
    watch = Stopwatch.after(cost)
    with watch.evaluation("validation"):
        clock.seconds += 1.0
    assert (watch.predicting, watch.post_processing) == (5.0, {"validation": 4.0})
    assert cost == {"prediction_seconds": 5.0, "post_processing_parts": {"validation": 3.0}}
    assert Stopwatch.after({}) == Stopwatch()
