"""Seconds of predictions, told apart from those in which nothing is predicted because their results are worked on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from bench.results.measurement import POST_PROCESSING_PARTS, POST_PROCESSING_SECONDS

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass
class Stopwatch:
    """Wall-clock seconds of evaluations, each of which belongs to one of two parts.

    While a prediction is made, post-processing of others may go on in side processes: that time is the prediction's.
    The rest is post-processing and scoring that the device waits for.

    Attributes:
        predicting: seconds inside functions that are `timed`; they return once the device has finished.
        post_processing: the other seconds of each `evaluation`, by its name.
    """

    predicting: float = 0.0
    post_processing: dict[str, float] = field(default_factory=dict)

    @classmethod
    def after(cls, cost: Mapping[str, Any]) -> Stopwatch:
        """Return one that goes on from the validations of a training, and the choice that followed.

        Args:
            cost: what building and training give to the block ``cost`` of the record.
        """
        return cls(cost.get("prediction_seconds", 0.0), dict(cost.get(POST_PROCESSING_PARTS, {})))

    def costs(self) -> dict[str, Any]:
        """Return the part of a record's block ``cost``: see `bench.results.measurement`."""
        return {
            "prediction_seconds": self.predicting,
            POST_PROCESSING_SECONDS: sum(self.post_processing.values()),
            POST_PROCESSING_PARTS: self.post_processing,
        }

    def timed(self, predict: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return a function whose seconds are added to `predicting`."""

        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            started = time.monotonic()
            try:
                return predict(*args, **kwargs)
            finally:
                self.predicting += time.monotonic() - started

        return call

    @contextmanager
    def evaluation(self, name: str) -> Iterator[None]:
        """Add the seconds of the block that no prediction takes to `post_processing`, under this name."""
        started, predicted = time.monotonic(), self.predicting
        yield
        rest = time.monotonic() - started - (self.predicting - predicted)
        self.post_processing[name] = self.post_processing.get(name, 0.0) + rest
