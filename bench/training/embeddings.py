"""Embeddings of a run's frozen encoder: out of the cache, or computed and cached."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bench.cache import entry
from bench.cache.store import Store, open_store
from bench.errors import AuditError
from bench.training import precision
from bench.training.augmentation import Augmentation
from bench.training.predictions import Encode
from bench.training.variants import Variant, pixels_digest, stained, tile_input, turned
from registry import backbones, inference_form
from registry.source_digest import source_digest

if TYPE_CHECKING:
    from bench.grid import Run
    from bench.training.context import RunContext
    from registry.sam import Sam

VERSION = 1
"""Of what this module, `variants`, `augmentation`, `data.recoloured` and `tiling` make of an image; a change of it
outdates all entries."""
TOLERANCES = {"float32": 2e-3, "bfloat16": 0.05}
"""Largest difference of a cached embedding and a fresh one, relative to the largest value. float16 rounds by up to
2^-11 = 5e-4 of it; the rest is for the kernels of another device or number of threads."""


@dataclass
class Embeddings:
    """Embeddings of the images of one run. What comes out is the same whether an entry was cached or not.

    Attributes:
        encoder: the model in the form that computes embeddings; a copy, in eval mode, that shares the weights.
        store: where they are kept.
        backbone, dataset: names under which they are kept.
        facts: all that they depend on besides the image and the variant.
        image_size, scale: as in `bench.grid.Run`.
        stain_strength: largest relative change of a stain's strength in the variants.
        augmentation: what else changes in the stain variants, as in `bench.settings.TrainSettings`.
        autocast: gives the context that the encoder runs in.
        dtype: in which the encoder computes, ``float32`` or ``bfloat16``.
        n_read, n_computed: entries that were read from the cache, and that had to be computed.
    """

    encoder: Sam
    store: Store
    backbone: str
    dataset: str
    facts: Mapping[str, Any]
    image_size: int
    scale: float | None
    stain_strength: float
    autocast: Callable[[], AbstractContextManager[Any]]
    dtype: str
    augmentation: Augmentation = "basic"
    n_read: int = 0
    n_computed: int = 0

    def read(self, digest: str, variant: Variant) -> Tensor | None:
        """Return the cached embedding (256, t, t) of a variant of an image on the CPU, or None."""
        return self.store.read(self._path(digest, variant), self.dtype)

    def compute(self, digest: str, variant: Variant, tile: Float[Tensor, "3 s s"]) -> Float[Tensor, "256 t t"]:
        """Encode a tile, cache its embedding, and return it as it is read from the cache.

        Tiles are encoded singly, so that an embedding does not depend on what else is missing.
        """
        values = self._encode(tile)
        if not bool(torch.isfinite(values).all()):
            return values.cpu()  # a run stops at these; nobody else is to get them
        kept = entry.rounded(values)
        self.store.write(self._path(digest, variant), kept)
        return entry.as_computed(kept, self.dtype)

    def of_pixels(self, pixels: UInt8[np.ndarray, "h w 3"], turn: int = 0) -> Encode:
        """Return a function that takes the tiles of a turned image, in reading order and in batches of any size.

        Args:
            pixels: the image as it is.
            turn: see `bench.training.variants.Variant`.
        """
        digest, next_tile = pixels_digest(pixels), 0

        def encode(tiles: Tensor) -> Tensor:
            nonlocal next_tile
            embeddings = []
            for tile in tiles:
                variant = Variant(turn=turn, tile=next_tile)
                embedding = self.read(digest, variant)
                self.n_read += embedding is not None
                self.n_computed += embedding is None
                embeddings.append(self.compute(digest, variant, tile) if embedding is None else embedding)
                next_tile += 1
            return torch.stack(embeddings).to(tiles.device)

        return encode

    def counts(self) -> dict[str, int]:
        """Return what a record says: how many embeddings were read, and how many had to be computed."""
        return {"embeddings_read": self.n_read, "embeddings_computed": self.n_computed}

    def count_also(self, counts: Mapping[str, Any]) -> None:
        """Add what `counts` returned for an earlier model of the same run."""
        self.n_read += counts.get("embeddings_read", 0)
        self.n_computed += counts.get("embeddings_computed", 0)

    def tile(self, pixels: UInt8[np.ndarray, "h w 3"], digest: str, variant: Variant) -> Float[Tensor, "3 s s"]:
        """Return the input of the encoder for a variant of an image."""
        options: dict[str, Any] = {"strength": self.stain_strength, "augmentation": self.augmentation}
        changed = stained(pixels, variant.stain, digest=digest, **options)
        return tile_input(turned(changed, variant.turn), variant.tile, image_size=self.image_size, scale=self.scale)

    def check(self, pixels: UInt8[np.ndarray, "h w 3"], sam: Sam) -> float:
        """Compare what the cache gives for an image with what the model itself computes now.

        Returns:
            The largest difference of the two embeddings.

        Raises:
            AuditError: the difference is larger than rounding, or the strategy trains the encoder.
        """
        if trained := [name for name, p in sam.image_encoder.named_parameters() if p.requires_grad]:
            raise AuditError(
                f"embeddings are cached, but {len(trained)} parameters of the encoder are trained, {trained[0]} among "
                "them. Register the strategy without freezes_encoder=True."
            )
        tile = tile_input(pixels, 0, image_size=self.image_size, scale=self.scale)[None].to(sam.pixel_mean.device)
        with torch.inference_mode(), self.autocast():
            fresh = sam.eval().encode(tile).float()
        cached = self.of_pixels(pixels)(tile).float()
        difference, largest = float((cached - fresh).abs().max()), float(fresh.abs().max())
        if not difference <= TOLERANCES[self.dtype] * largest:
            raise AuditError(
                f"the cached embedding of a training image differs by up to {difference:.3g} from a computed one, "
                f"whose largest value is {largest:.3g}. `bench cache clear {self.backbone}` removes the entries, and "
                "--set embeddings=computed does without them."
            )
        return difference

    def _encode(self, tile: Tensor) -> Tensor:
        with torch.no_grad(), self.autocast():  # no inference mode, whose tensors can't be used in training
            return self.encoder.encode(tile[None].to(self.encoder.pixel_mean.device))[0]

    def _path(self, digest: str, variant: Variant) -> Any:
        facts = {**self.facts, "image": digest, "turn": variant.turn, "stain": variant.stain, "tile": variant.tile}
        if variant.stain:
            facts["stain_strength"] = self.stain_strength
        if variant.stain and self.augmentation != "basic":
            facts["augmentation"] = self.augmentation
        return self.store.path(self.backbone, self.dataset, facts)


def of_run(run: Run, sam: Sam, context: RunContext) -> Embeddings | None:
    """Return the embeddings of a run that caches them; None for one that computes them.

    Args:
        run: the run.
        sam: its model before training, on its device.
        context: says whether the encoder's inference form computes them.
    """
    if run.embeddings != "cached":
        return None
    use_inference_form = "inference_form" in context.fast_paths
    device = sam.pixel_mean.device
    autocast = partial(precision.autocast, device, allowed="bfloat16" in context.fast_paths)
    form = inference_form.optimise if use_inference_form else inference_form.duplicate
    dtype = precision.name(autocast, device)
    scripts = [backbones.get(run.backbone).build, type(sam), *([form] if use_inference_form else [])]
    facts = {
        "version": VERSION,
        "weights": _weights_digest(sam),
        "code": source_digest(*scripts),
        "packages": _packages(sam),
        "form": "inference" if use_inference_form else "plain",
        "dtype": dtype,
        "image_size": run.image_size,
        "scale": run.scale,
    }
    return Embeddings(
        encoder=form(sam).eval(),
        store=open_store(),
        backbone=run.backbone,
        dataset=run.dataset,
        facts=facts,
        image_size=run.image_size,
        scale=run.scale,
        stain_strength=run.train.get("stain_jitter", 0.0),
        autocast=autocast,
        dtype=dtype,
        augmentation=run.train.get("augmentation", "basic"),
    )


def _weights_digest(sam: Sam) -> str:
    """Return the SHA-256 of everything that the encoder computes with: official, random or converted weights alike."""
    total = hashlib.sha256()
    values = {**sam.image_encoder.state_dict(), "pixel_mean": sam.pixel_mean, "pixel_std": sam.pixel_std}
    for name, value in sorted(values.items()):
        array = value.detach().cpu().contiguous()
        total.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        total.update(array.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def _packages(sam: Sam) -> dict[str, str]:
    """Return the versions of the libraries whose modules the encoder consists of, as far as they name one."""
    names = {type(module).__module__.partition(".")[0] for module in sam.image_encoder.modules()}
    # Not importlib.metadata, which takes seconds to find the distribution of a module.
    versions = {name: getattr(sys.modules[name], "__version__", None) for name in sorted(names)}
    return {name: version for name, version in versions.items() if version}
