"""Exported networks in ONNX Runtime or OpenVINO; one line says what is wrong with a file that is not one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from handmesh.assets import Backend, Device, ModelFileError
from handmesh.detection import STRIDE
from handmesh.files import parsed_json
from handmesh.machine import PerProcess, import_onnxruntime
from handmesh.types import checked_count

onnxruntime = import_onnxruntime()

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
        self._compiled = PerProcess(lambda: openvino.Core().compile_model(str(path), "CPU", settings))
        self._requests = PerProcess(threading.local)  # a request serves one run at a time
        self.metadata = metadata
        compiled = self._compiled.get()
        self._output_names, constant = split_outputs(output.any_name for output in compiled.outputs)
        shape = list(compiled.inputs[0].shape)
        self.input_size: tuple[int, int] = (shape[1], shape[2])
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.provider = f"OpenVINO CPU {precision}"
        self.constants = self._run(constant, np.zeros(shape, np.uint8))

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """See `Session`."""
        return self._run(self._output_names, image_nhwc)

    def _run(self, names: list[str], image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        requests = self._requests.get()
        if not hasattr(requests, "mine"):
            requests.mine = self._compiled.get().create_infer_request()
        results = requests.mine.infer({0: image_nhwc}, share_inputs=True, share_outputs=True)
        return {name: np.array(results[name]) for name in names}


def _openvino() -> object:
    try:
        import openvino
    except ImportError as error:
        raise ValueError("the backend 'openvino' is not installed: pip install 'handmesh[openvino]'") from error
    return openvino


# Opens exported networks in ONNX Runtime or OpenVINO; says in one line what is wrong with a file that is not one.


Kind = Literal["mesh", "detector"]

Shape = tuple[int | str, ...]

FORMAT = 1
"""The version of the exported files that this code reads."""

METADATA_KEY = "handmesh"

_MESH_SHAPES: dict[str, Shape] = {
    "vertices_m": (1, "vertices", 3),
    "joints_m": (1, 21, 3),
    "joints_crop": (1, 21, 2),
    "rotations": (1, 16, 3, 3),
    "shape": (1, 10),
    "presence": (1,),
    "right": (1,),
    "spread": (1, 21, 2),
}
_HAND_SHAPES: dict[str, Shape] = {
    "faces": ("faces", 3),
    "hand_template": ("vertices", 3),
    "hand_shapedirs": ("vertices", 3, 10),
    "hand_weights": ("vertices", 16),
    "hand_keypoint_regressor": (21, "vertices"),
}
_MAP: Shape = (1, "rows", "columns")
_OPTIONAL: dict[str, Shape] = {"hand_posedirs": ("vertices", 3, 135), "contact": (1, 4)}
_OUTPUTS: dict[Kind, dict[str, Shape]] = {
    "mesh": _HAND_SHAPES | _MESH_SHAPES | _OPTIONAL,
    "detector": {
        "heat": _MAP,
        "log_size": _MAP,
        "right": _MAP,
        "offset": (1, 2, *_MAP[1:]),
        "direction": (1, 2, *_MAP[1:]),
    },
}
"""The shapes of what each kind of network gives; a name stands for a length that is the same wherever it is named."""

MESH_OUTPUTS = tuple(_MESH_SHAPES)
"""What every mesh network says of a crop; some tell `contact`, too..."""

HAND_OUTPUTS = tuple(_HAND_SHAPES)
"""...and the parametric hand in the same file, which is the same for every crop; `hand_posedirs` may be missing."""

LARGEST_INPUT_PX = 2048
"""No network here takes larger images, and larger ones would take memory without end."""

BOX_SCALES = (0.5, 10.0)
"""What a crop's side can be of the hand's."""

CONFIDENCES = {"found": ("detector", "presence", "agreement"), "followed": ("presence", "agreement")}
"""The confidences in an exported mesh network's metadata, and the probabilities that each can weigh."""

LARGEST_WEIGHT = 1e4

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

    def __init__(self, opened: PerProcess[onnxruntime.InferenceSession], metadata: dict[str, object]) -> None:
        inference = opened.get()
        (only_input,) = inference.get_inputs()
        self._opened = opened
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
        outputs = self._opened.get().run(names or self._output_names, {self._input_name: image_nhwc})
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
    path, threads = Path(path), default_threads() if threads is None else checked_count("threads", threads)
    opened = PerProcess(lambda: _opened(path, threads, device))
    metadata = _checked_metadata(path, kind, opened.get())
    if backend == "openvino":
        _check_openvino_device(device)
    else:
        _check_device(device, opened.get())
    with _readable(path):
        if backend == "openvino":
            session: Session = OpenVINOSession(path, metadata, threads)
        else:
            session = OnnxRuntimeSession(opened, metadata)
        _check_outputs(path, kind, session)
    return session


