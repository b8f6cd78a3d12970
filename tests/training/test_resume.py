"""The real training, small: killed at any step and started again, it gives the weights of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")

from handmesh.models.checkpoint import load_checkpoint, load_weights  # noqa: E402
from handmesh.synthetic.config import GenerateConfig  # noqa: E402
from handmesh.synthetic.writer import write  # noqa: E402
from handmesh.training.config import MeshConfig, read_config  # noqa: E402
from handmesh.training.engine import train  # noqa: E402
from handmesh.training.mesh import MeshTask  # noqa: E402

ROOT = Path(__file__).parents[2]
HANDMESH = [sys.executable, "-m", "handmesh"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """A dozen synthetic samples."""
    folder = tmp_path_factory.mktemp("shards")
    write(GenerateConfig(folder, count=12, size=96, workers=1))
    return folder


def _preset(shards: Path, out: Path) -> Path:
    preset = out.parent / "tiny.yaml"
    preset.write_text(
        "task: mesh\nrun: {schedule: [[3, 64, 4], [3, 96, 2]], checkpoint_every: 1, precision: 32-true, "
        f"accelerator: cpu}}\ndata: {{shards: ['{shards}'], workers: 0}}\n"
    )
    return preset


def _command(shards: Path, out: Path) -> list[str]:
    return [*HANDMESH, "train", str(_preset(shards, out)), "--run.out", str(out)]


def test_a_killed_run_resumes_to_the_same_weights(shards, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    config = read_config(MeshConfig, _preset(shards, whole), ["--run.out", str(whole)])
    train(MeshTask(config), config.run, config.optimiser)
    victim = subprocess.Popen(_command(shards, killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600  # on a busy machine
    while not (killed / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.kill()
    victim.wait()
    assert not (killed / "weights.safetensors").exists()
    assert 0 < load_checkpoint(killed)["step"] < 6
    subprocess.run(_command(shards, killed), cwd=ROOT, check=True, capture_output=True)
    # the run's folder is part of the config, the tensors are not
    ours, theirs = (load_weights(out / "weights.safetensors").tensors for out in (killed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path):
    run = subprocess.run(
        [*HANDMESH, "train", str(tmp_path / "nothing.yaml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and "nothing.yaml" in run.stderr
