"""LaTeX and HTML of a small table, and the parts of a leaderboard that options choose."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from fabricated import record, run
from rich.console import Console

from bench import report
from bench.columns import Column
from bench.errors import BenchError
from bench.report.latex import latex
from bench.report.table import Block
from bench.report.web import html
from bench.results.record import folder, write

AWKWARD = r"a_b & 50% #1 {x} \y ~ ^ $ <script>alert(1)</script> | 核 ±"
SMALL = Block(
    "my_images & more",
    [Column("method", ["lora_qv", "[x]"], right=False), Column("PQ\nmean", ["1–2", "5 ± 1"], bold=frozenset({1}))],
    ["100 % of it"],
    "Caption.",
)


def test_latex_of_a_small_table() -> None:
    text = latex([SMALL])
    assert (
        text[text.index(r"\begin{table}") :]
        == r"""\begin{table}[htbp]
\centering
\caption{my\_images \& more. Caption.}
\fitted{\begin{tabular}{@{}lr@{}}
\toprule
method & PQ mean \\
\midrule
lora\_qv & 1\textendash{}2 \\
{[}x] & \textbf{5 \ensuremath{\pm} 1} \\
\bottomrule
\end{tabular}}
\par\smallskip\begin{minipage}{\textwidth}\footnotesize
\par\noindent 100 \% of it
\end{minipage}
\end{table}

\closedocument
"""
    )


LONG = Block(
    "x",
    [Column("method", [f"m_{n}" for n in range(100)], right=False), Column("PQ", ["1"] * 100, bold=frozenset({99}))],
    ["note"],
)


def test_a_table_longer_than_a_page_breaks_over_pages_with_its_head_on_each() -> None:
    text = latex([SMALL, LONG])
    long = text[text.index(r"\begingroup") :].splitlines()
    head = [r"\toprule", r"method & PQ \\", r"\midrule"]
    assert long[1:12] == [
        r"\fittedsize{\begin{tabular}{@{}lr@{}}method & PQ\end{tabular}}",
        r"\begin{longtable}{@{}lr@{}}",
        r"\caption{x.}\\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
    ]
    assert long[111:120] == [
        r"m\_99 & \textbf{1} \\",
        r"\bottomrule",
        r"\end{longtable}",
        r"\endgroup",
        r"{\footnotesize",
        r"\par\noindent note",
        r"\par}",
        "",
        r"\closedocument",
    ]
    assert text.count(r"\begin{table}") == 1


def test_many_notes_make_a_table_long_too() -> None:
    block = Block("x", [Column("method", ["a"])], [f"{n}. " + "fold 1: no record. " * 40 for n in range(10)])
    assert r"\begin{longtable}" in latex([block]) and r"\begin{table}" not in latex([block])


def test_a_title_much_longer_than_its_column_stands_in_lines() -> None:
    columns = [Column("mobile_sam\nlora_qv", ["1"]), Column("mobile_sam\nlora_qv", ["a" * 20])]
    stacked = r"\begin{tabular}[b]{@{}r@{}}mobile\_sam\\lora\_qv\end{tabular}"
    assert f"{stacked} & mobile\\_sam lora\\_qv \\\\\n" in latex([Block("x", columns)])


def test_columns_that_a_page_has_no_room_for_are_named() -> None:
    wide = [Column("method", ["a" * 60]), Column("PQ", ["1"]), Column("GFLOP", ["b" * 60], drop=9)]
    text = latex([Block("x", wide)])
    assert "method & PQ \\\\" in text and "bbb" not in text
    assert "No room for: GFLOP. Markdown, HTML and CSV have all." in text


def test_characters_that_pdflatex_has_no_glyph_for_are_written_as_their_code() -> None:
    assert r"\caption{{[}U+6838] Größe.}" in latex([Block("核 Größe", [Column("x", ["1"])])])


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)
def test_latex_compiles_whatever_the_names_are(tmp_path: Path) -> None:
    block = Block(
        AWKWARD, [Column(AWKWARD, ["[1]", "*"]), Column("PQ", [AWKWARD, AWKWARD])], [AWKWARD, "[2] x"], AWKWARD
    )
    wide = [Column(AWKWARD, [AWKWARD, "*"] * 120), *(Column(f"PQ {n}", ["12.3 ± 4.5"] * 240) for n in range(6))]
    long = Block(AWKWARD, wide, [AWKWARD], AWKWARD)
    (tmp_path / "board.tex").write_text(latex([SMALL, block, long]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "board.pdf").read_bytes().startswith(b"%PDF")
    assert b"Overfull" not in done.stdout  # nothing stands beyond the margins
    assert b"board.pdf (3 pages" in done.stdout  # the long table takes two


def test_html_of_a_small_table() -> None:
    text = html([SMALL])
    body = text[text.index("<body>") :]
    assert body == (
        "<body>\n<h2>my_images &amp; more</h2>\n<p>Caption.</p>\n<div><table>\n"
        '<thead><tr><th>method</th><th class="n">PQ mean</th></tr></thead>\n<tbody>\n'
        '<tr><td>lora_qv</td><td class="n">1–2</td></tr>\n<tr><td>[x]</td><td class="n"><b>5 ± 1</b></td></tr>\n'
        "</tbody>\n</table></div>\n<ul>\n<li>100 % of it</li>\n</ul>\n</body>\n</html>\n"
    )
    assert "http" not in text and "src=" not in text


def test_html_has_a_title_of_its_own() -> None:
    assert "<title>Leaderboard</title>" in html([SMALL])
    assert "<title>Comparison of a &amp; b</title>" in html([SMALL], title="Comparison of a & b")


def test_html_escapes_every_text() -> None:
    text = html([Block(AWKWARD, [Column(AWKWARD, [AWKWARD])], [AWKWARD], AWKWARD)])
    assert "<script>" not in text and text.count("&lt;script&gt;") == 5


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two strategies on two images each: the second is worse, and slower where it has the lower PQ."""
    for strategy, shift in (("lora_qv", 0.0), ("full", 0.1)):
        for fold in (1, 2):
            one = record(run(strategy=strategy, fold=fold, n_splits=2), pq=0.5 + shift, official=False)
            write(tmp_path, one)
            images = pd.DataFrame({"stem": [f"a{fold}", f"b{fold}"], "organ": ["liver", "brain"], "fold": fold})
            scores = images.assign(
                pq=[0.4 + shift, 0.6 + shift], aji=0.6, dice=0.8, n_true=9.0, n_pred=7.0, tp=[4.0, 6.0]
            ).assign(n_missed=[5, 0], n_spurious=3, n_merged=1, n_split=[0, 2])
            scores.to_parquet(folder(tmp_path, one.id) / "scores.parquet")
    return tmp_path