def _opened(path: Path, threads: int | None, device: Device) -> onnxruntime.InferenceSession:
    providers = _providers(device)
    if not path.is_file():
        raise ModelFileError(f"no model file at {path}: expected an .onnx file exported by handmesh")
    with _readable(path):
        return onnxruntime.InferenceSession(path, sess_options=session_options(threads), providers=providers)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise ModelFileError where a runtime cannot read or run the file."""
    try:
        yield
    except (ModelFileError, ModuleNotFoundError):
        raise
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
    if kind == "mesh" and not _is_between(metadata.get("box_scale"), *BOX_SCALES):
        raise ModelFileError(f"{path} does not say its box_scale: export it again")
    if metadata.get("confidence") and not _are_confidences(metadata["confidence"]):
        raise ModelFileError(f"{path} has confidences that cannot be read: calibrate and export it again")
    _check_signature(path, kind, inference)
    return metadata


def _is_between(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and least <= value <= most


def _are_confidences(written: object) -> bool:
    """Whether this is what `estimator.Confidence.of` reads."""
    if not isinstance(written, dict) or not _is_between(written.get("proposed"), 1e-6, 1 - 1e-6):
        return False
    for name, probabilities in CONFIDENCES.items():
        weights = written.get(name)
        if not isinstance(weights, dict) or "bias" not in weights or not weights.keys() <= {"bias", *probabilities}:
            return False
        if not all(_is_between(weight, -LARGEST_WEIGHT, LARGEST_WEIGHT) for weight in weights.values()):
            return False
    return True


def _metadata(path: Path, inference: onnxruntime.InferenceSession) -> dict[str, object]:
    text = inference.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    try:
        metadata = parsed_json(text, "its metadata") if text else None
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise ModelFileError(
            f"{path} was not exported by handmesh (no {METADATA_KEY!r} in its metadata); use `handmesh export`"
        )
    return metadata


def _check_signature(path: Path, kind: Kind, inference: onnxruntime.InferenceSession) -> None:
    """What the file declares, before anything is run or memory taken for it."""
    signature = [(i.type, i.shape) for i in inference.get_inputs()]
    match signature:
        case [("tensor(uint8)", [1, int(height), int(width), 3])] if 0 < max(height, width) <= LARGEST_INPUT_PX:
            pass
        case _:
            expected = f"one image, uint8 (1, H, W, 3) of at most {LARGEST_INPUT_PX} pixels a side"
            raise ModelFileError(f"{path} takes {signature}; expected {expected}")
    missing = _OUTPUTS[kind].keys() - _OPTIONAL.keys() - {output.name for output in inference.get_outputs()}
    if missing:
        raise ModelFileError(f"{path} lacks the outputs {', '.join(sorted(missing))}: export it again")


def _check_outputs(path: Path, kind: Kind, session: Session) -> None:
    """What the network really gives, for a black image; ModelFileError where the hands of it could not be read."""
    height, width = session.input_size
    outputs = session.constants | session.run(np.zeros((1, height, width, 3), np.uint8))
    sizes = {"rows": -(-height // STRIDE), "columns": -(-width // STRIDE)}
    for name, shape in _OUTPUTS[kind].items():
        given = outputs.get(name)
        if given is None:  # one of `_OPTIONAL`
            continue
        fits = given.ndim == len(shape) and all(
            length == (sizes.setdefault(expected, length) if isinstance(expected, str) else expected)
            for length, expected in zip(given.shape, shape, strict=True)
        )
        if not fits or given.dtype.kind != ("i" if name == "faces" else "f"):
            expected = f"({', '.join(str(sizes.get(length, length)) for length in shape)})"
            raise ModelFileError(f"{path} gives {name} as {given.dtype} {given.shape}, not {expected}: export it again")
    if kind == "mesh" and not _is_a_hand(session.constants):
        raise ModelFileError(f"{path} holds a damaged hand: export it again")


def _is_a_hand(constants: Mapping[str, np.ndarray]) -> bool:
    faces, vertices = constants["faces"], len(constants["hand_template"])
    return (
        bool(vertices and len(faces) and 0 <= faces.min() <= faces.max() < vertices)
        and all(np.isfinite(value).all() for value in constants.values())
        and np.abs(constants["hand_weights"].sum(1) - 1).max() < 1e-2
    )
