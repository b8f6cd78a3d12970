"""Trained weights as a predictor, on the CPU or a GPU. Needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from handmesh.assets import OPEN_HAND
from handmesh.checkpoint import load_trained
from handmesh.evaluation.files import sha256_of
from handmesh.evaluation.predictor import Outputs, Predictor
from handmesh.export import MeshGraph
from handmesh.hand_model import HandModel
from handmesh.runtime.benchmark import machine
from handmesh.runtime.models import Device


def open_weights(path: Path, hand_model: Path | None, device: Device, threads: int | None) -> Predictor:
    """The network of a weights file, its branches merged, with `hand_model` or the hand it was trained with."""
    network, config = load_trained(path)
    hand_file = hand_model or (Path(config["hand_model"]) if config.get("hand_model") else None)
    hand = HandModel.load(hand_file)
    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    graph = MeshGraph(network.reparameterised(), hand).eval().to(place)
    return Predictor(
        name=str(path),
        file_sha256=sha256_of(path),
        hand=f"{hand_file or 'the bundled open hand'}, {hand.num_vertices} vertices",
        hand_sha256=sha256_of(hand_file or OPEN_HAND),
        crop_size=config["run"]["schedule"][-1][1],
        box_scale=float(config["box_scale"]),
        faces=hand.faces,
        num_vertices=hand.num_vertices,
        runs_on=f"{machine()}; torch {torch.__version__}, {_described(place)}",
        run=lambda crops: _run(graph, crops, place),
    )


def torch_device(device: Device) -> torch.device:
    """The device of that name; 'auto' takes a GPU where there is one. ValueError where torch has none."""
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if has_gpu else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not has_gpu):
        offered = "auto, cpu, cuda" if has_gpu else "auto, cpu"
        raise ValueError(f"weights run on {offered} here, not on {device!r}; for others export them to .onnx first")
    return torch.device(device)


def _described(place: torch.device) -> str:
    if place.type == "cuda":
        return f"{torch.cuda.get_device_name(place)}, float32"
    return f"cpu, {torch.get_num_threads()} threads, float32"


@torch.inference_mode()
def _run(graph: MeshGraph, crops: np.ndarray, place: torch.device) -> Outputs:
    outputs = graph(torch.from_numpy(crops).to(place))
    return {name: value.float().cpu().numpy() for name, value in outputs._asdict().items() if value is not None}
