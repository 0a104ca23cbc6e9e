"""Segment Anything Model of all backbones: image encoder, prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from registry.card import Card
from registry.features import Early, EmbeddedImages, Features
from registry.modules.scaling import min_max


class Sam(nn.Module):
    """A Segment Anything Model of any family (Kirillov et al. 2023, arXiv:2304.02643).

    Args:
        card: of the backbone; its input scaling, mean and standard deviation normalise the images.
        image_size: side of the square input in pixels.
        image_encoder: normalised images to embeddings (b, 256, h/s, w/s), where s is the stride on the card.
        prompt_encoder: segment_anything's `PromptEncoder`, or a module with its interface.
        mask_decoder: segment_anything's `MaskDecoder`, or a module with its submodules.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    is_inference_form: bool = False

    def __init__(
        self,
        card: Card,
        image_size: int,
        *,
        image_encoder: nn.Module,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.card = card
        self.image_size = image_size
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        # Not persistent: the official checkpoints do not hold them.
        self.register_buffer("pixel_mean", torch.tensor(card.pixel_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(card.pixel_std).view(1, 3, 1, 1), persistent=False)

    def optimise(self, *, merge: bool = True) -> Sam:
        """Return a copy that computes the same faster, but for rounding, and is not for training or saving.

        See `registry.inference_form.optimise`.
        """
        from registry.inference_form import optimise

        return optimise(self, merge=merge)

    @property
    def branch(self) -> Any:
        """Return the decoder's high-resolution branch (`registry.modules.high_resolution`); None without one."""
        return getattr(self.mask_decoder, "high_resolution", None)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        """Return what `decode` does for images without prompts, whatever the decoder reads of them."""
        return self.decode(self.decoder_input(images))

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h/s w/s"]:
        """Return the embeddings of RGB images in [0, 1] whose sides are `image_size`; s is the stride on the card.

        With the card's scaling ``"min_max"`` padding counts as part of an image: it changes nothing where it lies
        between the image's darkest and brightest values, as the mean colour does; black does change the minimum.

        Raises:
            ValueError: images of another shape, or not floating point.
        """
        embeddings: Tensor = self.image_encoder(self.normalise(images))
        return embeddings

    def features(
        self,
        images: Float[Tensor, "b 3 h w"],
        *,
        strides: Collection[int] | None = None,
        embeddings: Float[Tensor, "b 256 h/s w/s"] | None = None,
    ) -> Features:
        """Return the feature maps of images by stride, of one forward pass; the last one is what `encode` returns.

        Args:
            images: as for `encode`.
            strides: of the early maps to return, besides the embedding; all that the card names by default.
            embeddings: of these images, computed before. Then no layer after the last early map is computed.

        Raises:
            ValueError: images as `encode` refuses them, a stride that the card does not name, or an encoder that a
                strategy has put in the place of the backbone's and that returns no early maps.
        """
        card, early = self.card, Early()
        wanted = sorted(set(card.early_features if strides is None else strides) - {card.stride})
        if unknown := [stride for stride in wanted if stride not in card.feature_widths]:
            raise ValueError(
                f"strides {unknown} were asked for; {card.name} has feature maps of strides {[*card.feature_widths]}."
            )
        encoder: Any = self.image_encoder
        if wanted and not hasattr(encoder, "early"):
            raise ValueError(
                f"the encoder is a {type(encoder).__name__} without a method `early` (see registry.modules.tiny_vit), "
                f"so that {card.name} has no maps of strides {wanted}; ask for the embedding alone, strides=()."
            )
        image = self.normalise(images)
        if embeddings is None:
            embeddings = encoder(image, early=early) if wanted else encoder(image)
        elif wanted:
            early = encoder.early(image, last=wanted[-1])
        return Features(image, {**{stride: early[stride] for stride in wanted}, card.stride: embeddings})

    def decoder_input(
        self, images: Float[Tensor, "b 3 h w"] | EmbeddedImages, *, embeddings: Tensor | None = None
    ) -> Tensor | Features:
        """Return what `decode` takes for images: their embeddings, and with a high-resolution branch what that reads.

        Args:
            images: as for `encode`, or with embeddings that were computed before.
            embeddings: the same, apart from the images.
        """
        if isinstance(images, EmbeddedImages):
            embeddings, images = images.embeddings, images.images
        if self.branch is not None:
            return self.features(images, strides=self.branch.strides, embeddings=embeddings)
        return self.encode(images) if embeddings is None else embeddings

    def normalise(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return images as the encoder takes them; raises what `encode` raises."""
        size = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(
                f"images have the shape {tuple(images.shape)}; {self.card.name} at image_size {size} takes "
                f"(b, 3, {size}, {size}). Resize the images, or build the backbone at their size."
            )
        if not images.is_floating_point():
            raise ValueError(
                f"images are {images.dtype}; allowed is floating point in [0, 1]. Divide 8-bit images by 255."
            )
        if self.card.input_scaling == "min_max":
            images = min_max(images)
        # Channels-last makes every convolution and patch embedding faster. Only the images: such weights would not be
        # contiguous, and safetensors refuses to save them.
        normalised = (images - self.pixel_mean) / self.pixel_std
        return normalised.contiguous(memory_format=torch.channels_last)

    def decode(
        self,
        embeddings: Float[Tensor, "b 256 h/s w/s"] | Features,
        points: Float[Tensor, "n k 2"] | None = None,
        labels: Int[Tensor, "n k"] | None = None,
        boxes: Float[Tensor, "n 4"] | None = None,
    ) -> tuple[Float[Tensor, "n 4 4*h/s 4*w/s"], Float[Tensor, "n 4"]]:
        """Return logits, four pixels per cell of the embedding, and predicted IoU of all four mask tokens.

        Without prompts every embedding is decoded once (n = b). With prompts, one embedding serves all n rows
        (b = 1), or each row has its own (b = n).

        The high-resolution branch of a model that has one (see `branch`) takes part where there is no prompt: it is
        trained without any.

        Args:
            embeddings: returned by `encode`, or by `features` or `decoder_input`, which a high-resolution branch needs.
            points: (x, y) in pixels of the model's input.
            labels: 1 foreground, 0 background, -1 padding; needed with, and only with, points.
            boxes: (x0, y0, x1, y1) in pixels of the model's input.

        Returns:
            Logits and IoU; token 0 is SAM's single mask, 1 to 3 its multi-masks.

        Raises:
            ValueError: shapes that do not fit one another or the model; embeddings alone for a high-resolution branch.
        """
        features, branch = embeddings, self.branch if points is None and boxes is None else None
        if isinstance(embeddings, Features):
            embeddings = embeddings.embedding
        elif branch is not None:
            raise ValueError(
                f"the decoder of {self.card.name} has a high-resolution branch, which reads the images too: give what "
                "sam.decoder_input(images) returns, or call sam(images)."
            )
        rows = self._check(embeddings, points, labels, boxes)
        # Coordinates of thousands of pixels and the sines of random frequencies need float32 mantissas.
        encoder: Any = self.prompt_encoder
        with torch.autocast(embeddings.device.type, enabled=False):
            labelled_points = None if points is None else (points.float(), labels)
            corners = None if boxes is None else boxes.float()
            sparse, dense = encoder(points=labelled_points, boxes=corners, masks=None)
            positions = encoder.get_dense_pe()
        # Without mask prompts all rows of `dense` are the same; adding its first row keeps a single embedding single.
        source, tokens = embeddings + dense[:1], sparse.expand(rows, -1, -1)
        return _predict(self.mask_decoder, source, positions, tokens, branch, features)

    def _check(self, embeddings: Tensor, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None) -> int:
        """Return the number of rows to decode; raises ValueError where shapes do not fit."""
        side = self.image_size // self.card.stride
        if embeddings.ndim != 4 or tuple(embeddings.shape[1:]) != (256, side, side):
            raise ValueError(
                f"embeddings have the shape {tuple(embeddings.shape)}; {self.card.name} at image_size "
                f"{self.image_size} takes (b, 256, {side}, {side}), as encode returns them."
            )
        if (points is None) != (labels is None):
            raise ValueError("points and labels go together: give both or neither.")
        rows = set()
        if points is not None and labels is not None:
            if points.ndim != 3 or points.shape[2] != 2 or labels.shape != points.shape[:2]:
                raise ValueError(
                    f"points have the shape {tuple(points.shape)} and labels {tuple(labels.shape)}; "
                    "allowed are (n, k, 2) and (n, k)."
                )
            rows.add(points.shape[0])
        if boxes is not None:
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise ValueError(f"boxes have the shape {tuple(boxes.shape)}; allowed is (n, 4).")
            rows.add(boxes.shape[0])
        batch = embeddings.shape[0]
        if not rows:
            return batch
        if len(rows) > 1:
            raise ValueError(f"points and boxes must have as many rows; they have {sorted(rows)}.")
        (n,) = rows
        if batch not in (1, n):
            raise ValueError(f"{n} rows of prompts do not fit {batch} embeddings; give one for all rows, or one each.")
        return n


def _predict(
    decoder: Any,
    source: Float[Tensor, "#n 256 h w"],
    positions: Float[Tensor, "1 256 h w"],
    sparse: Float[Tensor, "n k 256"],
    branch: Any,
    features: Any,
) -> tuple[Float[Tensor, "n 4 4*h 4*w"], Float[Tensor, "n 4"]]:
    """Return the masks and IoU of all mask tokens, computed by the parts of segment_anything's `MaskDecoder`.

    Its own `predict_masks` decodes every prompt on every image. Here prompts and images are matched by row, and a
    single embedding is broadcast: copies of it would only differ after the first attention from image to tokens.
    """
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
    states, source_tokens = decoder.transformer(source, positions, tokens)
    upscaled = decoder.output_upscaling(source_tokens.transpose(1, 2).unflatten(2, source.shape[-2:]))
    if branch is not None:
        upscaled = upscaled + branch(upscaled, features.image, [features[stride] for stride in branch.strides])
    weights = torch.stack([mlp(states[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return logits, decoder.iou_prediction_head(states[:, 0])
