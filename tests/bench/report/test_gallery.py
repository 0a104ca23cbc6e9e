"""Galleries: which images are shown, what stands beside them, outlines, and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import galleries
import numpy as np
import pytest
from galleries import image, nothing, perfect, with_errors
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import BenchError
from bench.report import gallery
from bench.report.canvas import SMALLEST, save
from bench.report.gallery_choice import GalleryRow, Prediction
from bench.report.gallery_outlines import COLOURS, by_category, outlines, reduced
from bench.report.gallery_text import packed, text_width, wrapped
from bench.report.kept import KeptImage

HOSTILE = "<script>$x_1$ & 50% | Ünïcödé 核"
FOLDS = [
    [image("a"), image("b", shape=(30, 90)), image("c", n=0), image("d")],
    [image("e", shape=(90, 30), organ="brain"), image(HOSTILE), image("g" * 200), image("h")],
]
A, B = "mobile_sam/lora_qv", "tiny_sam/full"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two methods on two folds, and one whose rank was swept."""
    folder = tmp_path_factory.mktemp("results")
    by_stem = {one.stem: with_errors for fold in FOLDS for one in fold} | {"a": perfect, "h": nothing}
    galleries.add(folder, "mobile_sam", "lora_qv", FOLDS, by_stem, n_first=0)
    galleries.add(folder, "tiny_sam", "full", FOLDS, perfect, n_first=2)
    for rank in (1, 8):
        galleries.add(folder, "sam_vit_b", "lora_qv", FOLDS, perfect, n_first=None, options={"rank": rank})
    galleries.add(folder, "sam_vit_h", "adapter", [[image("z")], [image("y")]], perfect, dataset_digest="fedcba987654")
    return folder


def drawn(results: Path, *names: str, stems: Sequence[str] = (), columns: int = 2) -> Figure:
    ((part, figure),) = gallery.figures(results, names, stems=stems, columns=columns)
    assert part.startswith("images_0123456789ab_2-folds")
    return figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_best_median_and_worst_of_the_first_method_are_shown_with_their_rank(results):
    shown = texts(drawn(results, A))
    assert [text for text in shown if text.startswith(("best", "median", "worst"))] == [
        "best of 6 kept",
        "median of 6 kept",
        "worst of 6 kept",
    ]
    assert [text for text in shown if text in ("a", "d", "h")] == ["a", "d", "h"]
    ranks = [text for text in shown if text.startswith("PQ rank")]
    assert ranks == ["PQ rank 1 of 8", "PQ rank 4 of 8", "PQ rank 8 of 8"]
    assert [text[:8] for text in shown if text.startswith("PQ") and "rank" not in text] == [
        "PQ 100.0",
        "PQ 51.7 ",
        "PQ 0.0  ",
    ]


def test_only_images_that_all_methods_kept_are_shown(results):
    shown = texts(drawn(results, A, B))
    assert [text for text in shown if text.endswith("kept")] == [
        "best of 4 kept",
        "median of 4 kept",
        "worst of 4 kept",
    ]
    assert "The rank is by PQ among all test images of mobile_sam/lora_qv." in " ".join(shown)


def test_named_images_are_shown_in_their_order_with_scores_and_errors(results):
    figure = drawn(results, A, stems=["e", "a"])
    shown = texts(figure)
    assert shown.index("e") < shown.index("a")
    assert "brain, fold 2" in shown and "liver, fold 1" in shown
    below = shown[shown.index("a") :]
    assert "PQ 100.0  AJI 100.0  Dice 100.0" in below and "0 missed, 0 spurious, 0 merged, 0 split" in below
    assert len(figure.axes) == 6


def test_names_of_any_length_and_characters_are_shown_as_they_are(results):
    shown = texts(drawn(results, "sam_vit_b/lora_qv,strategy.rank=8", stems=[HOSTILE, "g" * 200]))
    assert "<script>$x_1$ & 50% | Ünïcödé [U+6838]" in " ".join(shown)
    assert any(text.startswith("ggg") and text.endswith("…") for text in shown)
    assert "strategy.rank=8" in shown


def test_outlines_have_the_colour_of_what_became_of_the_nucleus(results):
    axes = drawn(results, A, stems=["d"]).axes
    colours = {to_hex(part.get_color()[0]) for part in axes[2].collections if isinstance(part, LineCollection)}
    assert {COLOURS[name][0] for name in ("missed", "split", "merged", "spurious")} <= colours
    assert not axes[0].collections and {to_hex(p.get_color()[0]) for p in axes[1].collections} == {"#ffffff", "#202020"}


def test_image_without_nuclei_and_without_predictions_has_no_outlines(results):
    figure = drawn(results, "sam_vit_b/lora_qv,strategy.rank=8", stems=["c"])
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 0]
    assert "0 nuclei" in texts(figure)


