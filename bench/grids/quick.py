"""First look: LiteMedSAM with its pretrained weights beside a small random model, on synthetic images.

Command:   make quickstart, or: bench weights fetch lite_medsam; bench run --grid quick
Jobs:      2 backbones × `decoder_only` × 2 folds: 4 runs, and the classical pipeline on both folds. Strategies that
           train the encoder, and zero-shot, take more than the time below; `check` has them all, from random weights.
Duration:  under four minutes on two free CPU cores: a run of LiteMedSAM takes about 70 seconds of processor time.
Weights:   those of LiteMedSAM where they are here (39 MB); otherwise random ones, and `bench run` says so. `sam_nano`
           has none. The table names which row started from which.
Expected:  `decoder_only` on LiteMedSAM above the classical pipeline on PQ and AJI, random weights far below it. Images
           are painted, 12 in each fold: this says that the program works, and nothing about tissue.
"""

from bench.grid import FoldSettings, Grid, Settings, TrainSettings

GRID = Grid(
    name="quick",
    backbones=("lite_medsam", "sam_nano"),
    strategies=("decoder_only",),
    settings=Settings(
        dataset="synthetic",
        head="distance",
        weights="available",
        image_size=128,
        embeddings="cached",
        folds=FoldSettings(n_splits=2),
        # Not augmented, so that each image is encoded once: 200 steps of the decoder cost less than 10 of the encoder.
        train=TrainSettings(
            epochs=40, batch_size=2, lr=1e-3, warmup_steps=4, validate_every=40, augment=False, stain_variants=1
        ),
    ),
)
