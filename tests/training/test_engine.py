"""A run that was killed goes on to the weights of an undisturbed one; bad numbers stop a run cleanly."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
timm = pytest.importorskip("timm", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")
from lightning_fabric import Fabric  # noqa: E402

from handmesh.files import OutputError  # noqa: E402
from handmesh.models.checkpoint import (  # noqa: E402
    load_checkpoint,
    load_state,
    load_weights,
    save_checkpoint,
    save_weights,
)
from handmesh.models.mesh_net import Mergeable  # noqa: E402
from handmesh.training import run_folder  # noqa: E402
from handmesh.training.config import (  # noqa: E402
    DEFAULT_LOSSES,
    MeshConfig,
    OptimiserConfig,
    RunConfig,
    read_config,
    read_preset,
)
from handmesh.training.detector import DetectorConfig  # noqa: E402
from handmesh.training.engine import NonFiniteLoss, StepLosses, learning_rate, prepare, train  # noqa: E402

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
        return StepLosses({"square": (model(batch)[:, 0] - batch.sum(1)).square().mean()})

    def deployed(self, model):
        return model

    def validate(self, model):
        return {"weight": float(next(model.parameters()).mean())}, None


def run_config(out: Path, devices: int = 1) -> RunConfig:
    fixed = {"precision": "32-true", "checkpoint_every": 5, "accelerator": "cpu"}
    return RunConfig(out=out, schedule=((STEPS, 0, 16),), devices=devices, **fixed)


def _train(out: Path, kill_at: int | None = None, method: str = "adamw") -> None:
    torch.set_num_threads(1)
    train(ToyTask(kill_at), run_config(out), OptimiserConfig(method=method))


@pytest.mark.parametrize(("kill_at", "method"), [(1, "adamw"), (5, "adamw"), (8, "adamw"), (8, "muon")])
def test_killed_and_resumed_equals_undisturbed(tmp_path, kill_at, method):
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    context.set_forkserver_preload(["handmesh.training.engine"])  # imported once for all victims
    victim = context.Process(target=_train, args=(tmp_path / "killed", kill_at, method))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    _train(tmp_path / "killed", method=method)
    _train(tmp_path / "whole", method=method)
    ours, theirs = (load_weights(tmp_path / name / "weights.safetensors").tensors for name in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class TwoParts(Mergeable):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = torch.nn.Linear(8, 4), torch.nn.Linear(4, 1)

    def forward(self, values):
        return self.head(self.backbone(values))


@pytest.mark.parametrize(
    ("network", "other"), [({"backbone": "small"}, True), ({"backbone": "large"}, False), ({}, False), ([], False)]
)
def test_weights_of_another_backbone_begin_the_rest_alone(tmp_path, capsys, network, other):
    given = tmp_path / "given.safetensors"
    tensors = {name: torch.ones_like(tensor) for name, tensor in TwoParts().state_dict().items()}
    save_weights(given, tensors, {"config": {"network": network}})
    task = ToyTask(steps=1)
    task.model, task.plain_config["network"] = TwoParts(), {"backbone": "large"}
    own = task.model.backbone.weight.detach().clone()
    run = dataclasses.replace(run_config(tmp_path / "run"), init=given, schedule=((1, 0, 16),))
    train(task, run, OptimiserConfig(learning_rate=1e-9, warmup_steps=0))
    begun = load_weights(tmp_path / "run/weights.safetensors").tensors
    assert torch.allclose(begun["head.weight"], torch.ones(1, 4), atol=1e-5)
    assert torch.allclose(begun["backbone.weight"], own if other else torch.ones(4, 8), atol=1e-5)
    assert other == ("has small for a backbone: large begins with what is not of it" in capsys.readouterr().out)


def test_muon_makes_steps_orthogonal_where_channels_are_mixed_and_there_alone(tmp_path):
    task = ToyTask()
    task.model = torch.nn.Sequential(torch.nn.Conv2d(6, 12, 1), torch.nn.Conv2d(12, 12, 3, groups=12))
    plain = OptimiserConfig(method="muon", learning_rate=0.01, weight_decay=0.0)
    network, _, optimiser = prepare(Fabric(accelerator="cpu", devices=1), task, run_config(tmp_path), plain)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    optimiser.step()
    mixing, *others = (now.detach() - then for now, then in zip(network.parameters(), before, strict=True))
    lengths = torch.linalg.svdvals(mixing[:, :, 0, 0])
    assert lengths.min() > 0.5 * lengths.max()
    assert all(torch.allclose(step.abs(), step.abs().max(), rtol=1e-3) for step in others), "AdamW's first step"


def test_a_fastvit_in_channels_last_on_a_cpu_is_refused(tmp_path):
    """The process would end in the first backward pass, without a word."""
    task, run = ToyTask(), dataclasses.replace(run_config(tmp_path), channels_last=True)
    prepare(Fabric(accelerator="cpu", devices=1), task, run, OptimiserConfig())
    task.model = timm.create_model("fastvit_t8")
    with pytest.raises(ValueError, match=r"FastViT.* --run.no-channels-last"):
        prepare(Fabric(accelerator="cpu", devices=1), task, run, OptimiserConfig())


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


def doubled(depth: int, empty: str, twice: str) -> str:
    """Values of which each has the one before twice, by aliases: 2 ** depth to whoever goes through them."""
    lines = [f"a0: &a0 {empty}", *(f"a{k + 1}: &a{k + 1} {twice.format(k)}" for k in range(depth))]
    return "\n".join(lines)


BAD_YAML = {
    "a list": ("- 1\n- 2\n", "a mapping .* was expected, a list came"),
    "a number": ("7", "a mapping .* was expected, a int came"),
    "a base that is a list": ("base: [1]", "a base that is no path but a list"),
    "its own base": ("base: preset.yaml", "is its own base: preset.yaml -> preset.yaml"),
    "a base that is not there": ("base: other.yaml", "cannot read .*other.yaml"),
    "no YAML": ("run: {seed: 7", "cannot read"),
    "no text": (b"\xff\xfe\x00", "cannot read"),
    "endless lists": (doubled(60, "[1]", "[*a{0}, *a{0}]"), "more than 100,000 values"),
    "endless mappings": (doubled(60, "{{x: 1}}".format(), "{{x: *a{0}, y: *a{0}}}"), "more than 100,000 values"),
    "a list of itself": ("a: &a [*a]", "more than 100,000 values"),
    "numbers as names": ("run: {1: 2}", "another name than a word"),
    "nesting": ("[" * 100_000, "cannot read"),
    "too much": ("# " + "x" * 2_000_000, "more than 1,000,000 bytes"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_presets_that_are_none_are_one_line(tmp_path, case):
    content, expected = BAD_YAML[case]
    path = tmp_path / "preset.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=expected) as caught:
        read_preset(path)
    assert "\n" not in str(caught.value) and ".yaml" in str(caught.value)


def test_a_value_takes_the_place_of_another_kind_in_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("run: 3\nlosses: {mask: 1}\n")
    (tmp_path / "preset.yaml").write_text("base: base.yaml\nrun: {seed: 7}\nlosses: 2\n")
    assert read_preset(tmp_path / "preset.yaml") == {"run": {"seed": 7}, "losses": 2}


@pytest.mark.parametrize("content", ["", "- 1\n", "run: [1, 2]\n", "{"])
def test_a_damaged_config_in_a_runs_folder_is_a_line(tmp_path, content):
    _train(tmp_path)
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"another config|cannot read .*config\.yaml"):
        _train(tmp_path)


def test_a_run_can_be_lengthened_while_its_rate_is_constant(tmp_path):
    short, longer = (dataclasses.replace(run_config(tmp_path), schedule=((steps, 0, 16),)) for steps in (10, STEPS))
    optimiser = OptimiserConfig(decay="last-tenth", warmup_steps=2)
    rates = [learning_rate(step, 100, optimiser) for step in range(100)]
    assert rates[2:91] == pytest.approx([optimiser.learning_rate] * 89) and rates[-1] < 0.12 * optimiser.learning_rate
    train(ToyTask(steps=10), short, optimiser)
    train(ToyTask(), longer, optimiser)
    assert load_state(tmp_path / "last.pt")["step"] == STEPS


# --- what a run finds in its folder ---


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def state_of(step: int) -> dict:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(tmp_path, capsys):
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, state_of(step))
    assert load_checkpoint(tmp_path)["step"] == 15
    flip_a_bit(tmp_path / "last.pt")
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 15  # torch itself sees nothing
    assert load_checkpoint(tmp_path)["step"] == 10
    assert "last.pt is damaged" in capsys.readouterr().err
    flip_a_bit(tmp_path / "before.pt")
    with pytest.raises(ValueError, match=r"^the checkpoints in .* are damaged: .*$"):
        load_checkpoint(tmp_path)


def test_a_damaged_run_resumes_to_the_weights_of_an_undisturbed_one(tmp_path):
    _train(tmp_path / "whole")
    _train(tmp_path / "damaged")
    flip_a_bit(tmp_path / "damaged" / "last.pt")
    _train(tmp_path / "damaged")
    ours, theirs = (load_weights(tmp_path / name / "weights.safetensors").tensors for name in ("damaged", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("step", ["replace", "write_text"])
def test_a_kill_while_a_checkpoint_is_written_leaves_one_to_resume_from(tmp_path, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    for number in (5, 10):
        save_checkpoint(tmp_path, state_of(number))
    with monkeypatch.context() as patched:
        target = {"replace": "os.replace", "write_text": "handmesh.models.checkpoint.write_text"}[step]
        patched.setattr(target, killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, state_of(15))
    assert load_checkpoint(tmp_path)["step"] == 10


def test_a_run_without_checksums_resumes_and_gets_them(tmp_path):
    """As runs of former versions left it."""
    save_checkpoint(tmp_path, state_of(5))
    (tmp_path / "checkpoints.sha256").unlink()
    assert load_checkpoint(tmp_path)["step"] == 5
    save_checkpoint(tmp_path, state_of(10))
    flip_a_bit(tmp_path / "last.pt")
    assert load_checkpoint(tmp_path)["step"] == 5


def test_two_runs_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "LOCK_WAIT_S", 0.1)

    class Meeting(ToyTask):
        def batches(self, start, rank, world):
            with pytest.raises(ValueError, match=r"^another process trains in .*: wait for its end, or choose .*$"):
                _train(tmp_path)
            return super().batches(start, rank, world)

    train(Meeting(), run_config(tmp_path), OptimiserConfig())
    assert load_state(tmp_path / "last.pt")["step"] == STEPS


def test_without_git_and_after_killed_writers_a_run_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    left = tmp_path / f"last.pt.{2**22 + 1}-1.part"  # no process has such a number
    left.write_bytes(b"half a checkpoint")
    _train(tmp_path)
    assert (tmp_path / "commit.txt").read_text() == "not a git checkout\n"
    assert not left.exists()


@pytest.mark.parametrize("before", [None, 5])
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tmp_path, before):
    resource = pytest.importorskip("resource", reason="limits as POSIX has them")
    if before:
        save_checkpoint(tmp_path, state_of(before))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*last\.pt: File too large$"):
            save_checkpoint(tmp_path, state_of(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.glob("*.part"))
    assert (load_checkpoint(tmp_path) or {}).get("step") == before


HALF_A_SLURM = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "77", "JOB_NAME": "train"}


def test_two_devices_in_one_process_are_refused(tmp_path, monkeypatch):
    """As where a batch script of one task starts a training without `srun`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    for name, value in HALF_A_SLURM.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(ValueError, match="need 2 processes, and SLURM made it 1: start it with srun"):
        train(ToyTask(), run_config(tmp_path, devices=2), OptimiserConfig())
    assert not (tmp_path / "last.pt").exists()