@pytest.mark.parametrize(("by", "title"), [(None, "Leaderboard"), ("organ", "PQ per organ"), ("image", "Worst images")])
def test_a_page_is_called_by_what_it_shows(results: Path, by: str | None, title: str) -> None:
    assert f"<title>{title}</title>" in text_of(results, "a.html", format="html", by=by)


@pytest.mark.parametrize("format", ["latex", "html", "markdown"])
def test_published_rows_have_their_notes_in_every_format(results: Path, format: str) -> None:
    text = text_of(results, "a", format=format)
    assert "self-reported; protocol unknown; its LoRA layers had no effect." in text
    assert "?: not checked against the source." in text


def text_of(results: Path, name: str, **options: object) -> str:
    path = results / name
    report.show_table(results, output=path, console=Console(quiet=True), **options)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("by", [None, "seed", "organ", "image"])
@pytest.mark.parametrize("format", ["markdown", "csv", "latex", "html"])
def test_the_same_records_give_the_same_bytes(results: Path, format: str, by: str | None) -> None:
    assert text_of(results, "a", format=format, by=by) == text_of(results, "b", format=format, by=by)


def test_columns_are_chosen_by_title_or_name(results: Path) -> None:
    names = ("strategy", "PQ", "latency_ms")
    lines = text_of(results, "a.md", format="markdown", columns=names).splitlines()
    shown = [line for line in lines[:10] if line.startswith("|") and "--" not in line]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown] == [
        ["strategy", "PQ", "latency_ms"],
        ["full", "**60.0 ± 0.0**", "42.0655"],
        ["lora_qv", "50.0 ± 0.0", "42.0655"],
    ]
    table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", columns=names)))
    assert table.columns.tolist() == ["strategy", "pq_mean", "latency_ms"]
    with pytest.raises(BenchError, match=r"unknown column 'latncy_ms'\. Did you mean 'latency_ms'"):
        text_of(results, "b.csv", format="csv", columns=["latncy_ms"])


