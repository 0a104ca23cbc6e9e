"""Figure of an architecture: with and without `dot`, the same bytes twice, texts that fit, hostile names."""

from __future__ import annotations

from colorsys import rgb_to_hls
from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from bench.architecture import boxes, draw, layout, parts
from bench.architecture.graph import Counts, Graph, Layer, Node
from bench.cli import main
from bench.report import canvas

WITH_DOT = pytest.param(True, marks=pytest.mark.skipif(not layout.has_dot(), reason="graphviz is not installed"))


@pytest.fixture(scope="module")
def nano() -> parts.Architecture:
    return parts.read("sam_nano", "lora_qv")


@pytest.fixture(params=[WITH_DOT, False], ids=["dot", "layers"])
def laid_out(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setattr(layout.shutil, "which", lambda _: None)
    return request.param


@pytest.mark.parametrize("suffix", canvas.SUFFIXES)
def test_same_model_gives_the_same_bytes(nano, laid_out, tmp_path, suffix):
    if not laid_out and suffix != ".svg":
        return  # the places differ, the files are written alike
    first, second = (canvas.save(draw.draw(nano), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second and len(first) > 5_000


def test_package_without_its_program_and_program_without_the_package_are_both_no_dot(monkeypatch):
    monkeypatch.setattr(layout.shutil, "which", lambda _: "/usr/bin/dot")
    monkeypatch.setattr(layout, "find_spec", lambda _: None)
    assert not layout.has_dot()
    monkeypatch.setattr(layout, "find_spec", lambda _: object())
    assert layout.has_dot()
    monkeypatch.setattr(layout.shutil, "which", lambda _: None)
    assert not layout.has_dot()


def test_boxes_do_not_overlap_and_edges_go_to_the_right_between_them(nano, laid_out):
    for graph, box in ((nano.encoder, boxes.part_box), (nano.decoder, boxes.part_box), (nano.block, boxes.layer_box)):
        sizes = {key: box(node).size for key, node in graph.nodes.items()}
        places = layout.place(sizes, graph.edges, straight=True)
        for (a, (wa, ha)), (b, (wb, hb)) in combinations(sizes.items(), 2):
            (xa, ya), (xb, yb) = places.centres[a], places.centres[b]
            assert abs(xa - xb) >= (wa + wb) / 2 or abs(ya - yb) >= (ha + hb) / 2, (a, b)
        for (tail, head), route in places.routes.items():
            assert places.centres[tail][0] < places.centres[head][0]
            assert len(route) % 3 == 1
            for key, (x, y) in ((tail, route[0]), (head, route[-1])):
                (cx, cy), (width, height) = places.centres[key], sizes[key]
                assert abs(x - cx) <= width / 2 + 2 and abs(y - cy) <= height / 2 + 2  # on its border
        assert places.routes.keys() == graph.edges.keys()
        for (x, y), (width, height) in zip(places.centres.values(), sizes.values(), strict=True):
            assert width / 2 - 1 <= x <= places.size[0] - width / 2 + 1
            assert height / 2 - 1 <= y <= places.size[1] - height / 2 + 1


def test_every_text_stands_within_the_figure_and_boxes_are_as_wide_as_their_texts(nano, laid_out):
    figure = draw.draw(nano)
    canvas_box = figure.bbox
    texts = figure.axes[0].texts
    assert len(texts) > 60
    for text in texts:
        extent = text.get_window_extent()
        assert canvas_box.x0 <= extent.x0 and extent.x1 <= canvas_box.x1, text.get_text()
        assert canvas_box.y0 <= extent.y0 and extent.y1 <= canvas_box.y1, text.get_text()
    assert figure.get_size_inches()[0] == pytest.approx(7.2)


def test_figure_names_states_with_counts_equation_and_options(nano):
    shown = [text.get_text() for text in draw.draw(nano).axes[0].texts]
    assert shown[0] == "SAM nano with lora_qv (rank = 4), input 256 × 256"
    assert {
        "frozen 1.83 M (33 %)",
        "trained 3.79 M (67 %)",
        "added 8.19 k (0.15 %)",
        "5.63 M parameters in all",
    } <= set(shown)
    assert any(text.startswith("beside q, v:   $y = W x") for text in shown)
    assert {"A: 128 → 4", "B: 4 → 128", "4 heads of 32", "16 × 16 × 128", "4 × Block"} <= set(shown)


def test_states_are_drawn_in_three_colours_that_differ_in_lightness_too(nano):
    from matplotlib.colors import to_rgb, to_rgba

    lightness = sorted(rgb_to_hls(*to_rgb(colour))[1] for colour in boxes.FILLS.values())
    assert all(second - first > 0.15 for first, second in pairwise(lightness))
    drawn = {patch.get_facecolor() for patch in draw.draw(nano).axes[0].patches}
    assert {to_rgba(colour) for colour in boxes.FILLS.values()} <= drawn


NASTY = "<script>&_%$x^2$\\frac{|é" + "ü" * 300


def test_names_of_modules_are_text_and_not_markup(nano, laid_out, tmp_path):
    layer = Layer(NASTY, NASTY, 3, 4)
    nodes = {
        NASTY: Node(NASTY, "end", "x"),
        f"{NASTY}.a": Node(f"{NASTY}.a", "unit", NASTY, (layer,), counts=Counts(added=5)),
        "+": Node("+", "add", "+"),
    }
    graph = Graph(nodes, {(NASTY, f"{NASTY}.a"): 1.0, (f"{NASTY}.a", "+"): 0.1234567, (NASTY, "+"): 1.0})
    nasty = replace(nano, title=NASTY[:40], options={NASTY[:9]: "$"}, encoder=graph, decoder=graph, block=graph)
    path = canvas.save(
        draw.draw(replace(nasty, block_title=NASTY, equations=parts.equations(graph))), tmp_path / "a.svg"
    )
    assert b"<script>" not in path.read_bytes()


def test_shapes_are_height_width_channels_whatever_the_order():
    assert boxes.shape_text((256, 64, 64)) == boxes.shape_text((64, 64, 256)) == boxes.shape_text((4096, 256))
    assert boxes.shape_text((64, 64, 256)) == "64 × 64 × 256"
    assert (boxes.shape_text((1, 16, 16, 128)), boxes.shape_text((5, 256))) == ("16 × 16 × 128", "5 × 256")
    assert boxes.shape_text((32,)) == "32 values"


def test_command_writes_a_figure_and_refuses_other_files(tmp_path, monkeypatch, capsys):
    def call(name: str) -> int:
        monkeypatch.setattr("sys.argv", ["bench", "show", "sam_nano", "decoder_only", "--figure", str(tmp_path / name)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert call("a.pdf") == 0 and (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "wrote" in capsys.readouterr().out
    assert call("a.docx") == 2
    assert "give a name that ends in .png, .svg, .pdf." in " ".join(capsys.readouterr().err.split())
    (tmp_path / "file").write_text("")
    assert call("file/a.pdf") == 2
    assert "file" in capsys.readouterr().err
