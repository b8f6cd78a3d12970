"""Opens exported networks in ONNX Runtime, and says in one line what is wrong with a file that is not one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnxruntime

from handmesh.runtime.models import ModelFileError

Kind = Literal["mesh", "detector"]
Device = Literal["auto", "cpu", "cuda", "coreml", "directml"]

FORMAT = 1
"""The version of the exported files that this code reads."""

METADATA_KEY = "handmesh"

MESH_OUTPUTS = ("vertices_m", "joints_m", "joints_crop", "rotations", "shape", "presence", "right", "spread", "faces")

_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


class Session:
    """A network that is ready to run: pictures in, named arrays out."""

    def __init__(self, inference: onnxruntime.InferenceSession, metadata: dict[str, object]) -> None:
        (only_input,) = inference.get_inputs()
        self._inference = inference
        self._input_name = only_input.name
        self._output_names = [output.name for output in inference.get_outputs()]
        self.metadata = metadata
        self.input_size: tuple[int, int] = tuple(only_input.shape[1:3])
        """(height, width) of the pictures that the network takes."""
        self.provider: str = inference.get_providers()[0]
        """ONNX Runtime's name for what it runs on."""

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """(1, H, W, 3) uint8 RGB, as large as `input_size`, through the network: its outputs by name."""
        outputs = self._inference.run(self._output_names, {self._input_name: image_nhwc})
        return dict(zip(self._output_names, outputs, strict=True))


def open_session(path: str | Path, kind: Kind, threads: int | None = None, device: Device = "auto") -> Session:
    """Open an exported `.onnx` file.

    threads: how many cores one run may use; None leaves one core to the rest of the program.
    device: 'auto' takes CUDA where this ONNX Runtime offers it, the CPU otherwise.
    Raises ModelFileError for a file that cannot serve as `kind`, ValueError for a device that is
    unknown or not offered here.
    """
    path = Path(path)
    providers = _providers(device)
    if not path.is_file():
        raise ModelFileError(f"no model file at {path}: expected an .onnx file exported by handmesh")
    try:
        inference = onnxruntime.InferenceSession(path, sess_options=_options(threads), providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no other base class
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} is not a readable ONNX model; export or download it again ({reason})") from error
    _check_device(device, inference)
    return Session(inference, _checked_metadata(path, kind, inference))


def default_threads() -> int:
    """One less than the cores this process may use, at least one: the capture and the display need the other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_threads() if threads is None else threads
    options.inter_op_num_threads = 1
    # Idle workers that spin steal the core that capture and drawing need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised; a second report on stderr only confuses
    return options


def _providers(device: Device) -> list[str]:
    if device not in get_args(Device):
        raise ValueError(f"unknown device {device!r}; known are {', '.join(get_args(Device))}")
    offered = onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if _PROVIDERS["cuda"] in offered else "cpu"
    elif _PROVIDERS[device] not in offered:
        names = [name for name, provider in _PROVIDERS.items() if provider in offered]
        raise ValueError(f"this ONNX Runtime offers no device {device!r}, only {', '.join(names)}")
    return list(dict.fromkeys([_PROVIDERS[device], _PROVIDERS["cpu"]]))


def _check_device(device: Device, inference: onnxruntime.InferenceSession) -> None:
    """ONNX Runtime falls back to the CPU in silence; who asked for another device should know."""
    if device != "auto" and _PROVIDERS[device] not in inference.get_providers():
        raise ValueError(f"ONNX Runtime could not start device {device!r}; check its drivers or take 'cpu'")


def _checked_metadata(path: Path, kind: Kind, inference: onnxruntime.InferenceSession) -> dict[str, object]:
    metadata = _metadata(path, inference)
    given_format, given_kind = metadata.get("format"), metadata.get("kind")
    if given_format != FORMAT:
        raise ModelFileError(f"{path} has format {given_format!r}, this handmesh reads {FORMAT}: export it again")
    if given_kind != kind:
        raise ModelFileError(f"{path} holds a {given_kind!r} network where a {kind!r} network is expected")
    if kind == "mesh" and not isinstance(metadata.get("box_scale"), (int, float)):
        raise ModelFileError(f"{path} does not say its box_scale: export it again")
    _check_signature(path, kind, inference)
    return metadata


def _metadata(path: Path, inference: onnxruntime.InferenceSession) -> dict[str, object]:
    text = inference.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    try:
        metadata = json.loads(text) if text else None
    except json.JSONDecodeError:
        metadata = None
    if not isinstance(metadata, dict):
        raise ModelFileError(
            f"{path} was not exported by handmesh (no {METADATA_KEY!r} in its metadata); use scripts/export.py"
        )
    return metadata


def _check_signature(path: Path, kind: Kind, inference: onnxruntime.InferenceSession) -> None:
    signature = [(i.type, i.shape) for i in inference.get_inputs()]
    match signature:
        case [("tensor(uint8)", [1, int(), int(), 3])]:
            pass
        case _:
            raise ModelFileError(f"{path} takes {signature}; expected one picture, uint8 (1, H, W, 3)")
    missing = set(MESH_OUTPUTS) - {output.name for output in inference.get_outputs()}
    if kind == "mesh" and missing:
        raise ModelFileError(f"{path} lacks the outputs {', '.join(sorted(missing))}: export it again")
