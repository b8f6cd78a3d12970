"""The training loop, the same for every task, alone or in several processes; it can be killed anywhere."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from timm.optim import Muon
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from handmesh.data.loader import stage_at
from handmesh.models import checkpoint
from handmesh.training.config import OptimiserConfig, RunConfig
from handmesh.training.distributed import mean_over_processes, synchronise_batch_norm
from handmesh.training.log import RunLog
from handmesh.training.run_folder import Keeper, alone_in, write_run_files


class StepLosses(NamedTuple):
    """What a task says of a batch."""

    weighted: dict[str, Tensor]  # by name; their sum is minimised
    by_source: Callable[[], dict[str, float]] | None = None  # the same, to be logged: `source/name` to its own mean


class Task(Protocol):
    """What a run trains: a model, its batches and losses, and how to look at it."""

    model: nn.Module
    plain_config: dict[str, Any]

    def batches(self, start: int, rank: int, world: int) -> Iterable[Any]:
        """This process's batches from a step on, `run.accumulate` a step."""

    def losses(self, model: nn.Module, batch: Any) -> StepLosses:
        """Weighted losses by name."""

    def deployed(self, model: nn.Module) -> nn.Module:
        """The part of the model, or of its average, that is kept: begun from, validated and written at the end."""

    def validate(self, model: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
        """Metrics of a deployed part by name and, if there is one, an image (H, W, 3) uint8."""


class NonFiniteLoss(ArithmeticError):
    """The loss became infinite or not a number; the batch was saved."""


def train(task: Task, run: RunConfig, optimiser: OptimiserConfig) -> Path:
    """Train to the end of the schedule, resuming what `run.out` holds; gives the weights' path.

    The folder has `average.safetensors`, the averaged weights so far, from the first checkpoint on, and what else
    `run` asks to be kept.
    """
    fabric = Fabric(accelerator=run.accelerator, devices=run.devices, num_nodes=run.num_nodes, precision=run.precision)
    fabric.launch()
    try:
        _check_processes(fabric, run)
        with alone_in(run.out) if fabric.is_global_zero else nullcontext():
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


def _train(fabric: Fabric, task: Task, run: RunConfig, config: OptimiserConfig) -> Path:
    fabric.seed_everything(run.seed, verbose=False)
    total = sum(stage.steps for stage in run.stages)
    network, model, optimiser = prepare(fabric, task, run, config)
    average = AveragedModel(network, multi_avg_fn=_ema(config.ema_decay), use_buffers=True)
    start = _resume(fabric, task, run, network, average, optimiser)
    watch = Watch(task, run, average, start, total) if fabric.is_global_zero else None
    with watch or nullcontext():
        batches = task.batches(start, fabric.global_rank, fabric.world_size)
        for step, parts in enumerate(_in_steps(batches, run.accumulate), start):
            torch.manual_seed(run.seed * 1_000_003 + step)  # dropout does not depend on where a run was cut
            _set_rate(optimiser, learning_rate(step, total, config))
            taken = take_step(fabric, task, model, optimiser, parts, config, run.out)
            average.update_parameters(network)
            if watch:
                watch.took(step, taken, optimiser.param_groups[0]["lr"])
                if watch.is_due(step + 1, run.checkpoint_every):
                    checkpoint.save_checkpoint(run.out, _state(step + 1, network, average, optimiser))
                watch.keep(step + 1)
    path = run.out / "weights.safetensors"
    if watch:
        watch.keeper.write(path, watch.weights(), total)
    return path


def _in_steps(batches: Iterable[Any], parts: int) -> Iterator[list[Any]]:
    """The batches of each step."""
    endless = iter(batches)
    while step := list(islice(endless, parts)):
        yield step


class Watch:
    """What the first process tells of a run, and keeps of it, besides what it resumes from."""

    def __init__(self, task: Task, run: RunConfig, average: AveragedModel, start: int, total: int) -> None:
        """Raises ValueError where the log that `run` asks for cannot be kept."""
        self._task, self._run, self._average, self._total = task, run, average, total
        self.keeper = Keeper(run, task.plain_config)
        self._log = RunLog(run.out, task.plain_config, run.wandb)
        self._pace = Pace()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[loss]}"))
        self._bar = self._progress.add_task("training", total=total, completed=start, loss="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._log.close()

    def weights(self) -> Mapping[str, Tensor]:
        """The averaged ones of what is deployed."""
        return self._task.deployed(self._average.module).state_dict()

    def is_due(self, done: int, every: int) -> bool:
        """Whether something that is done every so many steps, and at the end, is to be done after `done` of them."""
        return done == self._total or (every > 0 and done % every == 0)

    def took(self, step: int, taken: Step, rate: float) -> None:
        """Log a step, now and then."""
        every = self._run.log_every
        self._pace.count(stage_at(self._run.stages, step).batch)
        self._progress.update(self._bar, completed=step + 1)
        if step % every:
            return
        per_s = self._pace.samples_per_s()
        values = {f"loss/{name}": value for name, value in taken.losses.items()}
        values |= {f"loss_by_source/{name}": value for name, value in taken.by_source().items()}
        values |= {"gradient_norm": taken.gradient_norm, "learning_rate": rate, "samples_per_s": per_s}
        self._log.scalars(values, step)
        said = f"loss {sum(taken.losses.values()):.4f}, {per_s:.0f} samples/s"
        self._progress.update(self._bar, loss=said)
        if not self._progress.console.is_terminal and step % (10 * every) == 0:
            print(f"step {step} of {self._total}: {said}", flush=True)

    def keep(self, done: int) -> None:
        """Weights and metrics, where they are due after `done` steps."""
        if self.is_due(done, self._run.checkpoint_every):
            self.keeper.newest(self.weights(), done)
        if self._run.keep_every and self.is_due(done, self._run.keep_every):
            self.keeper.kept(self.weights(), done)
        if self.is_due(done, self._run.validate_every):
            self.keeper.validated(self.weights(), done, self._validate(done))

    def _validate(self, done: int) -> dict[str, float]:
        metrics, image = validate(self._task, self._average.module)
        self._log.scalars({f"validation/{name}": value for name, value in metrics.items()}, done)
        if image is not None:
            self._log.image("overlays", image, done)
        print(f"step {done}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True)
        return metrics


def validate(task: Task, model: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
    """What `task` finds of the deployed part of its model, or of an average of it, in evaluation mode."""
    network = task.deployed(model).eval()
    with torch.no_grad():
        return task.validate(network)


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


class Prepared(NamedTuple):
    """What a step takes: the network, the same as Fabric wraps it, and what moves its weights."""

    network: nn.Module
    model: nn.Module
    optimiser: torch.optim.Optimizer


_FASTVIT = "timm.models.fastvit"


def prepare(fabric: Fabric, task: Task, run: RunConfig, config: OptimiserConfig) -> Prepared:
    """The task's model on its device, in its memory format, with its optimiser."""
    network = task.model
    on_gpu = fabric.device.type == "cuda"
    if fabric.world_size > 1 and (run.synchronise_norm == "on" or (run.synchronise_norm == "auto" and on_gpu)):
        network = synchronise_batch_norm(network, fabric.device.type)
    if run.channels_last:
        if fabric.device.type == "cpu" and any(type(part).__module__ == _FASTVIT for part in network.modules()):
            raise ValueError(
                "run.channels_last ends a FastViT's training on a CPU without a word, for the present torch crashes. "
                "Switch it off: --run.no-channels-last"
            )
        network = network.to(memory_format=torch.channels_last)
    return Prepared(network, *fabric.setup(network, _optimiser(network, config)))


class Step(NamedTuple):
    """What came of a step."""

    losses: dict[str, float]  # means over its parts
    gradient_norm: float  # before it was clipped
    by_source: Callable[[], dict[str, float]]  # of the last part; see `StepLosses`


def take_step(
    fabric: Fabric, task: Task, model: nn.Module, optimiser: torch.optim.Optimizer, parts: Sequence[Any],
    config: OptimiserConfig, out: Path,
) -> Step:  # fmt: skip
    """One step on a batch in equal parts. Raises NonFiniteLoss, with the part written to `out`."""
    model.train()
    optimiser.zero_grad(set_to_none=True)
    means: dict[str, float] = {}
    for number, part in enumerate(parts, 1):
        batch = fabric.to_device(part)
        with fabric.no_backward_sync(model, enabled=number < len(parts)):
            with fabric.autocast():
                losses = task.losses(model, batch)
            total = sum(losses.weighted.values())
            if mean_over_processes((~torch.isfinite(total)).float()) > 0:  # all stop where one must
                _report_non_finite(losses.weighted, batch, out / f"non_finite_batch_{fabric.global_rank}.pt")
            fabric.backward(total / len(parts))
        for name, value in losses.weighted.items():
            means[name] = means.get(name, 0.0) + float(value.detach()) / len(parts)
    norm = fabric.clip_gradients(model, optimiser, max_norm=config.clip_norm)
    optimiser.step()
    return Step(means, float(norm), losses.by_source or dict)


def _report_non_finite(losses: dict[str, Tensor], batch: Any, path: Path) -> NoReturn:
    values = ", ".join(f"{name} {value.detach():.3g}" for name, value in losses.items())
    if all(value.isfinite() for value in losses.values()):
        raise NonFiniteLoss(f"the loss is not finite in another process (here: {values})")
    checkpoint.save_state(path, {"batch": list(batch)})
    remedy = "Lower the learning rate or check the labels of this batch"
    raise NonFiniteLoss(f"the loss is not finite ({values}); the batch is in {path}. {remedy}")


def _optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """AdamW, or Muon for the filters that mix channels and AdamW for the rest; biases and norms do not decay."""

    def parameters(chosen: Callable[[nn.Parameter], bool], decay: float, **options: Any) -> dict[str, Any]:
        return {"params": [p for p in network.parameters() if chosen(p)], "weight_decay": decay, **options}

    plain = parameters(lambda p: p.ndim <= 1, 0.0)
    if config.method == "muon":
        mixing = parameters(lambda p: p.ndim > 1 and p.shape[1] > 1, config.weight_decay)
        by_channel = parameters(lambda p: p.ndim > 1 and p.shape[1] == 1, config.weight_decay, use_fallback=True)
        groups = [mixing, by_channel, plain | {"use_fallback": True}]
        return Muon(groups, lr=config.learning_rate, nesterov=True, betas=(0.9, 0.99), eps=config.epsilon)
    groups = [parameters(lambda p: p.ndim > 1, config.weight_decay), plain]
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


def _beginning(fabric: Fabric, path: Path, config: dict[str, Any]) -> checkpoint.Weights:
    """The weights of a file to begin a training with; without their backbone where the training's is another."""
    weights = checkpoint.load_weights(path)
    theirs, ours = (_backbone(each) for each in (weights.metadata["config"], config))
    if theirs in (None, ours):
        return weights
    fabric.print(f"{path} has {theirs} for a backbone: {ours} begins with what is not of it")
    kept = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith("backbone.")}
    return weights._replace(tensors=kept)


def _backbone(config: dict[str, Any]) -> str | None:
    """Which one a training's config names; None where it has no network to name one of."""
    network = config.get("network")
    return network.get("backbone") if isinstance(network, dict) else None


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
        write_run_files(task.plain_config, run.out)
    fabric.barrier()
    state = checkpoint.load_checkpoint(run.out)
    if state is not None:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        return state["step"]
    if run.init:
        weights = _beginning(fabric, run.init, task.plain_config)
        new = checkpoint.fill(task.deployed(network), run.init, weights, begin=True)
        if new:
            parts = sorted({name.rsplit(".", 2)[0] for name in new})
            more = f" and {len(parts) - 8} more parts" if len(parts) > 8 else ""
            fabric.print(f"{run.init} knows nothing of {', '.join(parts[:8])}{more}")
        average.module.load_state_dict(network.state_dict())
    return 0
