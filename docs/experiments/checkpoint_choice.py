"""By which score are the epochs of a training ranked best: PQ with default post-processing, searched PQ, or the loss?

One training per seed, with half of the training folds' images held out: half of these, by groups, are validated as
`train.choose_by` does in all its ways; the other half tell how good an epoch is, by their mean PQ with the
post-processing that the whole search chooses on the first half. It prints for each seed and way the rank correlation
with that PQ over the epochs, and over the second half of them (any score tells early epochs apart), the epoch that
would be kept, its PQ, and by how much it is below the best epoch's. "last" keeps the last epoch. The test fold is
never read.

Command:   python docs/experiments/checkpoint_choice.py FOLDER [--backbone lite_medsam --strategy decoder_only
           --weights FOLDER --cached --image-size 128] [--epochs 20] [--seeds 0,1,2] [--scores FILE]
Data:      a folder in NuInsSeg's layout.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr
from trainings import SCORES, Trained, parser, trained

from bench.training import evaluate, search
from registry import heads

Epoch = dict[str, float]
"""Scores of an epoch by each rule, the higher the better, and ``held_out``."""
RULES = ("pq", "searched_pq", "loss", "last")


def judged(epochs: list[Epoch], model: Trained, sam: Any, head: Any, images: Any, **options: Any) -> dict[str, float]:
    """Score an epoch by all rules on half of the images, and its PQ on the other half; keep both."""
    chosen_on, others = search.halves(images, seed=model.run.seed)
    searched = SCORES(sam, head, chosen_on, **{**options, "choose_by": "searched_pq"})
    by_loss = SCORES(sam, head, chosen_on, **{**options, "choose_by": "loss"})
    found = search.on_images((model.predict(image.pixels) for image in chosen_on), chosen_on, head)
    raw = (model.predict(image.pixels) for image in others)
    (held_out,) = evaluate.candidate_scores(raw, others, heads.get(model.run.head), [found.parameters])
    epoch = {
        "seed": model.run.seed,
        "epoch": len(epochs) + 1,
        "pq": searched["pq"],
        "searched_pq": searched["searched_pq"],
        "loss": -by_loss["validation_loss"],
        "last": len(epochs) + 1.0,
        "held_out": held_out["pq"],
    }
    epochs.append(epoch)
    print({name: round(value, 4) for name, value in epoch.items()}, file=sys.stderr, flush=True)
    return searched


def line(seed: str, rule: str, epochs: Sequence[Epoch]) -> str:
    """Return the row of one training and rule."""
    score, held_out = (np.array([epoch[name] for epoch in epochs]) for name in (rule, "held_out"))
    kept = max(range(len(epochs)), key=lambda number: (score[number], number))  # of equal scores the last, as the loop
    late = slice(len(epochs) // 2, None)
    cells = (
        seed,
        rule,
        *(f"{value:.3f}" for value in (spearmanr(score, held_out).statistic, kendalltau(score, held_out).statistic)),
        f"{kendalltau(score[late], held_out[late]).statistic:.3f}",
        f"{kept + 1}",
        f"{held_out[kept]:.4f}",
        f"{held_out.max() - held_out[kept]:.4f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    arguments = parser("Rank the epochs of a training by each way of choosing one.")
    arguments.add_argument("--scores", type=Path, help="also write the scores of all epochs to this CSV file")
    options = arguments.parse_args()
    print("| seed | chosen by | Spearman | Kendall | Kendall, second half | epoch kept | its held-out PQ | regret |")
    print("|---|---|---|---|---|---|---|---|")
    every: list[Epoch] = []
    for seed in options.seeds.split(","):
        epochs: list[Epoch] = []
        with trained(options, int(seed), validation_fraction=0.5, validate=partial(judged, epochs)):
            print("\n".join(line(seed, rule, epochs) for rule in RULES), flush=True)
        every += epochs
    if options.scores:
        with options.scores.open("w", newline="") as file:
            writer = csv.DictWriter(file, every[0].keys())
            writer.writeheader()
            writer.writerows(every)


if __name__ == "__main__":
    main()