def test_the_same_records_give_the_same_bytes(results, tmp_path):
    figures = [drawn(results, A, stems=["d"], columns=1) for _ in range(2)]
    for suffix in (".png", ".svg", ".pdf"):
        first, second = (save(figure, tmp_path / f"a{suffix}").read_bytes() for figure in figures)
        assert first == second and len(first) > 1_000, suffix


@pytest.mark.parametrize(("n_methods", "columns"), [(1, 1), (2, 1), (6, 2)])
def test_cells_and_texts_do_not_leave_their_columns(n_methods, columns):
    one = image("a" * 80, shape=(40, 40))
    row = GalleryRow(
        KeptImage(one.stem, one.pixels, one.label_map),
        ("worst of 100 kept", one.stem, "human cerebellum of the brain, fold 5", "PQ rank 133 of 133"),
        tuple(Prediction(with_errors(one), {"pq": 1.0, "aji": 1.0, "dice": 1.0}) for _ in range(n_methods)),
    )
    names = [f"efficient_sam_ti{i}/lora_all_linear,strategy.rank=16" for i in range(n_methods)]
    figure = gallery.draw([row, row], names, columns=columns)
    figure.canvas.draw()
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    assert not any(a.overlaps(b) and a.x0 != b.x0 for i, a in enumerate(boxes) for b in boxes[:i])
    cells = [axes.get_window_extent() for axes in figure.axes]
    assert len(cells) == 2 * (n_methods + 2)
    assert not any(a.overlaps(b) for i, a in enumerate(cells) for b in cells[:i])
    assert not any(cell.overlaps(box) for cell in cells for box in boxes)


def test_missing_score_is_a_dash():
    one = image("a")
    row = GalleryRow(KeptImage("a", one.pixels, one.label_map), ("a",), (Prediction(perfect(one), {"pq": 0.5}),))
    assert "PQ 50.0  AJI –  Dice –" in texts(gallery.draw([row], ["x/y"]))


def test_an_older_result_says_that_images_were_not_kept_and_what_to_do(results, tmp_path):
    galleries.add(tmp_path, "mobile_sam", "full", FOLDS, perfect)
    for path in sorted((tmp_path / "images").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(
        BenchError, match=r"were kept, but not the images: an earlier version .* --keep-predictions all"
    ):
        gallery.figures(tmp_path, ["mobile_sam/full"])
    with pytest.raises(BenchError, match=r"the image a can't be shown: its pixels were not kept\."):
        gallery.figures(tmp_path, ["mobile_sam/full"], stems=["a"])


def test_methods_without_a_common_image_say_how_many_each_has(tmp_path):
    galleries.add(tmp_path, "mobile_sam", "full", FOLDS, perfect, n_first=0)
    ids = galleries.add(tmp_path, "tiny_sam", "full", FOLDS, perfect, n_first=0)
    for run_id in ids:
        for path in (tmp_path / "runs" / run_id / "predictions").iterdir():
            path.unlink()
    with pytest.raises(BenchError) as caught:
        gallery.figures(tmp_path, ["mobile_sam/full", "tiny_sam/full"])
    assert "no test image whose prediction all of these kept: mobile_sam/full has 6, tiny_sam/full has 0." in str(
        caught.value
    )
    assert "`bench run … --keep-predictions all --results DIR`" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "stems", "columns", "message"),
    [
        (["mobile_sam/lora_qw"], (), 2, "unknown row, strategy or backbone 'mobile_sam/lora_qw'. Did you mean"),
        (
            ["lora_qv"],
            (),
            2,
            "'lora_qv' stands for 2 rows, and a column of a gallery is one; choose one of mobile_sam/",
        ),
        (
            ["sam_vit_b/lora_qv"],
            (),
            2,
            "choose one of sam_vit_b/lora_qv,strategy.rank=1, sam_vit_b/lora_qv,strategy.ra",
        ),
        (
            [A, "sam_vit_h/adapter"],
            (),
            2,
            "these methods have no runs on the same images and folds. mobile_sam/lora_qv",
        ),
        ([A, A], (), 2, "'mobile_sam/lora_qv' is given twice"),
        ([A], ["aa"], 2, "unknown test image 'aa'"),
        ([A], ["b"], 2, "the image b can't be shown: mobile_sam/lora_qv did not keep its prediction. Runs keep"),
        ([A, B, "x"], (), 1, "a gallery of 1 column takes 1 to 2 methods, not 3; --columns 2 takes six."),
        ([A] * 7, (), 2, "a gallery of 2 columns takes 1 to 6 methods, not 7."),
        ([A], ["a"] * 13, 2, "a gallery takes at most 12 images, not 13"),
        ([A], (), 3, "not of 3."),
    ],
)
def test_what_can_not_be_drawn_says_why(results, names, stems, columns, message):
    with pytest.raises(BenchError) as caught:
        gallery.figures(results, names, stems=stems, columns=columns)
    assert message in str(caught.value)


