"""Predictions of an image: seconds in the form in use and in plain forms, memory and traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from bench.perf import traffic
from bench.perf.subject import Subject
from bench.perf.turns import in_turns, seconds_of, without_each
from bench.training import fit, measure, predictions
from bench.training.context import RunContext
from bench.training.deployed import deployed
from bench.training.precision import Autocast
from registry import heads

if TYPE_CHECKING:
    from registry.sam import Sam

COMPARED = ("inference_form", "bfloat16")
"""Faster forms of a prediction that are compared with the plain form one by one."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of an image: seconds in the form in use, ratios of the plain forms, traffic and memory.

    Attributes:
        raw: what was predicted.
    """

    seconds: float
    encode_s: float
    ratios: Mapping[str, float]
    bytes_moved: int
    peak_bytes: int | None
    raw: Any


def image_predictions(subject: Subject, sam: Sam, context: RunContext, *, rounds: int, limit_s: float) -> Predictions:
    """Measure predictions of an image, without post-processing."""
    run, device = subject.run, fit.device(sam)
    (image,) = subject.parts.validation
    used = deployed(sam, context.fast_paths)
    inputs = torch.rand(1, 3, run.image_size, run.image_size, device=device)

    def encode(form: tuple[Sam, Autocast]) -> Any:
        model, autocast = form
        with torch.inference_mode(), autocast():
            embeddings = model.encode(inputs)
        measure.synchronize(device)
        return embeddings

    kept = encode(used)

    def predict(form: tuple[Sam, Autocast]) -> Any:
        model, autocast = form
        return predictions.raw_prediction(
            model,
            heads.get(run.head),
            image.pixels,
            scale=None,
            tta=run.tta,
            autocast=autocast,
            embeddings=(lambda *_: lambda tiles: kept) if run.embeddings == "cached" else None,
        )

    measure.reset_peak(device)
    raw = predict(used)
    peak = measure.peak_bytes(device)
    with traffic.counted() as moved:
        predict(used)
    forms = {"": used} | {
        name: deployed(sam, paths) for name, paths in without_each(context.fast_paths, COMPARED).items()
    }
    calls: dict[str, Callable[[], float]] = {
        name: partial(seconds_of, partial(predict, form)) for name, form in forms.items()
    }
    best = in_turns(calls | {"encode": partial(seconds_of, partial(encode, used))}, float, rounds, limit_s)
    return Predictions(
        seconds=best[""],
        encode_s=best["encode"],
        ratios={name: seconds / best[""] for name, seconds in best.items() if name not in ("", "encode")},
        bytes_moved=moved.n_bytes,
        peak_bytes=peak,
        raw=raw,
    )
