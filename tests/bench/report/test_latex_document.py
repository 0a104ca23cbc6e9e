"""A paper that takes tables by \\input, and figures at their own size, compiles; nothing stands beyond its margins."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import draw_plots, show_table

DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[letterpaper,margin=0.65in,columnsep=0.2in]{geometry}
\usepackage{booktabs,graphicx,longtable}
\begin{document}
\section{Results}
\begin{figure}
\includegraphics{cost.pdf}
\caption{Accuracy against cost.}
\end{figure}
\begin{figure*}
\includegraphics{organs.pdf}
\caption{PQ of each organ.}
\end{figure*}
\clearpage
\onecolumn
\input{board}
\input{organs}
Text goes on.
\end{document}
"""


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)
def test_a_document_takes_tables_and_figures(study: Path, tmp_path: Path):
    console = Console(file=io.StringIO())
    show_table(study, format="latex", output=tmp_path / "board.tex", console=console)
    show_table(study, format="latex", output=tmp_path / "organs.tex", by="organ", console=console)
    draw_plots(study, columns=1, output=tmp_path / "cost.pdf")
    draw_plots(study, kind="organs", output=tmp_path / "organs.pdf")
    (tmp_path / "chapter.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "chapter.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    printed = done.stdout.decode(errors="replace")
    assert done.returncode == 0, printed[-2000:]
    assert (tmp_path / "chapter.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in printed
    assert "Warning" not in printed
    printed = printed.replace("\n", "")  # pdflatex breaks lines within names
    assert "cost.pdf" in printed and "organs.pdf" in printed
