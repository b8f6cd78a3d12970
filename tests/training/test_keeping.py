"""What a run keeps and tells on its way: parts of a step, the best and kept weights, averages, figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")

from freihand_files import write_freihand  # noqa: E402
from test_engine import STEPS, ToyTask, run_config  # noqa: E402

from handmesh.console import guarded  # noqa: E402
from handmesh.models.checkpoint import load_weights, save_weights  # noqa: E402
from handmesh.training.command import main  # noqa: E402
from handmesh.training.config import MeshConfig, OptimiserConfig, RunConfig, read_config  # noqa: E402
from handmesh.training.engine import StepLosses, prepare, train  # noqa: E402
from handmesh.training.mesh import MeshTask  # noqa: E402

SIZE = 16


class PlainTask(ToyTask):
    """A regression without what looks at several samples at once, whose batches come in parts."""

    def __init__(self, parts: int = 1, metrics: tuple[float, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, SIZE), torch.nn.GELU(), torch.nn.Linear(SIZE, 1))
        self.parts, self.metrics = parts, list(metrics)

    def batches(self, start, rank, world):
        for batch in super().batches(start, rank, world):
            yield from batch.chunk(self.parts)

    def validate(self, model):
        return {"error": self.metrics.pop(0) if self.metrics else 1.0}, None


def trained(out: Path, task: ToyTask, **run: object) -> dict[str, torch.Tensor]:
    return load_weights(train(task, replace(run_config(out), **run), OptimiserConfig(warmup_steps=1))).tensors


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def test_a_step_in_parts_is_the_step(tmp_path):
    whole = trained(tmp_path / "whole", PlainTask())
    parts = trained(tmp_path / "parts", PlainTask(parts=4), accumulate=4)
    assert farthest(parts, whole) < 1e-6
    begun = dict(PlainTask().model.named_parameters())
    assert farthest({name: whole[name] for name in begun}, {n: p.detach() for n, p in begun.items()}) > 1e-3


@pytest.mark.parametrize("setting", ["--run.accumulate 0", "--run.keep-every -1"])
def test_numbers_that_cannot_be_are_refused(setting, tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("task: mesh\n")
    with pytest.raises((SystemExit, ValueError)):
        read_config(MeshConfig, preset, setting.split())


@pytest.mark.parametrize("best_is, expected", [("lowest", 9), ("highest", 6)])
def test_the_best_weights_stay(tmp_path, best_is, expected):
    """Of four validations; what is no number is never the best."""
    task = PlainTask(metrics=(float("nan"), 5.0, 2.0, 3.0))
    trained(tmp_path, task, validate_every=3, best="error", best_is=best_is, keep_every=3)
    best = load_weights(tmp_path / "best.safetensors")
    assert best.metadata["steps"] == expected
    assert best.metadata["best"] == {"metric": "error", "is": best_is, "value": 2.0 if expected == 9 else 5.0}
    assert farthest(best.tensors, load_weights(tmp_path / "kept" / f"step_{expected:06d}.safetensors").tensors) == 0


def test_a_resumed_run_knows_its_best(tmp_path):
    lengthened = {"schedule": ((STEPS + 3, 0, 16),), "validate_every": 3, "best": "error"}
    trained(tmp_path, PlainTask(metrics=(5.0, 2.0, 3.0, 4.0)), **lengthened | {"schedule": ((STEPS, 0, 16),)})
    more = PlainTask(metrics=(2.5,))
    more.steps = STEPS + 3
    trained(tmp_path, more, **lengthened)
    assert load_weights(tmp_path / "best.safetensors").metadata["best"]["value"] == 2.0
    assert load_weights(tmp_path / "weights.safetensors").metadata["steps"] == STEPS + 3


def test_a_metric_that_there_is_not_is_named_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"^run\.best: no metric 'mpjpe' in the validation; choose one of error$"):
        trained(tmp_path, PlainTask(), best="mpjpe", validate_every=3)


def test_weights_are_kept_every_so_many_steps_and_their_mean_is_one_command(tmp_path, capsys):
    trained(tmp_path, PlainTask(), keep_every=4)
    kept = sorted(map(str, (tmp_path / "kept").iterdir()))
    assert [Path(path).name for path in kept] == [f"step_{step:06d}.safetensors" for step in (4, 8, 12)]
    assert main(["average", *kept, "--output", str(tmp_path / "mean" / "mean.safetensors")]) == 0
    mean, parts = load_weights(tmp_path / "mean" / "mean.safetensors"), [load_weights(path) for path in kept]
    for name, tensor in mean.tensors.items():
        expected = np.mean([part.tensors[name].double().numpy() for part in parts], axis=0)
        np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-7)
    assert mean.metadata["averaged"] == kept and mean.metadata["config"] == parts[-1].metadata["config"]


def test_only_weights_of_one_network_have_a_mean(tmp_path, capsys):
    for name, width in (("one", 3), ("two", 3), ("wide", 4)):
        save_weights(tmp_path / f"{name}.safetensors", {"w": torch.ones(width)}, {"config": {"task": "mesh"}})
    save_weights(tmp_path / "other.safetensors", {"w": torch.ones(3)}, {"config": {"task": "detector"}})
    output = ["--output", str(tmp_path / "mean.safetensors")]
    for names, said in ((("one", "wide"), "another network"), (("one", "other"), "another network"), (("one",), "two")):
        files = [str(tmp_path / f"{name}.safetensors") for name in names]
        assert guarded(lambda: main(["average", *files, *output])) == 1  # noqa: B023
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1
    assert not (tmp_path / "mean.safetensors").exists()


def test_counts_of_batches_stay_whole_numbers(tmp_path):
    files = []
    for k in (1, 2):
        files.append(str(tmp_path / f"{k}.safetensors"))
        save_weights(Path(files[-1]), {"w": torch.full((2,), float(k)), "count": torch.tensor(10 * k)}, {"config": {}})
    main(["average", *files, "--output", str(tmp_path / "mean.safetensors")])
    mean = load_weights(tmp_path / "mean.safetensors").tensors
    assert mean["w"].tolist() == [1.5, 1.5] and mean["count"].item() == 20 and not mean["count"].is_floating_point()


def test_what_does_not_touch_the_weights_may_change_and_new_options_do_not_stop_an_old_run(tmp_path):
    trained(tmp_path, PlainTask())
    config = tmp_path / "config.yaml"
    config.write_text("task: toy\nrun: {schedule: 12}\n")  # as before there were such options
    more = PlainTask()
    more.plain_config = {"task": "toy", "run": {"schedule": 12, "keep_every": 4, "best": "error", "accumulate": 1}}
    trained(tmp_path, more)
    more.plain_config = {"task": "toy", "run": {"schedule": 12, "accumulate": 2}}
    with pytest.raises(ValueError, match=r"another config .*Only these may change: run\.schedule, .*run\.wandb"):
        trained(tmp_path, more)


# --- figures ---


class FakeWandb(SimpleNamespace):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__(begun=[], logged=[], finished=0, Image=lambda image: image.shape)

    def init(self, **how: object) -> None:
        self.begun.append(how)

    def log(self, values: dict[str, object], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_hears_what_tensorboard_does(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_PROJECT", "hands")
    trained(tmp_path, PlainTask(), wandb=True, log_every=5, validate_every=6)
    (begun,) = wandb.begun
    assert (begun["project"], begun["name"], begun["resume"]) == ("hands", tmp_path.name, "allow")
    assert begun["config"] == {"task": "toy", "run": {"schedule": STEPS}} and wandb.finished == 1
    assert [step for step, values in wandb.logged if "gradient_norm" in values] == [0, 5, 10]
    assert [values for step, values in wandb.logged if step == 6] == [{"validation/error": 1.0}]
    trained(tmp_path, PlainTask(), wandb=True)
    assert wandb.begun[1]["id"] == begun["id"], "a resumed run goes on in the same curves"


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"^run\.wandb needs the package 'wandb': pip install wandb, or leave .*$"):
        trained(tmp_path, PlainTask(), wandb=True)


def figures(out: Path) -> dict[str, float]:
    """The first value of each curve in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(out))
    found.Reload()
    return {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}


