"""One function from crops to hands, whether an exported graph or trained weights stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from handmesh.evaluation.files import sha256_of
from handmesh.runtime.backend import Session, default_threads, open_session
from handmesh.runtime.benchmark import machine
from handmesh.runtime.models import Device
from handmesh.runtime.tracker import model_path

Outputs = dict[str, np.ndarray]
"""The mesh network's outputs by name, B hands of each (see `backend.MESH_OUTPUTS`), without the faces."""


@dataclass(frozen=True)
class Predictor:
    """A mesh network, ready to look at crops."""

    name: str  # of the model, for people
    file_sha256: str
    hand: str  # which hand model gives the mesh, for people
    hand_sha256: str  # '' where it is a part of the file
    crop_size: int
    box_scale: float  # a crop's side in sides of the tight box, as in training
    faces: np.ndarray  # (F, 3) int32, outward
    num_vertices: int
    runs_on: str  # machine, runtime and device, for people
    run: Callable[[np.ndarray], Outputs]  # (B, S, S, 3) uint8, S = crop_size, any B

    def __call__(self, crops: np.ndarray, batch: int) -> Outputs:
        """(M, S, S, 3) uint8 RGB crops, at most `batch` of them at a time, to the outputs of all."""
        parts = [self.run(crops[start : start + batch]) for start in range(0, len(crops), batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def each(outputs: Outputs) -> Iterator[Outputs]:
    """The outputs of one hand after the other, as batches of one."""
    count = len(next(iter(outputs.values())))
    return ({name: value[i : i + 1] for name, value in outputs.items()} for i in range(count))


def open_predictor(
    model: str, hand_model: Path | None = None, device: Device = "auto", threads: int | None = None
) -> Predictor:
    """A bundled network by name, an exported .onnx, or weights.safetensors of a run.

    hand_model: a converted MANO .npz in place of the hand that the weights were trained with; an
    exported graph has its hand inside. Raises ValueError (or FileNotFoundError) for what cannot be
    opened, ImportError where weights need torch.
    """
    if Path(model).suffix == ".safetensors":
        from handmesh.evaluation.torch_predictor import open_weights

        return open_weights(Path(model), hand_model, device, threads)
    if hand_model is not None:
        raise ValueError(f"--hand-model is for weights (.safetensors): {model} is an exported graph with its own hand")
    return _open_graph(model, device, threads)


def _open_graph(model: str, device: Device, threads: int | None) -> Predictor:
    path = model_path(model)
    session = open_session(path, "mesh", threads, device)
    height, width = session.input_size
    if height != width:
        raise ValueError(f"{path} takes {height}x{width} crops; expected a square")
    runtime = f"ONNX Runtime {onnxruntime.__version__}, {session.provider}, {threads or default_threads()} threads"
    return Predictor(
        name=str(model),
        file_sha256=sha256_of(path),
        hand="inside the exported graph",
        hand_sha256="",
        crop_size=height,
        box_scale=float(session.metadata["box_scale"]),
        faces=session.constants["faces"],
        num_vertices=len(session.constants["hand_template"]),
        runs_on=f"{machine()}; {runtime}",
        run=lambda crops: _run_graph(session, crops),
    )


def _run_graph(session: Session, crops: np.ndarray) -> Outputs:
    """An exported graph takes one crop at a time."""
    parts = [session.run(crop[None]) for crop in crops]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
