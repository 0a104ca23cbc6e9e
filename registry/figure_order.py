"""Order in which shipped strategies and backbones were added, which fixes their colours and markers in figures.

Append only: a new name goes to the end, a name that is removed keeps its place. The order of `names()` was refused: it
follows the files' names, and a new file would give others another colour.
"""

from __future__ import annotations

STRATEGIES = ("zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full")
BACKBONES = (
    "sam_vit_b",
    "sam_vit_l",
    "sam_vit_h",
    "mobile_sam",
    "tiny_sam",
    "efficient_sam_ti",
    "efficient_sam_s",
    "sam_nano",
    "lite_medsam",
)