def test_the_gradients_norm_is_logged_before_it_is_clipped(tmp_path):
    class Steep(PlainTask):
        def losses(self, model, batch):
            return StepLosses({"steep": 3.0 * next(model.parameters()).sum()})

    train(Steep(), run_config(tmp_path), OptimiserConfig(clip_norm=0.1))
    assert figures(tmp_path)["gradient_norm"] == pytest.approx(3 * (8 * SIZE) ** 0.5, rel=1e-5)


@pytest.fixture(scope="module")
def mesh_preset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mesh")
    write_freihand(folder / "freihand", rows=4, evaluation=1, versions=1)
    path = folder / "preset.yaml"
    path.write_text(
        "task: mesh\nrun: {schedule: [[1, 64, 8]], precision: 32-true, accelerator: cpu}\n"
        f"data: {{freihand: '{folder}/freihand', freihand_versions: [gs], background_fraction: 0.5, workers: 0}}\n"
        "validation_size: 1\n"
    )
    return path


def test_losses_of_each_source_are_logged_and_make_up_the_whole(mesh_preset, tmp_path):
    config = read_config(MeshConfig, mesh_preset, ["--run.out", str(tmp_path)])
    task = MeshTask(config)
    (batch,) = task.batches(0, 0, 1)
    names = [mixed.name for mixed in task.sources]
    hands = float((batch.source == 0).sum())
    assert names == ["freihand", "beside freihand"] and 0 < hands < 8
    torch.testing.assert_close(batch.presence, (batch.source == 0).float())
    train(task, config.run, config.optimiser)
    found = figures(tmp_path)
    whole = {name: found[f"loss/{name}"] for name in ("joints_2d", "joints_3d", "presence")}
    ours, beside = ({name: found[f"loss_by_source/{source}/{name}"] for name in whole} for source in names)
    for name in ("joints_2d", "joints_3d"):  # only the hands have these
        assert ours[name] == pytest.approx(whole[name], rel=1e-4) and beside[name] == 0
    mean = (hands * ours["presence"] + (8 - hands) * beside["presence"]) / 8
    assert mean == pytest.approx(whole["presence"], rel=1e-4)


