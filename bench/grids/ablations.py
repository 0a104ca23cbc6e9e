"""Each setting changed alone: LiteMedSAM with its decoder or LoRA trained, on NuInsSeg in crops of 128 pixels.

Command:   bench run --grid ablations --data FOLDER --results R
           bench ablation --results R -o docs/ablations.md
Jobs:      the base and each change of it, 2 strategies, folds 1 and 2. A change that a strategy does not have is not
           run. More seeds make intervals tell of trainings, not of models: --set seed=0,1,2.
Base:      the plain recipe: head distance, no average of weights, no test-time augmentation, no second training.
           Embeddings of the frozen encoder are computed once and shared by all rows that read the same crops.
Rule:      `bench ablation` compares every row with the base on the same images; what is better by its intervals
           may become a default, and what is not is listed as well. Such a choice has seen the test images of folds 1
           and 2: scores of a recipe made of it are reported on other folds. Of so many changes, some exclude zero by
           chance.
Cached:    beside cached embeddings, `cellvit` blurs and recolours every second sample, always alike, and deforms none.
"""

from bench.grid import Grid, Settings, TrainSettings

GRID = Grid(
    name="ablations",
    backbones=("lite_medsam",),
    strategies=("decoder_only", "lora_qv"),
    folds=(1, 2),
    settings=Settings(
        dataset="nuinsseg",
        head="distance",
        weights="official",
        image_size=128,
        scale=1.0,
        embeddings="cached",
        train=TrainSettings(epochs=8, batch_size=8, warmup_steps=20, validate_every=2),
    ),
    changes=(
        {"head": "distance_hr"},
        {"predict.tta": True},
        {"predict.fill_holes": True},
        {"predict.search": "one_pass"},
        {"train.ema": 0.99},
        {"train.refit": True},
        {"train.augment": False},
        {"train.augmentation": "cellvit"},
        {"train.stain_variants": 4},
        {"train.choose_by": "searched_pq"},
        {"train.choose_by": "loss"},
        {"train.batchnorm": "settled"},
        {"train.encoder_lr": 3e-4},
        {"train.encoder_lr": 3e-3},
        {"scale": 2.0},
    ),
)
