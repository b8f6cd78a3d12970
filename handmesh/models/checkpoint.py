"""Checkpoints: safetensors with the resolved config beside them, written atomically, read strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from handmesh.assets import ASSETS
from handmesh.files import atomic_write, output_errors, write_bytes
from handmesh.models.mesh_net import HandNet, NetworkConfig

FORMAT = 1


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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable .safetensors file ({error}); copy it again") from error
    if header is None:
        raise ValueError(f"{path} holds no handmesh metadata; expected a file written by `handmesh train`")
    return Weights(tensors, json.loads(header))


class Trained(NamedTuple):
    """A mesh network, in evaluation mode, and the config that it was trained with."""

    network: HandNet
    config: dict[str, Any]


def load_network(path: Path) -> HandNet:
    """The mesh network of a weights file, in evaluation mode; strict about names and shapes."""
    return load_trained(path).network


def load_trained(path: Path) -> Trained:
    """The same with the training's config. Raises ValueError for weights of something else."""
    weights = load_weights(path)
    config = weights.metadata.get("config", {})
    if config.get("task") != "mesh":
        raise ValueError(f"{path} holds weights of the task {config.get('task')!r}; expected 'mesh'")
    network = HandNet(NetworkConfig(**{**config["network"], "pretrained": False}))
    network.load_state_dict(weights.tensors)
    return Trained(network.eval(), config)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (anything torch can save) for resuming."""
    with output_errors(path), atomic_write(path, durable=True) as part:
        torch.save(state, part)


def load_state(path: Path) -> dict[str, Any]:
    """Read a file of `save_state`; only plain data and tensors are accepted."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a readable training state ({error}); remove it to start anew") from error
