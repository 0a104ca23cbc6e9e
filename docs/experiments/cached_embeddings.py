"""Does training on cached embeddings cost accuracy? The same training with computed and with cached embeddings.

Command:   bench weights fetch lite_medsam
           bench run --grid docs/experiments/cached_embeddings.py --data FOLDER --results results/cached_embeddings
           bench compare decoder_only,embeddings=cached decoder_only,embeddings=computed \
               --results results/cached_embeddings -o docs/cached_embeddings.md
Data:      the 23 images of NuInsSeg's human spleen, as a folder in NuInsSeg's layout; the official folds.
Jobs:      2 forms × 3 seeds × 5 folds of `decoder_only` on LiteMedSAM at 128 px: 30 runs of equally many steps. Only
           the last epoch is validated, and so kept: no choice between epochs blurs the comparison.
"""

from bench.grid import Grid, Settings, TrainSettings

GRID = Grid(
    name="cached_embeddings",
    backbones=("lite_medsam",),
    strategies=("decoder_only",),
    settings=Settings(
        dataset="nuinsseg",
        head="distance",
        weights="official",
        image_size=128,
        train=TrainSettings(epochs=30, batch_size=4, warmup_steps=20, validate_every=30, patience=0),
    ),
    sweep={"embeddings": ("cached", "computed"), "seed": (0, 1, 2)},
    classical=False,
)
