"""Faster forms of what a run computes: each has a switch, and computes the same as the plain form but for rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import PlanError
from registry.errors import unknown


@dataclass(frozen=True)
class FastPath:
    """A faster form of a part of a run.

    Attributes:
        summary: what is done in place of the plain form.
        default: True where a run uses it unless `--without` names it; others are used where `--with` names them.
    """

    summary: str
    default: bool = True


FAST_PATHS: dict[str, FastPath] = {
    "inference_form": FastPath("validation, test and latency with BatchNorm folded and LoRA merged"),
    "frozen_prefix": FastPath("layers below the lowest trained one without gradients and with BatchNorm folded"),
    "fused_optimizer": FastPath("AdamW as one kernel over all parameters"),
    "bfloat16": FastPath("bfloat16 where the device has it and a probe measures it to be faster"),
    "overlap": FastPath("post-processing and scoring in processes of their own, while the next image is predicted"),
    "compile": FastPath("torch.compile of the training step", default=False),
}
"""All fast paths by name. They are operational: none of them enters the id of a run, since none changes a result
beyond rounding; records name those that were used."""

DEFAULT = frozenset(name for name, path in FAST_PATHS.items() if path.default)


def choose(with_: Iterable[str] = (), without: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of the fast paths that are used.

    Args:
        with_: added to the default ones.
        without: taken from them; ``all`` takes every one.

    Raises:
        PlanError: an unknown name, or one that is both added and taken.
    """
    added, taken = list(with_), list(without)
    problems = [unknown("fast path", name, FAST_PATHS) for name in (*added, *taken) if name not in (*FAST_PATHS, "all")]
    problems += [
        f"fast path {name!r} is given to --with and to --without; give it once." for name in added if name in taken
    ]
    if problems:
        raise PlanError(list(dict.fromkeys(problems)))
    start = frozenset() if "all" in taken else frozenset(FAST_PATHS) if "all" in added else DEFAULT
    return (start | set(added)) - {*taken, "all"}


def split(texts: Sequence[str]) -> list[str]:
    """Return the names in texts with commas, as `--with` and `--without` take them."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]
