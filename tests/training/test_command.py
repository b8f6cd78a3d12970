"""`handmesh train` before a training: where values come from, and a look at what would be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")

import cv2  # noqa: E402
from freihand_files import read_list, write_freihand, write_list  # noqa: E402

from handmesh.cli import main  # noqa: E402
from handmesh.training.dry_run import COLUMNS, HEAD_PX, TILE_PX  # noqa: E402


@pytest.fixture
def presets(tmp_path, monkeypatch) -> Path:
    """A preset on another one in a folder above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sizes").mkdir()
    Path("base.yaml").write_text("task: mesh\nrun: {seed: 3, channels_last: true}\nlosses: {mask: 0.5, presence: 2}\n")
    Path("sizes/small.yaml").write_text("base: ../base.yaml\nrun: {seed: 4}\nnetwork: {segmentation: true}\n")
    return Path("sizes/small.yaml")


def explained(capsys, *words: str) -> dict[str, tuple[str, str]]:
    """By name, the value and where it comes from."""
    assert main(["train", *words, "--explain"]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines() if "[[" not in line]
    return {name: (value, origin) for name, value, origin in rows}


def test_every_value_is_explained(presets, capsys):
    found = explained(capsys, str(presets), "--run.no-channels-last", "--losses.presence=1", "--run.seed", "5")
    assert found["run.seed"] == ("5", "command line (over sizes/small.yaml, base.yaml)")
    assert found["run.channels_last"] == ("false", "command line (over base.yaml)")
    assert found["losses.presence"] == ("1.0", "command line (over base.yaml)")
    assert found["losses.mask"] == ("0.5", "base.yaml")
    assert found["network.segmentation"] == ("true", "sizes/small.yaml")
    assert found["losses.joints_2d"] == ("4.0", "default") and found["data.freihand"] == ("null", "default")
    assert not Path("runs").exists()


def test_a_detectors_preset_is_explained_too(tmp_path, capsys):
    (tmp_path / "detector.yaml").write_text("task: detector\nthreshold: 0.4\n")
    found = explained(capsys, str(tmp_path / "detector.yaml"))
    assert found["threshold"][0] == "0.4" and found["run.out"] == ("runs/detector", "default")


def test_what_training_would_refuse_is_refused(presets, capsys):
    assert main(["train", str(presets), "--run.sede", "5", "--explain"]) == 2
    assert "seed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def freihand(tmp_path_factory) -> Path:
    return write_freihand(tmp_path_factory.mktemp("dry") / "freihand", rows=4, evaluation=1, versions=4)


def dry_run(freihand: Path, out: Path, *more: str) -> int:
    preset = Path("configs/freihand/repvit_m0_9.yaml")
    small = [
        "--run.schedule",
        "40",
        "64",
        "2",
        "60",
        "32",
        "4",
        "--run.precision",
        "32-true",
        "--run.accelerator",
        "cpu",
    ]
    small += ["--network.no-pretrained", "--hand-model", "None", "--data.workers", "0", "--validation-size", "1"]
    return main(
        ["train", str(preset), *small, "--data.freihand", str(freihand), "--run.out", str(out), *more, "--dry-run"]
    )


def test_a_dry_run_of_a_sound_set_says_what_there_is_and_how_long_it_takes(freihand, tmp_path, capsys):
    assert dry_run(freihand, tmp_path) == 0
    said = capsys.readouterr().out
    assert "freihand: 90.9 % of the crops" in said and "beside freihand: 9.1 % of the crops" in said
    assert "joints in space lie" in said and "right hands: 100 %" in said and "no mistake found" in said
    assert "40 steps of 2 crops of 64 px: " in said and "60 steps of 4 crops of 32 px: " in said and "hours" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dry_run.png"]
    image = cv2.imread(str(tmp_path / "dry_run.png"))
    assert image.shape == (2 * (HEAD_PX + TILE_PX), COLUMNS * TILE_PX, 3)


def test_a_dry_run_names_a_mistake_and_ends_with_1(freihand, tmp_path, capsys):
    for path in freihand.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "training_xyz.json").unlink()
    write_list(tmp_path, "training", "xyz", (1000 * np.array(read_list(freihand, "training", "xyz"))).tolist())
    assert dry_run(tmp_path, tmp_path / "run", "--data.augment.wrong-side", "0") == 1
    said = capsys.readouterr().out
    assert "MISTAKE, wrong units: hands of joints_m are" in said and "in millimetres" in said
    assert "`handedness` learns nothing" in said and "`presence` learns nothing" not in said
    assert cv2.imread(str(tmp_path / "run" / "dry_run.png"))[5, -5].tolist() == [40, 40, 150], "its name is on red"


def test_a_metric_that_is_none_is_found_before_the_training(freihand, tmp_path, capsys):
    assert dry_run(freihand, tmp_path, "--run.best", "mpjpe") == 1
    message = capsys.readouterr().err
    assert "run.best: no metric 'mpjpe' in the validation; choose one of freihand/error_2d, " in message