def test_parts_of_a_batch_are_the_batch(mesh_preset):
    config = read_config(MeshConfig, mesh_preset)
    (whole,) = MeshTask(config).batches(0, 0, 1)
    task = MeshTask(replace(config, run=replace(config.run, accumulate=4)))
    parts = list(task.batches(0, 0, 1))
    assert [len(part.image) for part in parts] == [2] * 4
    for k, part in enumerate(parts):
        assert torch.equal(part.image, whole.image[k::4]) and torch.equal(part.joints_crop, whole.joints_crop[k::4])
    assert len(list(task.batches(1, 0, 1))) == 0
    with pytest.raises(ValueError, match=r"batch of 8 cannot be shared equally by 1 processes in 3 parts each"):
        MeshTask(replace(config, run=replace(config.run, accumulate=3))).batches(0, 0, 1)


@pytest.mark.parametrize(
    "setting, device, shared",
    [("auto", "cpu", False), ("auto", "cuda", True), ("on", "cpu", True), ("off", "cuda", False)],
)
def test_processes_share_batch_statistics_on_gpus_alone_unless_told(setting, device, shared):
    task = ToyTask()
    task.model[1] = torch.nn.BatchNorm2d(16)
    fabric = SimpleNamespace(world_size=2, device=torch.device(device), setup=lambda *given: given)
    prepared = prepare(fabric, task, RunConfig(synchronise_norm=setting), OptimiserConfig())
    assert ("Sync" in type(prepared.network[1]).__name__) == shared
