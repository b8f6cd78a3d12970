"""The files of a benchmark's folder."""

from __future__ import annotations

import io
from pathlib import Path

from handmesh.checkpoint import write_atomically
from handmesh.evaluation.backbones.plots import write_plots
from handmesh.evaluation.backbones.report import markdown, write_csv
from handmesh.evaluation.backbones.results import Results


def write_files(results: Results) -> list[Path]:
    """Write table, figures and plots beside the results' own file; gives the paths of all."""
    path = results.path
    table = io.StringIO()
    write_csv(table, results)
    texts = {path.with_suffix(".csv"): table.getvalue(), path.with_suffix(".md"): markdown(results)}
    for file, text in texts.items():
        write_atomically(file, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
    plots = [path.with_suffix(".png"), path.with_suffix(".svg")]
    write_plots(plots, results)
    return [path, *texts, *plots]
