"""Exported networks in ONNX Runtime or OpenVINO; one line says what is wrong with a file that is not one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import onnxruntime

from handmesh.assets import Backend, Device, ModelFileError

# Runs exported networks in OpenVINO, which is quicker than ONNX Runtime on many processors of Intel's and AMD's.


class OpenVINOSession:
    """A network compiled for the CPU; see `Session`.

    OpenVINO itself chooses the precision of the arithmetic: where the processor multiplies bfloat16, it
    does so, and vertices differ from those in single precision by up to 2 mm.
    """

    def __init__(self, path: Path, metadata: dict[str, object], threads: int) -> None:
        """Raises ValueError where OpenVINO is not installed."""
        openvino = _openvino()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._requests = threading.local()  # a request serves one run at a time
        self.metadata = metadata
        names = {output.any_name: output for output in self._compiled.outputs}
        changing, constant = split_outputs(names)
        self._outputs = {name: names[name] for name in changing}
        shape = list(self._compiled.inputs[0].shape)
        self.input_size: tuple[int, int] = (shape[1], shape[2])
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.provider = f"OpenVINO CPU {precision}"
        first = self._infer(np.zeros(shape, np.uint8))
        self.constants = {name: np.array(first[names[name]]) for name in constant}

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """See `Session`."""
        results = self._infer(image_nhwc)
        return {name: np.array(results[output]) for name, output in self._outputs.items()}

    def _infer(self, image_nhwc: np.ndarray) -> object:
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        return self._requests.mine.infer({0: image_nhwc}, share_inputs=True, share_outputs=True)


def _openvino() -> object:
    try:
        import openvino
    except ImportError as error:
        raise ValueError("the backend 'openvino' is not installed: pip install 'handmesh[openvino]'") from error
    return openvino


# Opens exported networks in ONNX Runtime or OpenVINO; says in one line what is wrong with a file that is not one.


Kind = Literal["mesh", "detector"]

FORMAT = 1
"""The version of the exported files that this code reads."""

METADATA_KEY = "handmesh"

MESH_OUTPUTS = ("vertices_m", "joints_m", "joints_crop", "rotations", "shape", "presence", "right", "spread")
"""What the mesh network says of a crop..."""

HAND_OUTPUTS = ("faces", "hand_template", "hand_shapedirs", "hand_weights", "hand_keypoint_regressor")
"""...and the parametric hand in the same file, which is the same for every crop; `hand_posedirs` may be missing."""

_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


class Session(Protocol):
    """A network that is ready to run: images in, named arrays out. Several threads may run it at once."""

    metadata: dict[str, object]
    input_size: tuple[int, int]
    """(height, width) of the images that the network takes."""
    constants: dict[str, np.ndarray]
    """The outputs that are the same for every image: those of `HAND_OUTPUTS`, none of a detector."""
    provider: str
    """What it runs on, and for OpenVINO in which precision."""

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """(1, H, W, 3) uint8 RGB, as large as `input_size`, through the network: its outputs by name."""


class OnnxRuntimeSession:
    """A network in ONNX Runtime."""

    def __init__(self, inference: onnxruntime.InferenceSession, metadata: dict[str, object]) -> None:
        (only_input,) = inference.get_inputs()
        self._inference = inference
        self._input_name = only_input.name
        self._output_names, constant = split_outputs(output.name for output in inference.get_outputs())
        self.metadata = metadata
        self.input_size: tuple[int, int] = tuple(only_input.shape[1:3])
        self.provider: str = inference.get_providers()[0].removesuffix("ExecutionProvider")
        self.constants = self._run(constant, np.zeros(only_input.shape, np.uint8))

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """See `Session`."""
        return self._run(self._output_names, image_nhwc)

    def _run(self, names: list[str], image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        # Without names, ONNX Runtime would give all; and a first run warms the session up.
        outputs = self._inference.run(names or self._output_names, {self._input_name: image_nhwc})
        return dict(zip(names, outputs, strict=False))


def split_outputs(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of the outputs that differ from image to image, and of those that never change."""
    names = list(names)
    constant = [name for name in names if name == "faces" or name.startswith("hand_")]
    return [name for name in names if name not in constant], constant


def open_session(
    path: str | Path,
    kind: Kind,
    threads: int | None = None,
    device: Device = "auto",
    backend: Backend = "onnxruntime",
) -> Session:
    """Open an exported `.onnx` file.

    threads: how many cores one run may use; None leaves one core to the rest of the program.
    device: 'auto' takes CUDA where this ONNX Runtime offers it, the CPU otherwise; OpenVINO runs on the CPU.
    Raises ModelFileError for a file that cannot serve as `kind`, ValueError for a backend or a device
    that is unknown or not offered here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"unknown backend {backend!r}; known are {', '.join(get_args(Backend))}")
    path = Path(path)
    inference = _opened(path, threads, device)
    metadata = _checked_metadata(path, kind, inference)
    if backend == "openvino":
        _check_openvino_device(device)
        return OpenVINOSession(path, metadata, default_threads() if threads is None else threads)
    _check_device(device, inference)
    return OnnxRuntimeSession(inference, metadata)


def _opened(path: Path, threads: int | None, device: Device) -> onnxruntime.InferenceSession:
    providers = _providers(device)
    if not path.is_file():
        raise ModelFileError(f"no model file at {path}: expected an .onnx file exported by handmesh")
    try:
        return onnxruntime.InferenceSession(path, sess_options=session_options(threads), providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no other base class
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} is not a readable ONNX model; export or download it again ({reason})") from error


def default_threads() -> int:
    """One less than the cores this process may use, at least one: the capture and the display need the other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
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


def _check_openvino_device(device: Device) -> None:
    if device not in ("auto", "cpu"):
        raise ValueError(f"with backend 'openvino' networks run on the CPU, got device {device!r}; take 'cpu'")


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
            f"{path} was not exported by handmesh (no {METADATA_KEY!r} in its metadata); use `handmesh export`"
        )
    return metadata


def _check_signature(path: Path, kind: Kind, inference: onnxruntime.InferenceSession) -> None:
    signature = [(i.type, i.shape) for i in inference.get_inputs()]
    match signature:
        case [("tensor(uint8)", [1, int(), int(), 3])]:
            pass
        case _:
            raise ModelFileError(f"{path} takes {signature}; expected one image, uint8 (1, H, W, 3)")
    missing = {*MESH_OUTPUTS, *HAND_OUTPUTS} - {output.name for output in inference.get_outputs()}
    if kind == "mesh" and missing:
        raise ModelFileError(f"{path} lacks the outputs {', '.join(sorted(missing))}: export it again")
