"""Training from scratch on real stained tissue: MobileSAM's architecture from random weights, and the classical row.

Command:   bench run --grid dsb_he --data FOLDER
Images:    the stained tissue of the Data Science Bowl 2018 (CC0) in NuInsSeg's layout: 83 tiles of 256 × 320 pixels.
           Its manifest.csv names the area that each tile was cut from, and areas stay together in folds.
Jobs:      `full` on folds 1, 2 and 3, and the classical pipeline on the same folds: 6 runs.
Protocol:  crops of 256 pixels at the images' own scale; 40 epochs of 14 steps of 4 crops are 560 steps. The number was
           fixed before any test score was seen. Checkpoint and post-processing are chosen on a fifth of the training
           areas; test images are predicted in two overlapping tiles.
Duration:  about half an hour a run on two free CPU cores, estimated from 0.7 s a step, and not measured yet.
Table:     folds are left out, so that rows are marked † and not ranked; `bench compare` compares them in pairs.
Expected:  above the classical pipeline (PQ about 0.43, AJI 0.47) on each fold; a trial outside this program had
           0.50 and 0.56 after 800 steps. Most of the tissue shows no eosin: nothing here is about NuInsSeg.
"""

from bench.grid import Grid, Settings, TrainSettings

GRID = Grid(
    name="dsb_he",
    backbones=("mobile_sam",),
    strategies=("full",),
    folds=(1, 2, 3),
    settings=Settings(
        dataset="nuinsseg",
        head="distance",
        weights="random",
        image_size=256,
        scale=1.0,
        train=TrainSettings(epochs=40, batch_size=4, warmup_steps=50, validate_every=4),
    ),
)
