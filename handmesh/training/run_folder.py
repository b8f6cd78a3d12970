"""A run's folder: who may write there, the config that it was begun with, and which weights are kept in it."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

from handmesh.files import make_folder, remove_parts, write_text
from handmesh.models import checkpoint
from handmesh.training.config import RunConfig, as_plain, read_mapping

LOCK_WAIT_S = 20.0
"""Loader workers of a run that was killed hold on to its folder for some seconds."""


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
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


def write_run_files(config: dict[str, Any], out: Path) -> None:
    """config.yaml and commit.txt. Raises ValueError where a run with another config is in the way.

    config: the resolved one, as plain values. What of it does not touch the weights may have changed.
    """
    remove_parts(out)
    text, path = yaml.safe_dump(config, sort_keys=False), out / "config.yaml"
    if (
        checkpoint.has_checkpoint(out)
        and path.exists()
        and _resumable(read_mapping(path)) != _resumable(yaml.safe_load(text))
    ):
        raise ValueError(
            f"{out} holds a run with another config ({path}); choose another --run.out, or restore the config to "
            f"resume. Only these may change: {', '.join(f'run.{name}' for name in FREE)}"
        )
    write_text(path, text)
    write_text(out / "commit.txt", _commit() or "not a git checkout\n")


FREE = (
    "schedule", "checkpoint_every", "validate_every", "log_every", "keep_every", "best", "best_is", "wandb",
)  # fmt: skip
"""Of a run's config, what may change where it is resumed: it can be lengthened, and watched and kept otherwise."""


def _resumable(values: dict[str, Any]) -> dict[str, Any]:
    """What must not change of a config.yaml between a run and its resumption. Options that came later have defaults."""
    run = values.get("run")
    if not isinstance(run, dict):
        return values
    whole = as_plain(RunConfig()) | run
    return values | {"run": {name: value for name, value in whole.items() if name not in FREE}}


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    except OSError:  # git is not installed
        return ""


AVERAGE, BEST, KEPT = "average.safetensors", "best.safetensors", "kept"


class Keeper:
    """Which of a run's averaged weights stay: the newest, those of every so many steps, and the best by a metric."""

    def __init__(self, run: RunConfig, config: dict[str, Any]) -> None:
        """config: the resolved one, as plain values; it goes into every file. What a former run left counts."""
        self._run, self._config = run, config
        self._best = math.inf
        if run.best and (run.out / BEST).exists():
            said = checkpoint.load_weights(run.out / BEST).metadata.get("best")
            if isinstance(said, dict) and (said.get("metric"), said.get("is")) == (run.best, run.best_is):
                self._best = self._cost(float(said["value"]))

    def newest(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Those of a running training can be tried at any time."""
        self.write(self._run.out / AVERAGE, weights, steps)

    def kept(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Beside all others of their kind: `kept/step_001000.safetensors`."""
        make_folder(self._run.out / KEPT)
        self.write(self._run.out / KEPT / f"step_{steps:06d}.safetensors", weights, steps)

    def validated(self, weights: Mapping[str, Tensor], steps: int, metrics: Mapping[str, float]) -> None:
        """Replace the best where these are better. Raises ValueError for a metric that validation does not give."""
        name = self._run.best
        if name is None:
            return
        if name not in metrics:
            raise ValueError(f"run.best: no metric {name!r} in the validation; choose one of {', '.join(metrics)}")
        cost = self._cost(metrics[name])
        if cost < self._best:  # false for what is no number
            self._best = cost
            said = {"metric": name, "is": self._run.best_is, "value": metrics[name]}
            self.write(self._run.out / BEST, weights, steps, best=said)

    def write(self, path: Path, weights: Mapping[str, Tensor], steps: int, **more: object) -> None:
        """A weights file with the run's config. Raises OutputError."""
        checkpoint.save_weights(path, dict(weights), {"config": self._config, "steps": steps, **more})

    def _cost(self, value: float) -> float:
        return value if self._run.best_is == "lowest" else -value


# `handmesh train average`: one set of weights from several of a run.


@dataclass(frozen=True)
class AverageOptions:
    """Average weights over checkpoints: of one run's kept ones, or of runs that began from the same weights.

    Such an average is often better than any of its parts (Izmailov et al., Averaging weights leads to wider optima,
    2018). The statistics of batch normalisation are averaged as well.
    """

    weights: tyro.conf.Positional[tuple[Path, ...]]
    """Files of `handmesh train` to average, such as runs/mesh/kept/*.safetensors; the last one's config goes along."""
    output: Path
    """The .safetensors file to write."""


def average_weights(options: AverageOptions) -> None:
    """Write the mean of several weights files. Raises ValueError where they are not of one network."""
    files, output = options.weights, options.output
    if len(files) < 2:
        raise ValueError(f"at least two weights files to average were expected, {len(files)} came")
    if output.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got --output {output}")
    read = [checkpoint.load_weights(path) for path in files]
    described = [_network_of(weights) for weights in read]
    for path, weights, network in zip(files, read, described, strict=True):
        shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
        if network != described[0] or shapes != {name: tensor.shape for name, tensor in read[0].tensors.items()}:
            raise ValueError(f"{path} holds another network than {files[0]}: only weights of one network have a mean")
    mean = {name: _mean([weights.tensors[name] for weights in read]) for name in read[0].tensors}
    make_folder(output.parent)
    checkpoint.save_weights(output, mean, read[-1].metadata | {"averaged": [str(path) for path in files]})
    print(f"wrote {output}: the mean of {len(files)} files")


def _network_of(weights: checkpoint.Weights) -> tuple[object, ...]:
    config = weights.metadata["config"]
    return tuple(config.get(name) for name in ("task", "network", "box_scale", "hand_model"))


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Of whole numbers, which count batches, the largest."""
    stacked = torch.stack(list(tensors))
    if not stacked.is_floating_point():
        return stacked.amax(0)
    return stacked.double().mean(0).to(stacked.dtype)
