"""The published comparison: which strategy, on which SAM, segments NuInsSeg's nuclei best for its cost?

Command:   bench run --grid default
Jobs:      7 backbones × 5 training strategies × 5 folds, zero-shot on each backbone and fold: 210 runs,
           and the classical pipeline on the same folds.
Protocol:  the dataset authors' five folds, inner validation split for every choice, 1024 px input.
GPU-hours: about 60, estimated (FLOPs at a quarter of an A100's peak; `bench plan --grid default` shows the basis);
           not measured yet by this project. Each record of a finished run holds its own gpu_seconds.
"""

from bench.grid import Grid, Settings

GRID = Grid(
    name="default",
    backbones=("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "efficient_sam_ti", "efficient_sam_s", "tiny_sam"),
    strategies=("zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"),
    settings=Settings(dataset="nuinsseg", head="distance", weights="official", image_size=1024),
)
