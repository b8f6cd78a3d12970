"""FreiHAND, synthetic shards and three further data sets train one network together, loaded by two workers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="training needs the training extra")

import torch
from coco_files import write_onehand10k
from freihand_files import write_freihand
from interhand_files import write_interhand
from rhd_files import write_rhd

from handmesh.models.checkpoint import load_weights
from handmesh.synthetic.config import GenerateConfig
from handmesh.synthetic.writer import run as write_synthetic
from handmesh.training.config import MeshConfig, read_config
from handmesh.training.engine import train
from handmesh.training.mesh import MeshTask

STEPS, BATCH = 3, 16


@pytest.fixture(scope="module")
def preset(tmp_path_factory) -> Path:
    """A preset beside its five small sources, a fifth of the samples from each."""
    root = tmp_path_factory.mktemp("five")
    write_freihand(root / "freihand", rows=1, evaluation=1, versions=1)
    write_synthetic(GenerateConfig(output=root / "shards", count=2, size=64, workers=1))
    write_interhand(root / "interhand")
    write_rhd(root / "rhd")
    write_onehand10k(root / "onehand10k")
    sets = "".join(
        f"    {name}: {{root: {root / name}, fraction: 0.2}}\n" for name in ("interhand", "rhd", "onehand10k")
    )
    (root / "preset.yaml").write_text(
        f"task: mesh\nrun: {{out: {root / 'run'}, schedule: [[{STEPS}, 64, {BATCH}]], precision: 32-true, seed: 4}}\n"
        "network: {backbone: repvit_m0_9, pretrained: false}\n"
        f"data:\n  freihand: {root / 'freihand'}\n  freihand_versions: [gs]\n  freihand_fraction: 0.2\n"
        f"  shards: [{root / 'shards'}]\n  synthetic_fraction: 0.2\n  background_fraction: 0.0\n"
        f"  workers: 2\n  sets:\n{sets}"
    )
    return root / "preset.yaml"


def test_five_sources_train_a_few_steps_with_two_workers(preset):
    config = read_config(MeshConfig, preset, ["--run.accelerator", "cpu"])
    task = MeshTask(config)
    batches = list(task.batches(0, 0, 1))
    together = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in batches[0]._fields}
    count = STEPS * BATCH
    assert len(together["image"]) == count and together["presence"].all()
    flat, no_side = count - int(together["has_joints_m"].sum()), count - int(together["has_side"].sum())
    assert 0.08 * count < no_side < 0.35 * count, "OneHand10K, whose sides nobody knows"
    assert no_side < flat < count, "OneHand10K, and crops that are mirrored the wrong way"
    assert 0 < together["has_vertices"].sum() < together["has_parameters"].sum() < together["has_joints_m"].sum()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    train(task, config.run, config.optimiser)
    after = load_weights(config.run.out / "weights.safetensors").tensors
    moved = [name for name, value in after.items() if name in before and not torch.equal(before[name], value)]
    assert len(moved) > 50 and all(torch.isfinite(value).all() for value in after.values())
