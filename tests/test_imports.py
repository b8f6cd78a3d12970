"""Imports point down, and the import rules are those of `pyproject.toml`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_rules_hold():
    pytest.importorskip("importlinter", reason="import-linter is part of the dev extra")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_tracker_loads_no_torch_and_imports_fast():
    code = (
        "import sys, time; t = time.perf_counter(); import handmesh; s = time.perf_counter() - t\n"
        "assert s < 0.5, s\n"
        "handmesh.HandTracker.load()\n"
        "heavy = {'torch', 'timm', 'smplx', 'lightning_fabric', 'pyrender'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_page_is_built_without_torch():
    """The extra `web` brings onnx alone; `demo/web/write_networks.py` takes its graphs from there."""
    code = "import sys; sys.modules['torch'] = None; import handmesh.export.compress"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
