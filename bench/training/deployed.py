"""Form of a model in which it predicts: for validation, test, latency and `bench predict`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.training import precision, predictions

if TYPE_CHECKING:
    from bench.training.precision import Autocast
    from registry.contract import Head
    from registry.sam import Sam


def deployed(sam: Sam, fast_paths: Collection[str], *, merge: bool = True) -> tuple[Sam, Autocast]:
    """Return a model in eval mode as it predicts, and the context of its forward passes.

    Args:
        sam: a model; its weights are those of now, so that the form is made again after they changed.
        fast_paths: with ``inference_form`` the model is a copy in inference form, see `Sam.optimise`; with
            ``bfloat16`` it computes in bfloat16 where that is faster, see `bench.training.precision`.
        merge: False leaves adapters beside their layers.
    """
    device = next(sam.parameters()).device
    context = precision.of_predictions(device, allowed="bfloat16" in fast_paths)
    return (sam.optimise(merge=merge) if "inference_form" in fast_paths else sam.eval()), context


def predictor(
    sam: Sam,
    head: Head,
    fast_paths: Collection[str],
    *,
    scale: float | None,
    embeddings: predictions.Embeddings | None = None,
    tta: bool = False,
) -> Callable[..., Any]:
    """Return a function of pixels: `bench.training.predictions.raw_prediction` of a model as it predicts."""
    form, context = deployed(sam, fast_paths)
    options: dict[str, Any] = {"scale": scale, "autocast": context, "embeddings": embeddings, "tta": tta}
    return partial(predictions.raw_prediction, form, head, **options)
