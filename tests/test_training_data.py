"""scripts/training_data.mk makes whatever the recipes of the shipped weights are trained on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GIVEN = ("data/photos/", "data/backgrounds", "data/teachers/")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "--file", str(ROOT / "scripts" / "training_data.mk"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def folders_of(value: object) -> set[str]:
    """The paths under data/ that a config names."""
    if isinstance(value, dict):
        return set().union(*map(folders_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(folders_of, value))
    return {value} if isinstance(value, str) and value.startswith("data/") else set()


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with what the makefile needs, all of it empty."""
    shown = folders_of(yaml.safe_load((ROOT / "configs" / "mesh.yaml").read_text()))
    folders = [path for path in shown if path.startswith("data/photos/")]
    for path in (*folders, "data/backgrounds", "data/skins", "data/hdri", "data/teachers"):
        (tmp_path / path).mkdir(parents=True)
    for name in ("body.png", "teachers/hand_landmark_full.onnx", "teachers/palm_detection_full.onnx"):
        (tmp_path / "data" / name).touch()
    return tmp_path


@pytest.mark.parametrize("task", ["mesh", "detector"])
def test_what_a_recipe_is_trained_on_is_made(given, task):
    wanted = folders_of(yaml.safe_load((ROOT / "configs" / f"{task}.yaml").read_text()))
    done = make("--dry-run", task, folder=given)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    made = {words[k + 1] for k, word in enumerate(words) if word == "--output"}
    assert {path for path in wanted if not path.startswith(GIVEN)} <= made


def test_what_is_missing_is_named(given):
    (given / "data" / "body.png").unlink()
    assert "there is no data/body.png" in make("detector", "HANDMESH=true", folder=given).stdout
