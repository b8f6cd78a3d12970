"""The notebook runs from its first cell to its last, with the package's public names and commands alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are run by the dev extra: pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run by the dev extra: pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="notebooks are run by the dev extra: pip install ipykernel")
pytest.importorskip("lightning_fabric", reason="the notebook trains: pip install -e '.[train]'")
pytest.importorskip("matplotlib", reason="the notebook draws: pip install -e '.[train]'")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_steps.ipynb"
OUT = '"outputs/first_steps"'
LONGEST_S = 600  # a cell, on a machine that does other things too; a quiet one takes a minute for all
SCRIPTS = Path(sys.executable).parent


def test_a_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.skipif(not (SCRIPTS / "handmesh").exists(), reason="the command is not installed: pip install -e .")
def test_first_steps_go_from_a_picture_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(SCRIPTS), prepend=os.pathsep)  # its commands are this environment's
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # and run this package
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(OUT, repr(str(tmp_path)))
    nbclient.NotebookClient(
        notebook, timeout=LONGEST_S, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    said, pictures = told(notebook)
    assert "right hand, score" in said and "left hand, score" in said
    assert "no mistake found" in said and f"wrote {tmp_path}/run/weights.safetensors" in said
    assert "joints, aligned (PA-MPJPE)" in said and pictures == 5
    assert {"hand.glb", "twin", "run", "report"} <= {path.name for path in tmp_path.iterdir()}


def told(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """What its cells print or show as text, and how many pictures they show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") for output in outputs] + [data.get("text/markdown", "") for data in shown]
    return "".join(texts), sum("image/jpeg" in data for data in shown)
