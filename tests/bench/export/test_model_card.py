"""Model card of an exported run: metadata in the hub's format, scores with protocol, data, limits, safe text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricated
import pytest
import yaml
from exported_run import provenance
from huggingface_hub import EvalResult, ModelCard
from planned_run import RUN

from bench.export.escape import markdown
from bench.export.model_card import Contents, write_card
from bench.grid import Run
from bench.results.record import RunRecord
from registry import backbones
from registry.card import Card
from registry.loading import Recipe

CONTENTS = Contents(files={"model.json": "settings"}, merged=None, has_adapter=True, is_plain=True)
HOSTILE = (
    "<script>alert(1)</script> a|b_c*d `e` [x](http://evil.example) ![y](z) & 100 % \n# heading\n--- ünï 試 \x1b[31m"
)


def record_of(run: Run = RUN, **blocks: Any) -> RunRecord:
    values = fabricated.record(
        run.as_dict(), 0.81, 0.62, 0.533, cost={"parameters_trainable": 1_000, "parameters_total": 5_000}
    )
    changed = {"id": run.id, "provenance": provenance(), **blocks}
    return replace(values, **changed)  # type: ignore[arg-type]


def recipe_of(run: Run = RUN, **changes: Any) -> Recipe:
    values = {name: getattr(run, name) for name in ("backbone", "strategy", "head", "options", "image_size", "scale")}
    values |= {"weights": run.weights, "seed": run.seed, "tokens": (1, 2, 3), "checkpoint_digest": None}
    return Recipe(**{**values, "post_processing": {"seed": 0.3}, **changes})


def card_text(run: Run = RUN, *, card: Card | None = None, contents: Contents = CONTENTS, **blocks: Any) -> str:
    return write_card(record_of(run, **blocks), card or backbones.card(run.backbone), recipe_of(run), contents)


def test_the_metadata_is_that_of_the_hub() -> None:
    data = ModelCard(card_text()).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "peft", "image-segmentation")
    assert data.metrics == ["pq", "aji", "dice"]
    assert {"nuclei", "segment-anything", "sam_nano", "lora_qv", "lora", "random-weights"} <= set(data.tags or [])
    results = data.eval_results
    assert results is not None
    assert [(each.metric_type, each.metric_value) for each in results] == [("pq", 53.3), ("aji", 62.0), ("dice", 81.0)]
    first: EvalResult = results[0]
    assert (first.dataset_name, first.dataset_type, first.dataset_split) == (
        "my_images",
        "my_images",
        "test, fold 1 of 5",
    )
    assert first.verified is False


def test_scores_stand_with_their_protocol() -> None:
    text = card_text()
    assert "| PQ | 53.3 | 53.3 |" in text and "| Dice | 81.0 | – |" in text
    assert (
        "Test: 133 images with 6,000 nuclei of fold 1 of 5 (seed 19) of my\\_images, which the training never" in text
    )
    assert f"`bench status {RUN.id}` shows those of each epoch, before the choice." in text
    assert "the mean over folds stands in the leaderboard of nuclei-bench" in text


def test_the_data_that_it_has_seen_is_named() -> None:
    text = card_text(replace(RUN, fold=3, n_splits=4))
    assert "- images: my\\_images: 24 images, no published release, in the layout of synthetic" in text
    assert "- seen in training: folds 1, 2, 4 of 4, about 20% of the images as validation part" in text
    assert "- never seen: fold 3" in text
    assert f"`{'ab' * 32}`" in text


def test_a_second_training_on_the_validation_images_is_said() -> None:
    text = card_text(cost={"refit_epochs": 7})
    assert "trained again on training and validation images together, up to the chosen epoch (7)" in text
    assert "about 20% of the images as validation part, on which it was trained in the end" in text
    assert "trained again" not in card_text() and "in the end" not in card_text()


def test_the_release_of_a_dataset_is_called_so() -> None:
    data = {"root": "/x/other", "n_images": 665, "official": True, "verified": "all 665 names are the release's."}
    text = card_text(replace(RUN, dataset="nuinsseg", weights="official"), provenance=provenance(dataset=data))
    assert "- images: nuinsseg: 665 images, the published release of nuinsseg" in text
    assert "The comparison of the images with the published release: all 665 names are the release's. This" in text
    assert [each.dataset_type for each in ModelCard(text).data.eval_results or []] == ["nuinsseg"] * 3
    assert "synthetic images" not in text


def test_random_weights_are_called_random() -> None:
    text = card_text()
    assert "SAM nano with **random weights: nothing was pre-trained**" in text
    assert "The backbone's weights were **random** (seed 0): the scores say nothing of SAM nano." in text
    assert "another version of torch than 2.9.0 may make others" in text
    assert "trained and tested on synthetic images: its scores say nothing of tissue." in text


def test_official_weights_are_named_with_their_digest_and_licence() -> None:
    run = replace(RUN, backbone="mobile_sam", weights="official")
    text = write_card(
        record_of(run), backbones.card("mobile_sam"), recipe_of(run, checkpoint_digest="cd" * 32), CONTENTS
    )
    assert "MobileSAM with its official weights" in text and "random" not in text
    assert (
        f"official checkpoint `mobile_sam.pt` (`bench weights fetch mobile_sam`), whose sha256 is `{'cd' * 32}`" in text
    )
    assert 'sam = backbones.build("mobile_sam", 64, checkpoint="mobile_sam.pt")' in text
    assert (
        "- The base weights, and code, of MobileSAM: Apache-2.0; <https://github.com/ChaoningZhang/MobileSAM>" in text
    )


def test_the_limits_of_a_merged_checkpoint_are_said() -> None:
    text = card_text(contents=replace(CONTENTS, merged="sam_nano_merged.pth"))
    assert "`sam_nano_merged.pth` predicts for inputs of 64 pixels what this model does" in text
    assert "Mask tokens 1, 2, 3 hold the channels of the head distance" in text
    assert "the trained part merged into its layers" in text


def test_plug_ins_are_named_without_their_folders() -> None:
    text = card_text(provenance=provenance(plugins={"/home/somebody/my_methods/lora_x.py": "ab"}))
    assert "Code of its own is needed and not in this folder: lora\\_x.py; import it before" in text


def test_no_path_of_the_machine_stands_in_the_card() -> None:
    assert "/home" not in card_text() and "somebody" not in card_text()


@pytest.mark.parametrize("value", [None, float("nan")])
def test_scores_that_are_missing_are_not_shown(value: float | None) -> None:
    scores = {"pq": value, "aji": 0.5, "n_images": 3, "post_processing": {}, "validation": {"aji": value}}
    text = card_text(scores=scores)
    assert [each.metric_type for each in ModelCard(text).data.eval_results or []] == ["aji"]
    assert "| PQ |" not in text and "| AJI | 50.0 | – |" in text and not re.search(r"\bnan\b", text)


def test_a_record_with_little_in_it_has_a_card() -> None:
    text = card_text(scores=None, cost=None, provenance=None)
    assert ModelCard(text).data.eval_results is None
    assert "Software: –; commit –." in text


# --- texts that are not to be trusted ---------------------------------------------------------------------------


def test_hostile_texts_are_shown_as_they_are() -> None:
    run = replace(RUN, options={HOSTILE: HOSTILE}, dataset=HOSTILE, dataset_digest=HOSTILE)
    data = {"root": f"/data/{HOSTILE}", "n_images": 3, "official": False, "verified": HOSTILE}
    origin = provenance(
        dataset=data, commit=HOSTILE, folds_digest=HOSTILE, versions={"torch": HOSTILE}, plugins={HOSTILE: ""}
    )
    card = replace(
        backbones.card("sam_nano"), title=HOSTILE, licence=HOSTILE, paper=HOSTILE, note=HOSTILE, repository=HOSTILE
    )
    text = card_text(run, card=card, provenance=origin)
    head, body = text.split("---\n", 2)[1:]
    values = yaml.safe_load(head)
    assert values["license"] == "other" and values["license_name"].startswith("<script>alert(1)</script> a|b")
    outside = re.sub(r"```python\n.*?```", "", body, flags=re.DOTALL)
    assert "<script" not in outside and "http://" not in outside and "](" not in outside.replace("\\](", "")
    assert "\x1b" not in text and "\n# heading" not in text and "\n---" not in body
    for line in outside.splitlines():
        if line.startswith("| strategy."):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "ünï 試" in outside


def test_a_name_in_code_stays_a_string() -> None:
    run = replace(RUN, head="distance")
    recipe = recipe_of(run, head='distance")\nimport os  # ```')
    code = re.findall(r"```python\n(.*?)\n```", _code_only(recipe), re.DOTALL)[0]
    assert compile(code, "card", "exec")
    assert 'registry.heads.get("distance\\")\\nimport os  # ```")' in code


def _code_only(recipe: Recipe) -> str:
    from bench.export import code_blocks

    return f"```python\n{code_blocks.segment(recipe)}```"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "–"),
        ("a_b|c", "a\\_b\\|c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("two\nlines", "two lines"),
        ("see http://x", "see http&#58;//x"),
        ("\x1b[0m", "�\\[0m"),
        ("\udcff", "\\\\udcff"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str | None, shown: str) -> None:
    assert markdown(text) == shown


def test_the_same_record_gives_the_same_card(tmp_path: Path) -> None:
    assert card_text() == card_text()
    ModelCard(card_text()).save(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card_text()
