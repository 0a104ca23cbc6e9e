"""Colours and markers: frozen, and far enough apart for every eye."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle
from skimage.color import deltaE_ciede2000, rgb2lab

from bench.report import appearance
from bench.report.appearance import backbone_marker, strategy_colour, strategy_line
from registry import backbones, figure_order, strategies

COLOURS = {
    "zero_shot": "#56b4e9",
    "decoder_only": "#009e73",
    "lora_qv": "#d55e00",
    "lora_all_linear": "#882255",
    "adapter": "#e6b400",
    "full": "#2338a8",
}
MARKERS = {
    "sam_vit_b": "s",
    "sam_vit_l": "D",
    "sam_vit_h": "^",
    "mobile_sam": "o",
    "tiny_sam": "v",
    "efficient_sam_ti": "X",
    "efficient_sam_s": "P",
    "sam_nano": "*",
}
# Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0; they multiply linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colours: tuple[str, ...], eye: str) -> np.ndarray:
    """Return the colours in CIELAB as an eye sees them, (n, 3)."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]


def closest(colours: tuple[str, ...], eye: str) -> float:
    values = lab(colours, eye)
    return min(float(deltaE_ciede2000(values[one], values[two])) for one, two in combinations(range(len(values)), 2))


def test_colours_and_markers_of_shipped_names_never_change() -> None:
    assert {name: strategy_colour(name) for name in COLOURS} == COLOURS
    assert {name: backbone_marker(name) for name in MARKERS} == MARKERS
    assert figure_order.STRATEGIES[:6] == tuple(COLOURS)
    assert figure_order.BACKBONES[:8] == tuple(MARKERS)


def test_every_shipped_name_has_a_place_at_the_end_of_the_order() -> None:
    # A new file fails here: append its name to the tuple in registry/figure_order.py.
    assert set(strategies.names()) <= set(figure_order.STRATEGIES)
    assert set(backbones.names()) <= set(figure_order.BACKBONES)
    for order in (figure_order.STRATEGIES, figure_order.BACKBONES):
        assert len(set(order)) == len(order)
    assert len(figure_order.STRATEGIES) <= len(appearance.SHIPPED_COLOURS)
    assert len(figure_order.BACKBONES) <= len(appearance.SHIPPED_MARKERS)


def test_a_name_before_all_others_in_the_alphabet_changes_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appearance, "STRATEGIES", (*figure_order.STRATEGIES, "aaa"))
    assert {name: strategy_colour(name) for name in COLOURS} == COLOURS
    assert strategy_colour("aaa") == "#960f00"


@pytest.mark.parametrize(
    ("eye", "least"), [("normal", 14), ("protanopia", 14), ("deuteranopia", 14), ("tritanopia", 10)]
)
def test_two_shipped_strategies_differ_for_every_eye(eye: str, least: float) -> None:
    # A difference of 1 is just visible side by side; of 10, at a glance.
    assert closest(tuple(map(strategy_colour, figure_order.STRATEGIES)), eye) > least


@pytest.mark.parametrize("eye", EYES)
def test_all_colours_differ_from_each_other_and_from_grey_for_every_eye(eye: str) -> None:
    every = tuple(dict.fromkeys((*appearance.SHIPPED_COLOURS, *appearance.OTHER_COLOURS)))
    assert closest(every, eye) > (5.5 if eye == "tritanopia" else 8)
    for grey in ("0.2", "0.45", "0.72"):
        values = lab((grey, *every[6:]), eye)
        assert min(deltaE_ciede2000(values[:1], values[1:])) > 5.5


def test_third_party_names_have_a_look_of_their_own_that_their_digest_fixes() -> None:
    assert (strategy_colour("my_method"), backbone_marker("my_sam")) == ("#8778c3", "<")
    names = [f"method_{number}" for number in range(200)]
    assert {strategy_colour(name) for name in names} == set(appearance.OTHER_COLOURS)
    assert {backbone_marker(name) for name in names} == set(appearance.OTHER_MARKERS)
    used = {*map(strategy_colour, COLOURS), *map(backbone_marker, MARKERS)}
    assert not used & {*appearance.OTHER_COLOURS, *appearance.OTHER_MARKERS}
    assert {strategy_line(name) for name in names} == set(appearance.LINES)
    for name in ("", "名前", "\ud800", "x" * 10_000, "<script>"):
        assert strategy_colour(name) in appearance.OTHER_COLOURS


def test_markers_are_filled_and_different() -> None:
    assert len(set(appearance.SHIPPED_MARKERS)) == len(appearance.SHIPPED_MARKERS)
    assert all(MarkerStyle(marker).is_filled() for marker in (*appearance.SHIPPED_MARKERS, *appearance.OTHER_MARKERS))