def titled(text: str) -> dict[str, list[str]]:
    """Return the cells of the first Markdown table by their titles."""
    lines = [line for line in text.split("## ")[1].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {title: [row[i] for row in rows[2:]] for i, title in enumerate(rows[0])}


def test_every_title_that_a_table_shows_chooses_its_column(results: Path) -> None:
    whole = titled(text_of(results, "a.md"))
    assert titled(text_of(results, "b.md", columns=list(whole))) == whole
    assert {"#", "PQ 95 % CI", "latency ms"} <= whole.keys()
    for title in (*whole, "folds", "seeds", "weights", "method"):
        assert len(titled(text_of(results, "b.md", columns=[title], sort=title))) == 1
        text_of(results, "b.csv", columns=[title])
    header = text_of(results, "b.csv", columns=["PQ 95% ci", "folds"]).splitlines()[0]
    assert header == "pq_low,pq_high,n_ok,n_expected"


def test_scores_are_percent_under_their_names_in_the_csv_file_too(results: Path) -> None:
    shown = titled(text_of(results, "b.md", columns=["pq_mean", "pq_low", "PQ 95 % CI"]))
    assert shown["pq_mean"] == ["60.0", "50.0"]
    assert shown["pq_low"] == [interval.split("–")[0] for interval in shown["PQ 95 % CI"]]


def test_an_unknown_column_lists_the_nearest_and_some(results: Path) -> None:
    with pytest.raises(BenchError) as caught:
        text_of(results, "b.md", sort="latenc")
    assert "Did you mean 'latency ms' or 'latency IQR' or 'latency_ms'?" in str(caught.value)
    assert str(caught.value).split("Known: ")[1].count(",") == 10
    assert titled(text_of(results, "b.md", columns=["latency"])).keys() == {"latency ms"}
    assert text_of(results, "b.md", sort="latency") == text_of(results, "a.md", sort="latency ms")


def test_incomplete_rows_are_marked_without_the_column_of_folds(results: Path) -> None:
    write(results, record(run(strategy="adapter", fold=1, n_splits=2), official=False))
    assert titled(text_of(results, "a.md", columns=["strategy", "PQ"]))["strategy"] == ["full", "lora_qv", "adapter †"]
    assert titled(text_of(results, "a.md", columns=["PQ"]))["PQ"][2] == "50.0 †"
    shown = titled(text_of(results, "a.md", columns=["strategy", "folds"]))
    assert (shown["strategy"][2], shown["folds"][2]) == ("adapter", "1/2 †")


def test_settings_that_tell_rows_apart_are_named_where_they_are_not_chosen(tmp_path: Path) -> None:
    for rank in (16, 4):
        write(tmp_path, record(run(n_splits=1, options={"rank": rank}), pq=0.5, official=False))
    sentence = "Rows of one name differ in strategy.rank: --columns shows that too."
    assert sentence in text_of(tmp_path, "a.md", columns=["backbone", "strategy", "PQ"])
    for names in (
        ["method"],
        ["backbone", "strategy", "strategy.rank"],
        ["backbone", "strategy", "PQ", "strategy.rank"],
    ):
        assert sentence not in text_of(tmp_path, "a.md", columns=names)


def test_the_choice_of_rows_stands_in_the_title(results: Path) -> None:
    for by in (None, "organ", "image"):
        text = text_of(results, "a.md", by=by, only=["strategy=full"])
        assert "2 folds (seed 19); only rows with strategy=full\n" in text
    assert "only rows" not in text_of(results, "a.md")


def test_folds_of_several_seeds_are_called_so(results: Path) -> None:
    for strategy in ("lora_qv", "full"):
        for fold in (1, 2):
            write(results, record(run(strategy=strategy, fold=fold, n_splits=2, seed=1), pq=0.4, official=False))
    assert "folds 2/2 of each seed, seeds 0, 1." in text_of(results, "a.md")
    assert "folds: of all seeds together." in text_of(results, "a.md", columns=["method", "folds"])


def test_rows_are_sorted_scores_from_the_best_and_costs_from_the_smallest(results: Path) -> None:
    def order(sort: str) -> list[str]:
        table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", sort=sort)))
        return table.loc[table["kind"] == "run", "strategy"].tolist()

    assert order("PQ") == ["full", "lora_qv"]
    assert order("trainable total") == ["lora_qv", "full"]
    with pytest.raises(BenchError, match="unknown column 'PQQ'"):
        order("PQQ")


def test_a_swept_setting_is_a_column_of_numbers_and_sorted_as_such(tmp_path: Path) -> None:
    for rank in (16, 4, 1):
        write(tmp_path, record(run(n_splits=1, options={"rank": rank}), pq=0.5 + rank / 100, official=False))
    write(tmp_path, record(run(strategy="full", n_splits=1), pq=0.9, official=False))
    table = pd.read_csv(io.StringIO(text_of(tmp_path, "a.csv", format="csv", sort="strategy.rank")))
    ranks = table.loc[table["kind"] == "run", "strategy.rank"]
    assert ranks.tolist()[:3] == [1, 4, 16] and pd.isna(ranks.iloc[3])
    lines = text_of(tmp_path, "a.md", format="markdown", sort="strategy.rank").splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")][:6]
    place = cells[0].index("strategy.rank")
    assert [row[place] for row in cells[2:6]] == ["1", "4", "16", "–"]
    assert cells[1][place].endswith("-:")  # aligned as numbers are


def test_only_keeps_the_rows_with_these_settings(results: Path) -> None:
    def strategies(*only: str) -> list[str]:
        table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", only=only)))
        return table.loc[table["kind"] == "run", "strategy"].tolist()

    assert strategies("strategy=lora_qv") == ["lora_qv"]
    assert strategies("backbone=mobile_sam,strategy=full,lora_qv") == ["full", "lora_qv"]
    with pytest.raises(BenchError, match=r"unknown value 'lora_qw'\. Did you mean 'lora_qv'"):
        strategies("strategy=lora_qw")
    with pytest.raises(BenchError, match=r"unknown setting 'stratgy'\. Did you mean 'strategy'"):
        strategies("stratgy=full")
    with pytest.raises(BenchError, match="write KEY=A,B"):
        strategies("full")


def test_worst_images_come_first(results: Path) -> None:
    table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", by="image", worst=3)))
    # the three images of the other formats, each with both rows
    chosen = [[stem, strategy] for stem in ("a1", "a2", "b1") for strategy in ("lora_qv", "full")]
    assert table[["stem", "strategy"]].values.tolist() == chosen
    assert table.loc[0, ["missed", "spurious", "merged", "split"]].tolist() == [5, 3, 1, 0]
    assert table["path"].tolist()[::2] == ["images/liver/a1", "images/liver/a2", "images/brain/b1"]
    every = text_of(results, "a.md", format="markdown", by="image", worst=3).splitlines()
    assert [line[2:4] for line in every if line[:3] in ("| a", "| b")] == ["a1", "a2", "b1"]
    lines = text_of(results, "a.md", format="markdown", by="image", worst=1).splitlines()
    row = next(line for line in lines if line.startswith("| a1"))
    assert row.replace("|", " ").split() == ["a1", "liver", "1", "45.0", "60.0", "80.0", "9", "5", "3", "1", "0"]
    assert "- The 1 worst of 4 images by PQ; means over 2 rows (--only shows one)." in lines
    assert not [line for line in lines if "not counted" in line]


def test_errors_that_an_earlier_version_did_not_count_are_missing_and_not_zero(results: Path) -> None:
    for path in results.glob("runs/*/scores.parquet"):
        scores = pd.read_parquet(path)
        scores.drop(
            columns=[name for name in scores if name in ("n_missed", "n_spurious", "n_merged", "n_split")]
        ).to_parquet(path)
    table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", by="image")))
    assert table[["missed", "spurious", "merged", "split"]].isna().all(axis=None)
    text = text_of(results, "a.md", format="markdown", by="image", worst=1)
    assert "| 9 | – | – | – | – |" in " ".join(text.split())
    assert "- –: not counted by the version that did the runs." in text


def test_errors_that_one_of_several_runs_lacks_are_missing_and_not_those_of_the_others(results: Path) -> None:
    path = folder(results, record(run(strategy="full", fold=1, n_splits=2)).id) / "scores.parquet"
    pd.read_parquet(path).drop(columns=["n_missed", "n_spurious", "n_merged", "n_split"]).to_parquet(path)
    lines = text_of(results, "a.md", format="markdown", by="image").splitlines()
    ends = {line[2:4]: line.replace("|", " ").split()[-4:] for line in lines if line[:3] in ("| a", "| b")}
    assert ends["a1"] == ["–"] * 4 and ends["a2"] == ["5", "3", "1", "0"]


def test_worst_images_fit_80_columns_with_their_errors(results: Path) -> None:
    shown = io.StringIO()
    report.show_table(results, by="image", console=Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[-4:] == ["missed", "spurious", "merged", "split"] for line in lines)


def test_options_that_do_not_go_together_are_refused(results: Path) -> None:
    with pytest.raises(BenchError, match="needs --by image"):
        text_of(results, "a", format="csv", worst=3)
    with pytest.raises(BenchError, match="unknown --by 'fold'; known: seed, organ, image"):
        text_of(results, "a", format="csv", by="fold")
    with pytest.raises(BenchError, match="leave it out with --by organ"):
        text_of(results, "a", format="csv", by="organ", columns=["PQ"])


def test_by_seed_shows_seeds_apart(results: Path) -> None:
    for fold in (1, 2):
        write(results, record(run(fold=fold, n_splits=2, seed=1), pq=0.4, official=False))

    def rows(by: str | None) -> list[int]:
        table = pd.read_csv(io.StringIO(text_of(results, "a.csv", format="csv", by=by)))
        return table.loc[table["strategy"] == "lora_qv", "n_ok"].tolist()

    assert (rows(None), rows("seed")) == ([4], [2, 2])
