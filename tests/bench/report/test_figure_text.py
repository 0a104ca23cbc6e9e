"""Texts of figures: names that are long, foreign or hostile."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.report.canvas import load_seaborn, report_style
from bench.report.figure_text import label_rows, legible, set_notes, set_title, shown_names


def test_a_long_name_loses_its_middle():
    assert legible("abcdefghij", 10) == "abcdefghij"
    assert legible("abcdefghijk", 6) == "ab…ijk"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>|_%&", "<script>|_%&"),
        ("Größe naïve", "Größe naïve"),
        ("肝", "[U+809D]"),
        ("a\nb\tc", "a b c"),
        ("a\x1bb", "a[U+001B]b"),
        ("\udce9", "[U+DCE9]"),
    ],
)
def test_characters_without_a_glyph_are_shown_by_their_code(text: str, shown: str):
    assert legible(text, 50) == shown


def test_names_that_become_the_same_are_numbered():
    names = shown_names(["a" * 30 + "1" + "b" * 30, "a" * 30 + "2" + "b" * 30, "c"], 11)
    assert names == ["aaaaa…bbbbb", "aaa…bbbb #2", "c"]


def test_dollars_in_names_titles_and_notes_start_no_formula():
    load_seaborn()
    from matplotlib.figure import Figure

    name = "$\\frac{$"
    with report_style():
        figure = Figure()
        axes = figure.add_subplot()
        label_rows(axes, pd.DataFrame({"method": [name], "backbone": [name], "strategy": [name]}), columns=2)
        set_title(figure, name, columns=1)
        set_notes(figure, [name], columns=1)
        figure.draw_without_rendering()
    assert axes.get_yticklabels()[0].get_text() == name
    assert figure.get_suptitle() == name
