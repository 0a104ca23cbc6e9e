"""Choice of the columns that fit a terminal, on widths added up by hand."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from bench.columns import Column, fit, fitted_table, total_width

SCORES = Column("score", ["50.0 ± 1.0"], narrow=Column("score", ["50.0±1.0"]))


def titles(columns: list[Column]) -> list[str]:
    return [column.title for column in columns]


def printed(columns: list[Column], width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(fitted_table(columns, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_columns_get_room_in_the_order_of_their_numbers() -> None:
    # widths 5, 3 and 10, and two spaces between
    columns = [Column("a", ["12345"]), Column("b", ["123"], drop=2), Column("c", ["1234567890"], drop=1)]
    assert titles(fit(columns, 22).columns) == ["a", "b", "c"]
    assert titles(fit(columns, 21).columns) == ["a", "c"]
    assert titles(fit(columns, 10).columns) == ["a", "b"]  # c doesn't fit, and doesn't stop b
    assert titles(fit(columns, 4).columns) == ["a"]
    assert titles(fit(columns, 4).left_out) == ["b", "c"]


def test_a_title_is_as_wide_as_its_longest_line() -> None:
    assert Column("latency\nms", ["1.0"]).width == 7
    assert Column("x", ["細胞"]).width == 4  # two terminal cells a character
    assert total_width([Column("latency\nms", ["1.0"]), Column("x", ["細胞"])]) == 7 + 2 + 4


def test_columns_move_closer_and_get_narrow_before_one_that_matters_is_left_out() -> None:
    columns = [Column("name", ["sam_nano"]), SCORES, Column("cost", ["1.0"], drop=1), Column("more", ["2.0"], drop=9)]
    # 8 + 10 + 4 with two spaces between: 26; one space: 24; narrow, two: 24; narrow, one: 22
    for width, gap, cell in ((26, 2, "50.0 ± 1.0"), (25, 1, "50.0 ± 1.0"), (23, 1, "50.0±1.0"), (22, 1, "50.0±1.0")):
        chosen = fit(columns, width, squeeze=1)
        assert (titles(chosen.columns), titles(chosen.left_out)) == (["name", "score", "cost"], ["more"])
        assert (chosen.gap, chosen.columns[1].cells) == (gap, [cell])
    assert titles(fit(columns, 21, squeeze=1).columns) == ["name", "score"]


def test_without_squeeze_gap_and_cells_stay() -> None:
    chosen = fit([Column("name", ["sam_nano"]), SCORES, Column("cost", ["1.0"], drop=1)], 25)
    assert (titles(chosen.columns), chosen.gap, chosen.columns[1].cells) == (["name", "score"], 2, ["50.0 ± 1.0"])


def test_cells_are_cut_only_where_there_is_no_room() -> None:
    columns = [Column("a", ["x" * 30], cut=True, right=False), Column("b", ["y" * 10])]
    assert printed(columns, 30)[1] == "x" * 17 + "…  " + "y" * 10
    assert printed(columns, 42)[1] == "x" * 30 + "  " + "y" * 10


def test_columns_without_text_are_left_out() -> None:
    assert printed([Column("a", ["1", "2"]), Column("b", ["", ""])], 30) == ["a", "1", "2"]


def test_cells_are_no_rich_markup() -> None:
    assert printed([Column("a", ["[bold]x[/bold]"])], 30)[1] == "[bold]x[/bold]"


def test_every_text_of_a_column_can_be_changed() -> None:
    column = Column("a–b", ["1–2"], note="–", narrow=Column("–", ["–"])).map(lambda text: text.replace("–", "-"))
    assert (column.title, column.cells, column.note) == ("a-b", ["1-2"], "-")
    assert column.narrow == Column("-", ["-"])
