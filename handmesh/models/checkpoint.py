"""Checkpoints: safetensors with the resolved config beside them, written atomically, read strictly."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from handmesh.assets import ASSETS
from handmesh.console import warn
from handmesh.files import atomic_write, output_errors, parsed_json, sha256_of, write_bytes, write_text
from handmesh.models.mesh_net import HandNet, Mergeable, NetworkConfig

FORMAT = 1

Options = TypeVar("Options")
Network = TypeVar("Network", bound=Mergeable)


class Weights(NamedTuple):
    """A weights file: tensors by name and the dictionary that describes them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors (any device) and JSON-able metadata to a .safetensors file."""
    header = {"handmesh": json.dumps({"format": FORMAT, **metadata})}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata=header), durable=True)


def load_weights(path: Path) -> Weights:
    """Read a file of `save_weights`. Raises ValueError where it is missing, damaged or foreign."""
    path = Path(path)
    if not path.is_file():
        source = (
            "bundled weights are in a checkout and in the source distribution, not in the installed wheel"
            if path.parent == ASSETS
            else "expected a .safetensors file written by `handmesh train`"
        )
        raise ValueError(f"no weights at {path}; {source}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("handmesh")
            metadata = _metadata(path, header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable .safetensors file ({error}); copy it again") from error
    return Weights(tensors, metadata)


def _metadata(path: Path, header: str | None) -> dict[str, Any]:
    """What a weights file says of itself, with a mapping as its `config`."""
    if header is None:
        raise ValueError(f"{path} holds no handmesh metadata; expected a file written by `handmesh train`")
    try:
        metadata = parsed_json(header, "its metadata")
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or not isinstance(metadata.setdefault("config", {}), dict):
        raise ValueError(f"{path} has metadata that cannot be read; copy it again, or train it again")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} has another format than the {FORMAT} that this handmesh reads; train it again")
    return metadata


class Trained(NamedTuple):
    """A mesh network, in evaluation mode, and the config that it was trained with."""

    network: HandNet
    config: dict[str, Any]


def load_network(path: Path) -> HandNet:
    """The mesh network of a weights file, in evaluation mode; strict about names and shapes."""
    return load_trained(path).network


def load_trained(path: Path) -> Trained:
    """The same with the training's config. Raises ValueError for weights of something else."""
    path, weights = Path(path), load_weights(path)
    config = weights.metadata["config"]
    network = built(path, weights, "mesh", lambda options: HandNet(replace(options, pretrained=False)), NetworkConfig)
    try:
        fits = 0.1 <= config["box_scale"] <= 10 and isinstance(config["hand_model"], str | None)
        fits &= isinstance(config["run"]["schedule"][-1][1], int)
    except (KeyError, TypeError, IndexError):
        fits = False
    if not fits:
        raise ValueError(f"{path} does not say which boxes, hand and size of crops it was trained with; train it again")
    return Trained(network, config)


def built(path: Path, weights: Weights, task: str, make: Callable[[Options], Network], kind: type[Options]) -> Network:
    """The network that a weights file describes, with its weights, in evaluation mode.

    task: of the training; kind: of the options that its config has under `network`. Raises ValueError, which names
    the file, where the config is of another task or no such options, or where the weights do not fit it.
    """
    config = weights.metadata["config"]
    if config.get("task") != task:
        raise ValueError(f"{path} holds weights of the task {str(config.get('task'))[:40]!r}; expected {task!r}")
    try:
        network = make(_options(kind, config.get("network")))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} describes a network that cannot be built: {_line(error)}; train it again") from error
    fill(network, path, weights)
    return network.eval()


