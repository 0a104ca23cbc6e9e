"""Worth of pre-training, of each strategy and of the high-resolution branch: LiteMedSAM on NuInsSeg's human spleen.

Command:   bench weights fetch lite_medsam
           bench run --grid spleen --data FOLDER
Images:    human spleen of NuInsSeg in its official folds; the folder may hold a part of them.
Jobs:      5 strategies × 2 heads × official and random weights × 3 seeds × folds 1 and 2: 120 runs, and the classical
           pipeline on both folds. Parts of it, the most telling first:
             bench run --grid spleen --data FOLDER --set weights=official --set seed=0
             bench run --grid spleen --data FOLDER --set weights=official
             bench run --grid spleen --data FOLDER --set head=distance_hr
Protocol:  crops of 128 pixels at the images' own scale, so that the decoder's logits have their resolution; test images
           are predicted in 25 overlapping tiles. 6 epochs of 4 crops a step, 312 and 336 steps on the 23 images of
           folds 1 to 4, for every strategy. Epochs, folds and seeds were fixed before any test score was seen.
Duration:  on two free CPU cores about 8 minutes a run of `decoder_only`, 15 of LoRA and the adapter, 22 of `full`:
           30 hours for all. Estimated from the seconds of single steps, and not measured yet.
Table:     folds are left out, so that rows are marked † and not ranked; `bench compare` compares them in pairs.
Expected:  pretrained rows above the classical pipeline on PQ and AJI (a trial of `decoder_only`: PQ .32, AJI .39;
           with an image stem: .37 and .41), rows of random weights below it. LiteMedSAM may have seen these images:
           its rows are marked, and not ranked beside models that have not.
"""

from bench.grid import Grid, Settings, TrainSettings

GRID = Grid(
    name="spleen",
    backbones=("lite_medsam",),
    strategies=("decoder_only", "lora_qv", "lora_all_linear", "adapter", "full"),
    folds=(1, 2),
    settings=Settings(
        dataset="nuinsseg",
        image_size=128,
        scale=1.0,
        embeddings="cached",
        train=TrainSettings(epochs=6, batch_size=4, warmup_steps=20, validate_every=2),
    ),
    sweep={"weights": ("official", "random"), "head": ("distance", "distance_hr"), "seed": (0, 1, 2)},
)
