"""Settings of a grid's runs, by the names that `--set` takes. Plain data, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, Literal


def neutral(value: Any, default: Any = MISSING) -> Any:
    """Return the field of a setting that was added after runs had been done.

    A run whose setting has its neutral value keeps the id that it had before the setting existed; a run or a plan that
    was written then is read as if it had that value. Use it for new fields of `TrainSettings` and of `Run` (there
    without `default`: what new plans take is the business of `Settings`). A strategy declares its new options in
    ``registry.strategies.register(…, neutral={"dropout": 0.0})``.

    Args:
        value: what the program did before the setting existed.
        default: what new plans take where that is another value; their ids then differ from earlier ones.
    """
    return field(default=value if default is MISSING else default, metadata={"neutral": value})


def operational(default: Any) -> Any:
    """Return the field of a setting of `TrainSettings` that changes no result beyond rounding, and so no id."""
    return field(default=default, metadata={"operational": default})


@cache
def operational_values(settings: type) -> dict[str, Any]:
    """Return the default of each field of a dataclass that is operational."""
    return {
        member.name: member.metadata["operational"] for member in fields(settings) if "operational" in member.metadata
    }


@cache
def neutral_values(settings: type) -> dict[str, Any]:
    """Return the neutral value of each field of a dataclass that has one."""
    return {member.name: member.metadata["neutral"] for member in fields(settings) if "neutral" in member.metadata}


@dataclass(frozen=True)
class FoldSettings:
    """Settings of the split into folds.

    Attributes:
        n_splits: number of folds.
        seed: shuffling seed; 5 folds with seed 19 are the dataset authors' own.
        validation_fraction: share of the training folds' images held out (by groups) for every choice.
    """

    n_splits: int = 5
    seed: int = 19
    validation_fraction: float = 0.2


LARGEST_WEIGHT_DECAY = 1e-3
"""Largest ``train.weight_decay``. What is above it was meant as AdamW's factor, as in every run of version 0.1."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of training.

    Attributes:
        epochs: passes over the training images at most.
        batch_size: images in an optimiser step, whatever the micro-batch that fits the device.
        lr: peak learning rate of the mask decoder, the default prompt and the head's own modules, the same for every
            strategy. 5e-4 is what `decoder_only` was developed with: with batches of 4 and a few hundred steps, even
            random weights scored above the classical watershed (MedSAM used 1e-4 with large batches).
        encoder_lr: peak learning rate of what the strategy adds or tunes in the image encoder; None takes the
            strategy's own. In a run it is None where nothing of the encoder is trained; in runs of version 0.1 one
            rate, `lr`, served both.
        weight_decay: share of itself that a step at the peak of the schedule takes from each weight matrix, whatever
            its learning rate: 5e-5 is what AdamW's factor of 0.1 makes of a rate of 5e-4. In runs of version 0.1,
            AdamW's factor, which the rate multiplies.
        warmup_steps: optimiser steps of linear warm-up (at most a fifth of all steps).
        schedule: decay after the warm-up; ``polynomial`` has power 0.9, as in SAMed.
        clip_norm: the gradient's norm is clipped to this.
        validate_every: epochs between two validations.
        patience: validations without improvement after which training stops; 0 never stops early, so that the rate
            decays to zero and every strategy takes the same number of steps.
        validate_on: ``image`` scores these validations at the images' own resolution; ``output`` at that of the
            decoder's logits, if it is lower, which takes less time but may keep a slightly worse epoch. Post-processing
            is chosen, and the test scored, at the images' own resolution in any case.
        choose_by: what the best epoch is chosen by on the validation images. ``pq``: PQ with the head's default
            post-processing; ``searched_pq``: the highest PQ of a few choices of post-processing, one for each way of
            working that the head offers; ``loss``: the head's loss, of which the lowest is best.
        augment: dihedral, stain (HED) and scale augmentation.
        augmentation: ``cellvit`` adds blur, noise, zoom blur and elastic deformation, and doubles `stain_jitter`. With
            cached embeddings nothing is deformed, and blur and noise are part of the stain variants.
        stain_jitter: largest relative change of a stain's strength.
        scale_jitter: largest relative change of the magnification.
        stain_variants: with cached embeddings, the number of colourings of each image: itself, and others drawn once
            with `stain_jitter`. Turns and mirrors multiply it by eight; the magnification does not vary then.
        memory: ``checkpoint`` computes activations of the encoder's blocks again in the backward pass instead of
            keeping them; ``auto`` does so once not even a micro-batch of one image fits the device; ``full`` never.
            Enters no id.
        base_weights: ``int8`` and ``nf4`` keep the weights of the encoder's frozen linear layers in 8 or 4 bits, where
            bitsandbytes is installed; adapters are trained in full precision (QLoRA).
        batchnorm: running statistics of BatchNorm. ``frozen`` leaves them as the backbone brings them; ``settled``
            computes them once, from training images, before the first step; ``trained`` normalises by those of each
            batch, which is then never divided into micro-batches, and averages them. In all but ``trained``, what a
            step computes does not depend on the micro-batch. None takes ``trained`` for a strategy that trains the
            whole encoder from random weights, ``frozen`` otherwise.
        ema: decay per step of an exponential moving average of the trained parameters, with which the model is
            validated, tested and saved while training goes on with the parameters themselves; 0 has no average. In step
            n, from 0, the decay is at most (1 + n) / (10 + n), so that the initial parameters are soon forgotten.
        refit: once epoch and post-processing are chosen on the validation images, train anew on training and validation
            images together for the chosen number of epochs, and test that model: what is published of other models is
            trained on four folds. Nothing more is chosen, and about as much time is taken again.
        tune: number of encoder rates that are tried before the training, 0 for none (see `bench.planning.tuning`):
            short trainings on one fold, of which that with the best inner validation split gives its rate to all.
        tune_epochs: epochs of each of them; 0 takes a sixth of `epochs`, rounded up.
        tune_fold: ``first`` tries them once, on the first fold that holds images; ``own`` on every fold by itself.
    """

    epochs: int = 60
    batch_size: int = 8
    lr: float = 5e-4
    encoder_lr: float | None = neutral(None)
    weight_decay: float = 5e-5
    warmup_steps: int = 250
    schedule: Literal["cosine", "polynomial"] = "cosine"
    clip_norm: float = 1.0
    validate_every: int = 1
    patience: int = 0
    validate_on: Literal["image", "output"] = neutral("image")
    choose_by: Literal["pq", "searched_pq", "loss"] = neutral("pq")
    augment: bool = True
    augmentation: Literal["basic", "cellvit"] = neutral("basic")
    stain_jitter: float = 0.1
    scale_jitter: float = 0.2
    stain_variants: int = neutral(2)
    memory: Literal["auto", "full", "checkpoint"] = operational("auto")
    base_weights: Literal["full", "int8", "nf4"] = neutral("full")
    batchnorm: Literal["frozen", "settled", "trained"] | None = neutral("frozen", None)
    ema: float = neutral(0.0)
    refit: bool = neutral(False)
    tune: int = neutral(0)
    tune_epochs: int = neutral(0)
    tune_fold: Literal["first", "own"] = neutral("first")


@dataclass(frozen=True)
class PredictSettings:
    """Settings of predictions, from the choice of post-processing on; validation during training is without them.

    Attributes:
        tta: test-time augmentation: the mean logits of an image in its eight orientations. It takes eight times as
            long, in `bench predict` too. Heads that prompt the model have no logits, and predict as always.
        fill_holes: background that one instance encloses becomes part of it; of heads that have this parameter.
        search: search for post-processing parameters. ``starts`` follows several starts until no single parameter
            improves them, on half of the validation groups, and reports the scores on the other half; ``one_pass``
            tries the parameters once, one after the other from the defaults, on all validation images, as version 0.1
            did with fewer parameters.
    """

    tta: bool = False
    fill_holes: bool = False
    search: Literal["starts", "one_pass"] = "starts"


@dataclass(frozen=True)
class Settings:
    """Settings that `--set KEY=VALUE` changes, by these names.

    Attributes:
        dataset: a registered dataset.
        head: a registered head, for every strategy that does not bring its own.
        weights: ``official`` checkpoints or ``random`` ones; ``available`` plans official ones for the backbones whose
            file is here, and random ones for the others. A run holds what it starts from.
        image_size: side of the model's square input in pixels, a multiple of what the backbone's card says.
        scale: input pixels per image pixel; larger images are cut into overlapping tiles, smaller ones padded.
            None fits each whole image into one input.
        seed: of initialisation, data order and augmentation.
        embeddings: ``cached`` computes the embeddings of a frozen encoder once and keeps them on disk, which leaves
            a fixed number of augmented variants of each image; strategies that train the encoder compute them always.
        folds: see `FoldSettings`.
        train: see `TrainSettings`.
        predict: see `PredictSettings`.
        strategy: options of the strategies, e.g. ``{"rank": 8}``; each takes those that it has.
    """

    dataset: str = "nuinsseg"
    head: str = "distance"
    weights: Literal["official", "random", "available"] = "official"
    image_size: int = 1024
    scale: float | None = None
    seed: int = 0
    embeddings: Literal["computed", "cached"] = "computed"
    folds: FoldSettings = field(default_factory=FoldSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    strategy: Mapping[str, Any] = field(default_factory=dict)
