"""A run that was killed goes on to the weights of an undisturbed one; bad numbers stop a run cleanly."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")

from handmesh.models.checkpoint import load_state, load_weights  # noqa: E402
from handmesh.training.config import (  # noqa: E402
    DEFAULT_LOSSES,
    MeshConfig,
    OptimiserConfig,
    RunConfig,
    read_config,
    read_preset,
)
from handmesh.training.detector import DetectorConfig  # noqa: E402
from handmesh.training.engine import NonFiniteLoss, learning_rate, train  # noqa: E402

STEPS = 12


class ToyTask:
    """A regression with dropout and batch normalisation, whose batches depend on the step alone."""

    def __init__(self, kill_at: int | None = None, spoil_at: int | None = None, steps: int = STEPS) -> None:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)]
        self.model = torch.nn.Sequential(*layers)
        self.plain_config = {"task": "toy", "run": {"schedule": steps}}
        self.kill_at, self.spoil_at, self.steps = kill_at, spoil_at, steps

    def batches(self, start, rank, world):
        for step in range(start, self.steps):
            if step == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            generator = torch.Generator().manual_seed(step)
            batch = torch.randn(16, 8, generator=generator)
            yield batch * float("nan") if step == self.spoil_at else batch

    def losses(self, model, batch):
        return {"square": (model(batch)[:, 0] - batch.sum(1)).square().mean()}

    def deployed(self, model):
        return model

    def validate(self, model):
        return {"weight": float(model[0].weight.mean())}, None


def run_config(out: Path, devices: int = 1) -> RunConfig:
    fixed = {"precision": "32-true", "checkpoint_every": 5, "accelerator": "cpu"}
    return RunConfig(out=out, schedule=((STEPS, 0, 16),), devices=devices, **fixed)


def _train(out: Path, kill_at: int | None = None) -> None:
    torch.set_num_threads(1)
    train(ToyTask(kill_at), run_config(out), OptimiserConfig())


@pytest.mark.parametrize("kill_at", [1, 5, 8])
def test_killed_and_resumed_equals_undisturbed(tmp_path, kill_at):
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    context.set_forkserver_preload(["handmesh.training.engine"])  # imported once for all victims
    victim = context.Process(target=_train, args=(tmp_path / "killed", kill_at))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    _train(tmp_path / "killed")
    _train(tmp_path / "whole")
    ours, theirs = (load_weights(tmp_path / name / "weights.safetensors").tensors for name in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_loss_that_is_not_a_number_saves_its_batch_and_stops(tmp_path):
    with pytest.raises(NonFiniteLoss, match="not finite"):
        train(ToyTask(spoil_at=7), run_config(tmp_path), OptimiserConfig())
    (batch,) = [load_state(tmp_path / "non_finite_batch_0.pt")["batch"]]
    assert torch.isnan(batch[0]).all()
    assert load_state(tmp_path / "last.pt")["step"] == 5


def test_a_folder_with_another_config_is_refused(tmp_path):
    _train(tmp_path)
    other = ToyTask()
    other.plain_config = {"task": "toy", "more": 1}
    with pytest.raises(ValueError, match="another config"):
        train(other, run_config(tmp_path), OptimiserConfig())


def test_presets_are_validated(tmp_path, capsys):
    preset = tmp_path / "preset.yaml"
    preset.write_text(
        "run: {seed: 7, channels_last: true, schedule: [[5, 64, 8], [2, 96, 4]]}\nlosses: {handedness: 0.5}\n"
    )
    config = read_config(MeshConfig, preset, ["--optimiser.learning-rate", "0.5"])
    assert (config.run.seed, config.run.channels_last, config.optimiser.learning_rate) == (7, True, 0.5)
    assert config.run.stages[1].crop_size == 96
    assert config.losses == {**DEFAULT_LOSSES, "handedness": 0.5}
    preset.write_text("run:\n  sede: 7\n")
    with pytest.raises(SystemExit):
        read_config(MeshConfig, preset)
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize("preset", sorted(Path("configs").rglob("*.yaml")), ids=str)
def test_shipped_presets_parse(preset):
    read_config(DetectorConfig if read_preset(preset).get("task") == "detector" else MeshConfig, preset)


def test_a_run_can_be_lengthened_while_its_rate_is_constant(tmp_path):
    short, longer = (dataclasses.replace(run_config(tmp_path), schedule=((steps, 0, 16),)) for steps in (10, STEPS))
    optimiser = OptimiserConfig(decay="last-tenth", warmup_steps=2)
    rates = [learning_rate(step, 100, optimiser) for step in range(100)]
    assert rates[2:91] == pytest.approx([optimiser.learning_rate] * 89) and rates[-1] < 0.12 * optimiser.learning_rate
    train(ToyTask(steps=10), short, optimiser)
    train(ToyTask(), longer, optimiser)
    assert load_state(tmp_path / "last.pt")["step"] == STEPS
