"""Names beside points: none overlaps another, a point or the panel's frame."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.point_labels import Label, write_labels

NOTHING = np.empty((0, 2, 2))


def panel() -> tuple[Figure, object]:
    figure = Figure(figsize=(2.4, 2.2), dpi=200)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    return figure, axes


def boxes(figure: Figure, axes: object) -> list[np.ndarray]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer).get_points() for text in axes.texts]  # type: ignore[attr-defined]


def overlap(one: np.ndarray, two: np.ndarray) -> bool:
    return bool((np.minimum(one[1], two[1]) - np.maximum(one[0], two[0]) > 0.5).all())


def test_names_of_a_crowd_of_points_do_not_overlap() -> None:
    figure, axes = panel()
    points = np.random.default_rng(3).uniform(1, 9, (12, 2))
    labels = [Label(x, y, f"name {number}", needed=True) for number, (x, y) in enumerate(points)]
    left_out = write_labels(axes, labels, points, NOTHING)
    drawn = boxes(figure, axes)
    assert len(drawn) + len(left_out) == 12
    assert len(drawn) >= 10
    assert not any(overlap(one, two) for place, one in enumerate(drawn) for two in drawn[:place])
    frame = axes.get_window_extent().get_points()
    assert all((box[0] >= frame[0] - 1).all() and (box[1] <= frame[1] + 1).all() for box in drawn)
    spots = axes.transData.transform(points)
    assert not any(((box[0] < spot) & (spot < box[1])).all() for box in drawn for spot in spots)


def test_the_places_are_the_same_every_time() -> None:
    places = []
    for _ in range(2):
        _, axes = panel()
        points = np.random.default_rng(4).uniform(1, 9, (9, 2))
        write_labels(axes, [Label(x, y, "a\nlonger name") for x, y in points], points, NOTHING)
        places.append([text.get_position() for text in axes.texts])
    assert places[0] == places[1]


def test_a_needed_name_comes_before_the_others_and_a_name_without_room_is_left_out() -> None:
    _, axes = panel()
    spot = np.array([[5.0, 5.0]])
    labels = [Label(5, 5, "x" * 14), Label(5, 5, "needed", needed=True), Label(5, 5, "y" * 400)]
    left_out = write_labels(axes, labels, spot, NOTHING)
    assert [text.get_text() for text in axes.texts] == ["needed", "x" * 14]
    assert [label.text for label in left_out] == ["y" * 400]


def test_names_keep_clear_of_lines() -> None:
    figure, axes = panel()
    across = np.array([[(0, 5), (10, 5)]])
    write_labels(axes, [Label(5, 5, "name")], np.array([[5.0, 5.0]]), across)
    (box,) = boxes(figure, axes)
    height = axes.transData.transform((5, 5))[1]
    assert not box[0][1] < height < box[1][1]


def test_a_formula_in_a_name_is_text() -> None:
    _, axes = panel()
    write_labels(axes, [Label(5, 5, "a_$x^2")], np.array([[5.0, 5.0]]), NOTHING)
    assert not axes.texts[0].get_parse_math()