def test_no_records_and_no_rows_say_what_to_do(tmp_path):
    with pytest.raises(BenchError, match="no records below"):
        gallery.figures(tmp_path, [A])
    with pytest.raises(BenchError, match="at least one image"):
        gallery.draw([], [A])


def test_the_lowest_seed_of_all_is_shown_and_named(tmp_path):
    folds = [[image("a")], [image("b")]]
    for seed in (1, 2):
        galleries.add(tmp_path, "mobile_sam", "lora_qv", folds, perfect if seed == 1 else nothing, seed=seed)
    galleries.add(tmp_path, "tiny_sam", "full", folds, perfect, seed=2)
    for names, seed, score in (
        ([A], "Seed 1;", "PQ 100.0"),
        ([A, B], "Seed 2;", "PQ 0.0"),
        ([f"{A},seed=2"], "", "PQ 0.0"),
    ):
        ((_, figure),) = gallery.figures(tmp_path, names, stems=["a"])
        shown = " ".join(texts(figure))
        assert score in shown and (f"{seed} add ,seed=N to a name for another." in shown) == bool(seed), names


def test_the_command_writes_a_file_and_refuses_other_figures_options(results, tmp_path):
    path = tmp_path / "g.svg"
    done = CliRunner().invoke(app, ["plot", "--results", str(results), "--gallery", A, "--image", "d", "-o", str(path)])
    assert done.exit_code == 0 and done.output.strip() == str(path)
    assert path.read_text().startswith("<?xml")
    refused = CliRunner().invoke(app, ["plot", "--results", str(results), "--gallery", A, "--x", "latency"])
    assert "--gallery is a figure of its own" in str(refused.exception)
    refused = CliRunner().invoke(app, ["plot", "--results", str(results), "--image", "d"])
    assert "add its columns with --gallery" in str(refused.exception)


def test_outline_of_a_square_by_hand():
    label_map = np.zeros((6, 6), int)
    label_map[2:4, 2:5] = 7
    ((line,),) = outlines(label_map).values()
    assert (line.min(axis=0) == [1.5, 1.5]).all() and (line.max(axis=0) == [4.5, 3.5]).all()
    assert (line[0] == line[-1]).all()


def test_outline_at_the_border_of_the_image_is_open_and_ends_outside():
    label_map = np.zeros((4, 4), int)
    label_map[:2, :2] = 1
    ((line,),) = outlines(label_map).values()
    assert (line[0] != line[-1]).any() and line.min() == -1 and line.max() == 1.5


def test_pieces_and_holes_of_a_label_have_outlines_of_their_own():
    label_map = np.zeros((9, 9), int)
    label_map[1:6, 1:6] = 4_000_000
    label_map[3, 3] = 0
    label_map[7, 7] = 4_000_000
    assert {label: len(lines) for label, lines in outlines(label_map).items()} == {4_000_000: 3}


def test_every_prediction_and_every_missed_nucleus_has_an_outline():
    one = image("d")
    lines = by_category(one.label_map, with_errors(one))
    assert {name: len(own) for name, own in lines.items() if name != "matched"} == {
        "missed": 1,
        "spurious": 1,
        "merged": 2,
        "split": 2,
    }


def test_large_images_are_reduced_and_small_ones_are_left():
    large = np.full((1000, 2000, 3), 7, np.uint8)
    assert reduced(large, 512).shape == (256, 512, 3) and (reduced(large, 512) == 7).all()
    assert reduced(large[:5, :5], 512).shape == (5, 5, 3)


def test_texts_are_broken_where_they_fit():
    words = ["PQ 50.0", "AJI 60.0", "Dice 70.0"]
    assert packed(words, "  ", 10, SMALLEST) == ["PQ 50.0  AJI 60.0  Dice 70.0"]
    assert packed(words, ", ", 0.1, SMALLEST) == ["PQ 50.0,", "AJI 60.0,", "Dice 70.0"]
    lines = wrapped("human spleen of a mouse, fold 1", 0.8, SMALLEST)
    assert len(lines) == 2 and " ".join(lines) == "human spleen of a mouse, fold 1"
    lines = wrapped("W" * 300, 0.8, SMALLEST, bold=True, most=2)
    assert len(lines) == 2 and lines[1].endswith("W…")
    assert all(text_width(line, SMALLEST, bold=True) <= 0.8 for line in lines)
    assert wrapped("", 1, SMALLEST) == []
