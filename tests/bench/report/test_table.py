"""Rendering: a Markdown snapshot, narrow terminals, and no markup by accident."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from bench.columns import Column
from bench.report.table import Block, markdown, terminal


def block() -> Block:
    return Block(
        "A section",
        [
            Column("#", ["1", "ref"]),
            Column("backbone", ["mobile_sam", "classical"], right=False),
            Column("PQ", ["50.0 ± 1.0", "45.0 ± 2.0"], bold=frozenset({0})),
            Column("Dice", ["80.0 ± 1.0", "81.0 ± 2.0"], drop=2),
            Column("trainable", ["4.06 M?", "0"], drop=4, note="?: not checked."),
        ],
        ["A [note]."],
    )


def printed(width: int, shown: Block | None = None, encoding: str = "utf-8") -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(terminal([shown or block()], width=width, encoding=encoding))
    return file.getvalue()


def test_markdown_snapshot() -> None:
    assert markdown([block()]) == (
        "## A section\n"
        "\n"
        "|   # | backbone   |             PQ |       Dice |   trainable |\n"
        "|----:|:-----------|---------------:|-----------:|------------:|\n"
        "|   1 | mobile_sam | **50.0 ± 1.0** | 80.0 ± 1.0 |     4.06 M? |\n"
        "| ref | classical  |     45.0 ± 2.0 | 81.0 ± 2.0 |           0 |\n"
        "\n"
        "- A [note].\n"
        "- ?: not checked.\n"
    )


def test_markdown_keeps_a_pipe_inside_its_cell() -> None:
    assert r"a\|b" in markdown([Block("t", [Column("x", ["a|b"])])])


def test_markdown_makes_nothing_of_names() -> None:
    name = "<script>x</script> _a_ b_c *d* [e](f) `g` ~~h~~ \\"
    escaped = r"\<script>x\</script> \_a\_ b_c \*d\* [e]\(f) \`g\` \~~h\~~ \\"
    text = markdown([Block(name, [Column(name, [name])], [name], name)])
    assert text.startswith(f"## {escaped}\n\n{escaped}\n\n|")
    assert text.count(escaped) == 4
    note = escaped.replace(r"\`", "`")  # notes quote commands
    assert text.endswith(f"\n- {note}\n")


def test_wide_terminals_get_every_column() -> None:
    assert printed(80).splitlines() == [
        "A section",
        "",
        "  #  backbone            PQ        Dice  trainable",
        "──────────────────────────────────────────────────",
        "  1  mobile_sam  50.0 ± 1.0  80.0 ± 1.0    4.06 M?",
        "ref  classical   45.0 ± 2.0  81.0 ± 2.0          0",
        "A [note].",
        "?: not checked.",
    ]


def test_narrow_terminals_lose_costs_first_and_say_so() -> None:
    lines = printed(42).splitlines()
    assert lines[2].split() == ["#", "backbone", "PQ", "Dice"]
    assert " ".join(lines[-3:]).startswith("A [note]. No room for: trainable. Widen")
    assert "not checked" not in printed(42)
    assert max(map(len, lines)) <= 42


def test_headline_columns_move_closer_before_one_is_left_out() -> None:
    # 3 + 10 + 10 + 10 and two spaces between make 39; trainable (drop 5) is not worth moving them
    headline = replace(block(), columns=[*block().columns[:4], replace(block().columns[4], drop=5)])
    assert printed(39, headline).splitlines()[2] == "  #  backbone            PQ        Dice"
    assert printed(36, headline).splitlines()[2] == "  # backbone           PQ       Dice"
    assert printed(35, headline).splitlines()[2].split() == ["#", "backbone", "PQ", "trainable"]


def test_narrow_terminals_get_narrow_columns_before_a_cost_is_left_out() -> None:
    columns = block().columns
    short = replace(columns[4], title="train-\nable")
    # 3 + 10 + 10 + 10 + 9, and 7 for the narrow form of the last: 44 with one space between
    assert "No room for: trainable" in " ".join(printed(44).split())
    lines = printed(44, replace(block(), columns=[*columns[:4], replace(columns[4], narrow=short)])).splitlines()
    assert [line.rstrip() for line in lines[2:4]] == [
        " " * 38 + "train-",
        "  # backbone           PQ       Dice    able",
    ]


def test_a_caption_stands_between_title_and_table() -> None:
    captioned = replace(block(), caption="The same in all rows: folds 2/2.")
    assert printed(80, captioned).splitlines()[:3] == ["A section", "The same in all rows: folds 2/2.", ""]
    assert markdown([captioned]).startswith("## A section\n\nThe same in all rows: folds 2/2.\n\n|   # |")


def test_characters_that_the_terminal_lacks_are_replaced_before_widths_are_counted() -> None:
    assert printed(80, encoding="ascii").splitlines()[2:5] == [
        "  #  backbone              PQ          Dice  trainable",
        "------------------------------------------------------",
        "  1  mobile_sam  50.0 +/- 1.0  80.0 +/- 1.0    4.06 M?",
    ]
    assert "50.0 ± 1.0" in printed(80, encoding="iso8859-1")


def test_no_column_is_lost_below_what_always_stays() -> None:
    lines = printed(20).splitlines()
    assert max(map(len, lines)) <= 20
    assert "PQ" in printed(20)


def test_cells_are_no_rich_markup() -> None:
    assert "[bold]x[/bold]" in printed(80, Block("t", [Column("x", ["[bold]x[/bold]"])]))


def test_the_best_value_is_bold_in_a_terminal() -> None:
    file = io.StringIO()
    Console(file=file, width=80, force_terminal=True, color_system="standard", no_color=True).print(
        terminal([block()], width=80)
    )
    assert "\x1b[1m50.0 ± 1.0\x1b[0m" in file.getvalue()
    assert "\x1b[1m45.0 ± 2.0" not in file.getvalue()