def fill(network: Mergeable, path: Path, weights: Weights, begin: bool = False) -> list[str]:
    """Give the network its weights; ValueError, which names the file, where names or shapes are others.

    begin: the network may have parts that the weights lack; they stay as they are, and their names are given. It may
    lack its `optional_parts` that the weights have.
    """
    ours, tensors = network.state_dict().keys(), weights.tensors
    if begin:
        tensors = {
            name: t for name, t in tensors.items() if name in ours or not name.startswith(network.optional_parts)
        }
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=not begin)
    except RuntimeError as error:
        raise ValueError(f"{path} holds weights of another network: {_line(error)}") from error
    if unexpected:
        raise ValueError(
            f"{path} holds weights of another network, with {unexpected[0]} and {len(unexpected) - 1} more"
        )
    return missing


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _options(kind: type[Options], values: object) -> Options:
    """The options as a config has them; ValueError where one is unknown or no such value. JSON has no tuples."""
    if not isinstance(values, dict):
        raise ValueError("its options are no mapping")
    hints, defaults = get_type_hints(kind), {field.name: field.default for field in fields(kind)}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, value in given.items():
        if name not in defaults or not _is_like(value, defaults[name], hints[name]):
            raise ValueError(f"its option {name[:40]} is unknown or has a value that cannot be")
    return kind(**given)


LARGEST_OPTION = 2048
"""No network here is wider, and a wider one would take memory without end."""


def _is_like(value: object, default: object, hint: object) -> bool:
    """Whether an option may have this value, as its default and its type have it."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(default, tuple):
        if hint == tuple[str, ...]:
            return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        same = isinstance(value, tuple) and len(value) == len(default)
        return same and all(map(_is_like, value, default, default))
    if isinstance(default, float):
        return type(value) in (int, float) and 0 <= value <= LARGEST_OPTION
    return type(value) is type(default) and (type(value) is not int or 0 < value <= LARGEST_OPTION)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (anything torch can save). Raises OutputError."""
    with output_errors(path), atomic_write(path, durable=True) as part:
        _write(part, state)


def load_state(path: Path) -> dict[str, Any]:
    """Read a file of `save_state`; only plain data and tensors are accepted. Raises ValueError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a readable training state ({reason}); remove it to start anew") from error


def _write(path: Path, state: dict[str, Any]) -> str:
    """Write a state; gives the file's SHA-256. Raises OSError, where torch alone would say what failed in C++."""
    with path.open("wb") as file:
        summed = _Summed(file)
        try:
            torch.save(state, summed)
        except RuntimeError:
            raise summed.error or RuntimeError from None
    return summed.sha256.hexdigest()


class _Summed:
    """A file to write to that adds up a checksum, and keeps the error that torch makes another of."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.error = file, hashlib.sha256(), None

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


# What a run resumes from: the last checkpoint, the one before it, and the checksums of both.


LAST, BEFORE, SUMS = "last.pt", "before.pt", "checkpoints.sha256"


def save_checkpoint(out: Path, state: dict[str, Any]) -> None:
    """Write `last.pt` into the run's folder; the one that was there becomes `before.pt`. Raises OutputError.

    A kill between any two steps leaves a whole checkpoint whose checksum is known.
    """
    last = out / LAST
    with output_errors(last), atomic_write(last, durable=True) as part:
        sum_ = _write(part, state)
        before = _sums(out) or ([sha256_of(last)] if last.exists() else [])  # of a run that kept none so far
        write_text(out / SUMS, "\n".join([*before[-2:], sum_, ""]))
        if last.exists():
            os.replace(last, out / BEFORE)


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint in a run's folder; None where there is none at all.

    One that is damaged is passed over with a warning. Raises ValueError where all are. Those of runs that kept no
    checksums are taken as they are.
    """
    found = [out / name for name in (LAST, BEFORE) if (out / name).exists()]
    for path in found:
        if not (out / SUMS).exists() or sha256_of(path) in _sums(out):
            return load_state(path)
        warn(f"{path} is damaged (its checksum is not in {SUMS}): resuming from the checkpoint before it")
    if not found:
        return None
    raise ValueError(
        f"the checkpoints in {out} are damaged: bring back a copy and remove {SUMS}, or remove them to start anew"
    )


def has_checkpoint(out: Path) -> bool:
    """Whether a run's folder holds something to resume from."""
    return any((out / name).exists() for name in (LAST, BEFORE))


def _sums(out: Path) -> list[str]:
    """The checksums of the checkpoints written last, the newest at the end."""
    try:
        return (out / SUMS).read_text(errors="replace").split()
    except FileNotFoundError:
        return []
