"""The training loop, the same for every task, alone or in several processes; it can be killed anywhere."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
import torch
import torch.distributed as dist
import yaml
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from handmesh.console import BAD_USAGE
from handmesh.data.loader import stage_at
from handmesh.files import make_folder, remove_parts, write_text
from handmesh.models import checkpoint
from handmesh.training.config import MeshConfig, OptimiserConfig, RunConfig, read_config, read_mapping, task_of


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(count: Tensor) -> Tensor:
    """The mean of a count over the processes, without gradient.

    A sum over one's own samples divided by it gives, averaged over the processes as gradients are,
    the mean over all samples.
    """
    if processes() == 1:
        return count
    total = count.detach().clone()
    dist.all_reduce(total)
    return total / processes()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    backward = forward


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' batches, on any device.

    torch's own `SyncBatchNorm` knows no CPU. Every process must hold equally many samples.
    """

    def forward(self, image: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(image)
        return _normalised_together(self, image)


class SyncedBatchNormAct2d(BatchNormAct2d):
    """The same with timm's activation after it."""

    def forward(self, image: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(image)
        return self.act(self.drop(_normalised_together(self, image)))


def _normalised_together(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    """The training forward pass of `norm`, with sums over all processes."""
    count = image.shape[0] * image.shape[2] * image.shape[3] * processes()
    x = image.float()
    mean = _Sum.apply(x.sum((0, 2, 3))) / count
    centred = x - mean[:, None, None]
    variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean += norm.momentum * (mean - norm.running_mean)
        norm.running_var += norm.momentum * (variance * count / (count - 1) - norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(image.dtype)


_SYNCED = {nn.BatchNorm2d: SyncedBatchNorm2d, BatchNormAct2d: SyncedBatchNormAct2d}


def synchronise_batch_norm(network: nn.Module, device_type: str) -> nn.Module:
    """Let the batch normalisations in `network` share their statistics; weights and their names stay."""
    if device_type == "cuda":  # torch's own is fused there
        return convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) in _SYNCED:
            module.__class__ = _SYNCED[type(module)]
    return network


# The training loop, the same for every task: it reads from top to bottom and can be killed anywhere.


class Task(Protocol):
    """What a run trains: a model, its batches and losses, and how to look at it."""

    model: nn.Module
    plain_config: dict[str, Any]

    def batches(self, start: int, rank: int, world: int) -> Iterable[Any]:
        """This process's batches from a step on, one a step."""

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Weighted losses by name; their sum is minimised."""

    def deployed(self, model: nn.Module) -> nn.Module:
        """The part of the model, or of its average, that is kept: begun from, validated and written at the end."""

    def validate(self, model: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
        """Metrics of a deployed part by name and, if there is one, an image (H, W, 3) uint8."""


class NonFiniteLoss(ArithmeticError):
    """The loss became infinite or not a number; the batch was saved."""


def train(task: Task, run: RunConfig, optimiser: OptimiserConfig) -> Path:
    """Train to the end of the schedule, resuming what `run.out` holds; gives the weights' path.

    The folder has `average.safetensors`, the averaged weights so far, from the first checkpoint on.
    """
    fabric = Fabric(accelerator=run.accelerator, devices=run.devices, num_nodes=run.num_nodes, precision=run.precision)
    fabric.launch()
    try:
        _check_processes(fabric, run)
        with _alone(run.out) if fabric.is_global_zero else nullcontext():
            return _train(fabric, task, run, optimiser)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _check_processes(fabric: Fabric, run: RunConfig) -> None:
    """Raise ValueError where fewer or more processes were started than the config names."""
    wanted = run.devices * run.num_nodes
    if wanted != fabric.world_size and run.devices > 0:
        by = "SLURM" if "SLURM_NTASKS" in os.environ else "what started this program"
        remedy = "srun, with a task for each device, or unset SLURM_NTASKS" if by == "SLURM" else "torchrun"
        raise ValueError(
            f"{run.num_nodes} nodes of {run.devices} devices need {wanted} processes, and {by} made it "
            f"{fabric.world_size}: start it with {remedy}"
        )


LOCK_WAIT_S = 20.0
"""Loader workers of a run that was killed hold on to its folder for some seconds."""


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder, until this process ends in whatever way. Raises ValueError, OutputError."""
    make_folder(out)
    lock = FileLock(out / "run.lock", timeout=LOCK_WAIT_S)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another process trains in {out}: wait for its end, or choose another --run.out") from None
    try:
        yield
    finally:
        lock.release()


def _train(fabric: Fabric, task: Task, run: RunConfig, config: OptimiserConfig) -> Path:
    fabric.seed_everything(run.seed, verbose=False)
    total = sum(stage.steps for stage in run.stages)
    network, model, optimiser = prepare(fabric, task, run, config)
    average = AveragedModel(network, multi_avg_fn=_ema(config.ema_decay), use_buffers=True)
    start = _resume(fabric, task, run, network, average, optimiser)
    pace = Pace()
    log = SummaryWriter(run.out) if fabric.is_global_zero else None
    with _progress(fabric) as progress:
        bar = progress.add_task("training", total=total, completed=start, loss="")
        for step, batch in enumerate(task.batches(start, fabric.global_rank, fabric.world_size), start):
            torch.manual_seed(run.seed * 1_000_003 + step)  # dropout does not depend on where a run was cut
            _set_rate(optimiser, learning_rate(step, total, config))
            losses = take_step(fabric, task, model, optimiser, fabric.to_device(batch), config, run.out)
            average.update_parameters(network)
            pace.count(stage_at(run.stages, step).batch)
            done = step + 1
            progress.update(bar, completed=done)
            if log and step % run.log_every == 0:
                rate = pace.samples_per_s()
                _log_losses(log, losses, optimiser, step)
                log.add_scalar("samples_per_s", rate, step)
                said = f"loss {sum(losses.values()):.4f}, {rate:.0f} samples/s"
                progress.update(bar, loss=said)
                if not progress.console.is_terminal and step % (10 * run.log_every) == 0:
                    print(f"step {step} of {total}: {said}", flush=True)
            if log and (done % run.checkpoint_every == 0 or done == total):
                checkpoint.save_checkpoint(run.out, _state(done, network, average, optimiser))
                _save_average(run.out / "average.safetensors", task, average, done)
            if log and (done % run.validate_every == 0 or done == total):
                _validate(log, task, task.deployed(average.module), done)
    path = run.out / "weights.safetensors"
    if fabric.is_global_zero:
        _save_average(path, task, average, total)
        log.close()
    return path


class Pace:
    """Samples a second since it was last asked, validations and checkpoints included."""

    def __init__(self) -> None:
        self._begin, self._samples = time.perf_counter(), 0

    def count(self, samples: int) -> None:
        self._samples += samples

    def samples_per_s(self) -> float:
        """The rate since the last call; counts anew."""
        now = time.perf_counter()
        rate = self._samples / max(now - self._begin, 1e-9)
        self._begin, self._samples = now, 0
        return rate


def _save_average(path: Path, task: Task, average: AveragedModel, steps: int) -> None:
    """The averaged weights: those of a running training can be tried at any time."""
    weights = task.deployed(average.module).state_dict()
    checkpoint.save_weights(path, weights, {"config": task.plain_config, "steps": steps})


class Prepared(NamedTuple):
    """What a step takes: the network, the same as Fabric wraps it, and what moves its weights."""

    network: nn.Module
    model: nn.Module
    optimiser: torch.optim.Optimizer


def prepare(fabric: Fabric, task: Task, run: RunConfig, config: OptimiserConfig) -> Prepared:
    """The task's model on its device, in its memory format, with its optimiser."""
    network = task.model
    if fabric.world_size > 1:
        network = synchronise_batch_norm(network, fabric.device.type)
    if run.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Prepared(network, *fabric.setup(network, _optimiser(network, config)))


def take_step(
    fabric: Fabric, task: Task, model: nn.Module, optimiser: torch.optim.Optimizer, batch: Any,
    config: OptimiserConfig, out: Path,
) -> dict[str, float]:  # fmt: skip
    """One step on one batch; gives its losses. Raises NonFiniteLoss, with the batch written to `out`."""
    model.train()
    with fabric.autocast():
        losses = task.losses(model, batch)
    total = sum(losses.values())
    if mean_over_processes((~torch.isfinite(total)).float()) > 0:  # all stop where one must
        _report_non_finite(losses, batch, out / f"non_finite_batch_{fabric.global_rank}.pt")
    optimiser.zero_grad(set_to_none=True)
    fabric.backward(total)
    fabric.clip_gradients(model, optimiser, max_norm=config.clip_norm)
    optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def _report_non_finite(losses: dict[str, Tensor], batch: Any, path: Path) -> NoReturn:
    values = ", ".join(f"{name} {value.detach():.3g}" for name, value in losses.items())
    if all(value.isfinite() for value in losses.values()):
        raise NonFiniteLoss(f"the loss is not finite in another process (here: {values})")
    checkpoint.save_state(path, {"batch": list(batch)})
    remedy = "Lower the learning rate or check the labels of this batch"
    raise NonFiniteLoss(f"the loss is not finite ({values}); the batch is in {path}. {remedy}")


def _optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """AdamW that decays matrices and filters only, not biases and normalisation."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # Fused: all parameters in one call, which takes a twentieth of a step less on a CPU.
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), eps=config.epsilon, fused=True)


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then down to 1 % of the peak as `config.decay` says."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * step / total))
    else:
        left = min(1.0, 10 * (1 - step / total))
    return config.learning_rate * warm * (0.01 + 0.99 * left)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _ema(decay: float):
    """An exponential average that starts short, so that early weights are forgotten."""

    def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        warm = (1.0 + float(count)) / (10.0 + float(count))
        get_ema_multi_avg_fn(min(decay, warm))(average, current, count)

    return update


def _state(step: int, network: nn.Module, average: AveragedModel, optimiser: torch.optim.Optimizer) -> dict:
    return {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }


def _resume(
    fabric: Fabric, task: Task, run: RunConfig, network: nn.Module, average: AveragedModel,
    optimiser: torch.optim.Optimizer,
) -> int:  # fmt: skip
    """Load what a former run left in the folder, or begin one; gives the step to go on from."""
    if fabric.is_global_zero:
        _write_run_files(task, run.out)
    fabric.barrier()
    state = checkpoint.load_checkpoint(run.out)
    if state is not None:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        return state["step"]
    if run.init:
        checkpoint.fill(task.deployed(network), run.init, checkpoint.load_weights(run.init))
        average.module.load_state_dict(network.state_dict())
    return 0


def _write_run_files(task: Task, out: Path) -> None:
    """config.yaml and commit.txt. Raises ValueError where a run with another config is in the way.

    The schedule may have changed: a run can be lengthened.
    """
    remove_parts(out)
    text, path = yaml.safe_dump(task.plain_config, sort_keys=False), out / "config.yaml"
    if (
        checkpoint.has_checkpoint(out)
        and path.exists()
        and _resumable(read_mapping(path)) != _resumable(yaml.safe_load(text))
    ):
        raise ValueError(
            f"{out} holds a run with another config ({path}); choose another --run.out, or restore the config to "
            "resume. Only run.schedule may change"
        )
    write_text(path, text)
    write_text(out / "commit.txt", _commit() or "not a git checkout\n")


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    except OSError:  # git is not installed
        return ""


def _resumable(values: dict[str, Any]) -> dict[str, Any]:
    """What must not change of a config.yaml between a run and its resumption."""
    run = values.get("run")
    if not isinstance(run, dict):
        return values
    return values | {"run": {name: value for name, value in run.items() if name != "schedule"}}


def _log_losses(log: SummaryWriter, losses: dict[str, float], optimiser: torch.optim.Optimizer, step: int) -> None:
    for name, value in losses.items():
        log.add_scalar(f"loss/{name}", value, step)
    log.add_scalar("learning_rate", optimiser.param_groups[0]["lr"], step)


def _validate(log: SummaryWriter, task: Task, network: nn.Module, step: int) -> None:
    network.eval()
    with torch.no_grad():
        metrics, image = task.validate(network)
    for name, value in metrics.items():
        log.add_scalar(f"validation/{name}", value, step)
    if image is not None:
        log.add_image("overlays", image, step, dataformats="HWC")
    print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)


def _progress(fabric: Fabric) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[loss]}"), disable=not fabric.is_global_zero)


HELP = """usage: handmesh train PRESET.yaml [OPTIONS]

Train a network from a preset. The run's folder takes the resolved config, the commit, a TensorBoard log with
overlay images, the checkpoints `last.pt` and `before.pt` and, at the end, `weights.safetensors`. Started again with
the same config, a run that was killed goes on from its last checkpoint.

`handmesh train PRESET.yaml --help` lists what can be changed, as in `--run.out runs/mine`."""


def main(words: Sequence[str]) -> int:
    """`handmesh train`: train the network that a preset describes, with changes to it; the exit code."""
    if not words or not words[0].endswith((".yaml", ".yml")):
        print(f"{HELP}\nPresets: {', '.join(map(str, sorted(Path('configs').glob('*.yaml')))) or 'none in configs/'}.")
        return 0 if words and words[0] in ("-h", "--help") else BAD_USAGE
    preset, changes = Path(words[0]), words[1:]
    kind = task_of(preset)
    if kind == "mesh":
        from handmesh.training.mesh import MeshTask as Task

        config = read_config(MeshConfig, preset, changes)
    elif kind == "detector":
        from handmesh.training.detector import DetectionTask as Task
        from handmesh.training.detector import DetectorConfig

        config = read_config(DetectorConfig, preset, changes)
    else:
        raise ValueError(f"{preset} names the task '{kind}'; expected one of mesh, detector")
    print(f"wrote {train(Task(config), config.run, config.optimiser)}")
    return 0
