"""Protocols of what is registered: backbones, strategies, heads and datasets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from registry.card import Card

if TYPE_CHECKING:
    from torch import Tensor, nn

    from registry.features import Features

LabelMap = Int[np.ndarray, "h w"]


@runtime_checkable
class Sam(Protocol):
    """A Segment Anything Model of any family; an `nn.Module` (see `registry.sam.Sam`, the one implementation).

    In the shapes s is the stride on the card.
    """

    card: Card
    image_size: int
    image_encoder: nn.Module
    prompt_encoder: nn.Module
    mask_decoder: nn.Module

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/s w/s"]: ...

    def features(
        self,
        images: Float[Tensor, "b 3 h w"],
        *,
        strides: Collection[int] | None = None,
        embeddings: Float[Tensor, "b 256 h/s w/s"] | None = None,
    ) -> Mapping[int, Tensor]: ...

    def decode(
        self,
        embeddings: Float[Tensor, "b 256 h/s w/s"] | Features,
        points: Float[Tensor, "n k 2"] | None = None,
        labels: Int[Tensor, "n k"] | None = None,
        boxes: Float[Tensor, "n 4"] | None = None,
    ) -> tuple[Float[Tensor, "n 4 4*h/s 4*w/s"], Float[Tensor, "n 4"]]: ...


@dataclass(frozen=True)
class Backbone:
    """A backbone as registered.

    Attributes:
        card: what is known without building it.
        build: ``image_size -> Sam`` with random weights in the model's own initialisation; imports torch inside.
        convert: official state dict to this project's names; None where they agree.
        restore: the inverse of `convert`, by which a fine-tuned model becomes an official file. Without it, and with a
            `convert`, the model is exported as an adapter only.
    """

    card: Card
    build: Callable[[int], Any]
    convert: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    restore: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Strategy:
    """A fine-tuning strategy as registered.

    Attributes:
        name: the name it is registered under.
        apply: ``(sam, *, tokens, **options) -> None``; changes `sam` in place, after which exactly the trainable
            parameters have ``requires_grad``. Keyword-only arguments other than `tokens` are its options:
            each has a type annotation and a default, and ``--set strategy.NAME=VALUE`` reaches it.
        summary: one line for `bench list`.
        source: the paper or repository the method is from.
        encoder_lr: peak learning rate of what the strategy adds or tunes in the image encoder, used where
            ``train.encoder_lr`` is not set; None for a strategy that trains nothing there. The rate of everything else
            is ``train.lr``, the same for all strategies.
        trains: False for a strategy that trains nothing.
        head: the head it must run with; None where the grid decides.
        neutral: for options that were added after runs had been done, the value that does what the strategy did
            before: ``{"dropout": 0.0}``. Runs with these values keep the ids that they had before.
        freezes_encoder: True where the image encoder stays as the backbone brings it, whatever the options, so that
            its embeddings may be cached.
        trains_encoder: True where every layer of the image encoder is trained, so that no frozen one is left whose
            weights could be kept in 8 or 4 bits.
    """

    name: str
    apply: Callable[..., None]
    summary: str
    source: str
    encoder_lr: float | None = None
    trains: bool = True
    head: str | None = None
    neutral: Mapping[str, Any] = field(default_factory=dict)
    freezes_encoder: bool = False
    trains_encoder: bool = False


class Head(Protocol):
    """Conversion of mask-token logits to an instance map, with the targets and the loss of its training.

    A head may have a method ``loss_terms(logits, targets)``: the terms of its loss by name (Latin letters, digits,
    underscores), with their weights, each of shape (b,). Training then minimises the mean over the batch of their sum,
    which is what `loss` must return, and the history of a run shows each term. It is no part of this Protocol, so that
    a head without it is one, too (see `registry.heads.loss_and_terms`).

    It may also have a method ``prepare(logits)``, which returns `instances` of one image as a function of the
    parameters: ``prepare(logits)(**parameters)`` equals ``instances(logits, **parameters)``. The search for parameters
    calls that function for every candidate, so that it can compute what they share once (see
    `registry.heads.prepared`).

    It may have a method ``attach(sam)``, which adds modules to the mask decoder of a plain model, in place, before a
    strategy is applied to it: they count as the decoder's, and every strategy that trains the decoder trains them.
    Such a head reads the logits of ``sam(images)``, or of ``sam.decode(sam.decoder_input(images))`` (see
    `registry.heads.attach`).

    And it may have an attribute `starts`: parameters (those that differ from the defaults) at which the search begins
    besides its defaults, one start for each way of working that its parameters offer (see `registry.heads.starts`).

    Attributes:
        name: the name it is registered under.
        summary: one line for `bench list`.
        channels: the mask tokens it reads, in the order of its channels: a run hands it ``logits[:, channels]``.
        dense: True: it reads prompt-less logits, can be trained, and `instances` takes logits; False: it prompts
            the model itself (`candidates`), can't be trained, and `instances` takes what `candidates` gave.
        defaults: post-processing parameters that `instances` uses unless others are given.
        search: candidate values of each such parameter that is chosen on the inner validation split (see
            `bench.training.search`).
    """

    # Properties, because a frozen dataclass does not fit a settable attribute.
    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def channels(self) -> tuple[int, ...]: ...
    @property
    def dense(self) -> bool: ...
    @property
    def defaults(self) -> Mapping[str, float]: ...
    @property
    def search(self) -> Mapping[str, tuple[float, ...]]: ...

    def targets(self, label_map: LabelMap) -> Float[np.ndarray, "c h w"]:
        """Return float32 in [0, 1]: the sigmoid of perfect logits."""
        ...

    def loss(self, logits: Float[Tensor, "b c h w"], targets: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Return the mean over the batch of each image's own loss, so that micro-batches add up to the full batch."""
        ...

    def instances(self, logits: Any, **parameters: float) -> LabelMap:
        """Return an int32 label map of the size of `logits`: (c, h, w), NumPy or torch, on any device."""
        ...


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, not read yet.

    Attributes:
        stem: file name without suffix; unique in the dataset; folds are assigned by it.
        organ: name of the organ folder.
        image_path: the RGB image.
        label_path: the label map.
        group: images of one group stay in one fold; the stem itself where the dataset knows no groups.
    """

    stem: str
    organ: str
    image_path: Path
    label_path: Path
    group: str


@dataclass(frozen=True)
class CheckReport:
    """Result of `Dataset.check`.

    Attributes:
        root: the folder; escaped where its name is not UTF-8, so that it can be shown.
        organs: per organ folder: number of complete samples, of nuclei, and of problems.
        problems: one sentence each, with the path and what to do; empty for a sound dataset.
        notes: harmless oddities (an RGBA image that is read as RGB, say).
        release: one sentence on whether these are the published images; empty for a dataset without a release.
    """

    root: Path
    organs: Mapping[str, Mapping[str, int]]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    release: str = ""


class Dataset(Protocol):
    """Images with instance labels on disk.

    A dataset may have an attribute `release` (a `registry.release.Release`): official folds, the command that gets
    the data, digests of the published images. It is no part of this Protocol, so that a dataset without it is one,
    too: `registry.datasets.release(dataset)` returns neutral facts then.

    Attributes:
        name: the name it is registered under.
        summary: one line for `bench list`.
        published_images: number of images in its release, for plans made before it is downloaded; None if that varies.
    """

    name: str
    summary: str
    published_images: int | None

    def samples(self, root: Path) -> tuple[Sample, ...]:
        """Return all samples, sorted by stem; raises `DataError` that lists every problem of the layout at once."""
        ...

    def read(self, sample: Sample) -> tuple[UInt8[np.ndarray, "h w 3"], LabelMap]:
        """Return the RGB image (uint8) and the label map (int32); raises `DataError` for anything else on disk."""
        ...

    def check(self, root: Path) -> CheckReport:
        """Read everything and report what is there, missing or broken; never raises `DataError`."""
        ...

    def prepare(self, root: Path) -> None:
        """Put the dataset below `root` if it isn't there: download it, or make it."""
        ...
