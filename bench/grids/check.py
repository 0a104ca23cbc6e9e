"""Check of an installation: every strategy on two light backbones, synthetic images, random weights.

Command:   bench run --grid check
Jobs:      2 backbones × 6 strategies × 2 folds: 24 runs, and the classical pipeline on both folds.
Duration:  three to four minutes on two free CPU cores. No download.
Expected:  random weights and a minute of training: the scores prove that the harness works, nothing more.
"""

from bench.grid import FoldSettings, Grid, Settings, TrainSettings

GRID = Grid(
    name="check",
    backbones=("sam_nano", "efficient_sam_ti"),
    strategies=("zero_shot", "decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"),
    settings=Settings(
        dataset="synthetic",
        head="distance",
        weights="random",
        image_size=256,
        folds=FoldSettings(n_splits=2),
        train=TrainSettings(epochs=4, batch_size=2, lr=1e-3, warmup_steps=4, validate_every=4),
    ),
)
