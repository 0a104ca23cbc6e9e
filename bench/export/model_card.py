"""Model card of an exported run in the format of the Hugging Face hub, from its record alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.export import card_text, code_blocks
from bench.export.escape import MISSING, markdown, plain
from bench.results.record import RunRecord
from bench.units import SCORE_TITLES
from registry import strategies
from registry.card import Card
from registry.loading import Recipe

SCORES = ("pq", "aji", "dice", "sq", "dq", "f1", "precision", "recall")
TITLES = {**SCORE_TITLES, "sq": "SQ", "dq": "DQ", "f1": "F1"}
METRICS = ("pq", "aji", "dice")
"""Scores of the card's metadata."""
TASK, TASK_TITLE = "image-segmentation", "Nucleus instance segmentation"
_SPDX = re.compile(r"[A-Za-z0-9.+-]{1,40}")


@dataclass(frozen=True)
class Contents:
    """Files of an exported folder, and how they are loaded.

    Attributes:
        files: name and meaning of each file but the card.
        merged: name of the merged checkpoint; None where there is none.
        has_adapter: PEFT loads an adapter of it.
        is_plain: the plain backbone takes all its tensors, so that it loads without the strategy's code.
    """

    files: Mapping[str, str]
    merged: str | None
    has_adapter: bool
    is_plain: bool


def write_card(record: RunRecord, card: Card, recipe: Recipe, contents: Contents) -> str:
    """Return the text of ``README.md``: metadata as YAML, then Markdown.

    Args:
        record: of the run; all its texts are escaped.
        card: of the backbone.
        recipe: of the model.
        contents: of the folder.
    """
    from huggingface_hub import ModelCard

    sections = (
        f"# {markdown(card.title)}, {markdown(recipe.strategy)}: nuclei in histological images",
        _summary(record, card, recipe),
        "## Files\n\n" + "\n".join(f"- `{name}`: {text}" for name, text in contents.files.items()),
        "## Use\n\n" + _use(card, recipe, contents),
        "## Scores\n\n" + _scores(record) + "\n\n" + card_text.protocol(record),
        "## Training data\n\n" + card_text.training_data(record),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in card_text.limits(record, card, recipe, contents.merged)),
        "## Training\n\n" + card_text.training(record),
        "## Licence and sources\n\n" + card_text.sources(card, recipe),
    )
    body = "\n\n".join(sections)
    metadata = _metadata(record, card, recipe, contents)
    return str(ModelCard(f"---\n{metadata}\n---\n\n{body}\n"))


def _metadata(record: RunRecord, card: Card, recipe: Recipe, contents: Contents) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    run, scores = record.run, record.scores or {}
    known = {name: scores[name] for name in METRICS if _is_number(scores.get(name))}
    results = [
        EvalResult(
            task_type=TASK,
            task_name=TASK_TITLE,
            dataset_type=card_text.dataset_type(record),
            dataset_name=plain(card_text.dataset_name(record)),
            dataset_split=f"test, fold {int(run['fold'])} of {int(run['n_splits'])}",
            dataset_revision=plain(run["dataset_digest"]),
            metric_type=name,
            metric_name=f"{TITLES[name]} (%)",
            metric_value=round(100 * float(value), 2),
            verified=False,
        )
        for name, value in known.items()
    ]
    is_spdx = bool(_SPDX.fullmatch(card.licence))
    tags = ["nuclei", "histopathology", "instance-segmentation", "segment-anything", "nuclei-bench"]
    tags += [plain(recipe.backbone), plain(recipe.strategy)]
    tags += ["lora"] * contents.has_adapter + ["random-weights"] * (recipe.weights == "random")
    data = ModelCardData(
        license=card.licence.lower() if is_spdx else "other",
        license_name=None if is_spdx else plain(card.licence),
        library_name="peft" if contents.has_adapter else "nuclei-bench",
        pipeline_tag=TASK,
        tags=tags,
        metrics=list(known) or None,
        model_name=f"{plain(recipe.backbone)}-{plain(recipe.strategy)}-{plain(record.id)}" if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _summary(record: RunRecord, card: Card, recipe: Recipe) -> str:
    cost, entry = record.cost or {}, strategies.get(recipe.strategy)
    weights = "**random weights: nothing was pre-trained**" if recipe.weights == "random" else "its official weights"
    trainable, total = cost.get("parameters_trainable"), cost.get("parameters_total")
    counts = f"{trainable:,} of {total:,} parameters were trained" if trainable and total else "trained parameters"
    in_encoder = cost.get("parameters_trainable_encoder")
    counts += f", {in_encoder:,} of them in the encoder" if isinstance(in_encoder, int) else ""
    return (
        f"{markdown(card.title)} with {weights}, fine-tuned by the strategy `{_code(recipe.strategy)}` "
        f"({markdown(entry.summary)}); {counts}. Run `{_code(record.id)}` of nuclei-bench."
    )


def _use(card: Card, recipe: Recipe, contents: Contents) -> str:
    blocks = ["With nuclei-bench installed, in this folder:", _python(code_blocks.segment(recipe))]
    if recipe.weights != "random":
        name = card.checkpoint.filename if card.checkpoint else ""
        blocks.append(
            f"It needs the official checkpoint `{_code(name)}` (`bench weights fetch {_code(card.name)}`), whose "
            f"sha256 is `{_code(recipe.checkpoint_digest)}`."
        )
    if contents.is_plain:
        what = "The adapter is a plain one: `peft` alone puts it" if contents.has_adapter else "All names are"
        where = " on the backbone, after the other trained tensors:" if contents.has_adapter else " the backbone's:"
        file = card.checkpoint.filename if card.checkpoint and recipe.weights != "random" else None
        blocks += [what + where, _python(code_blocks.plain(recipe, checkpoint=file, has_adapter=contents.has_adapter))]
    else:
        blocks.append(
            "The strategy or the head adds modules to the backbone, so its code is needed: `registry.load` builds them."
        )
    if contents.merged:
        blocks.append(card_text.merged(card, contents.merged))
    return "\n\n".join(blocks)


def _scores(record: RunRecord) -> str:
    scores = record.scores or {}
    validation = scores.get("validation") or {}
    rows = [
        (TITLES.get(name, name), _percent(scores.get(name)), _percent(validation.get(name)))
        for name in SCORES
        if _is_number(scores.get(name))
    ]
    return _table(("score, %", "test", "validation"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: Any) -> str:
    return f"{100 * float(value):.1f}" if _is_number(value) else MISSING


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _python(code: str) -> str:
    return f"```python\n{code}```"


def _code(value: Any) -> str:
    """Return a name for a code span, which ends at a backtick."""
    return plain(value).replace("`", "'")
