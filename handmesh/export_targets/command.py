"""What `scripts/export.py` does: a source and a target to files and to the lines that describe them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from torch import nn

from handmesh.assets import ASSETS
from handmesh.checkpoint import load_network, load_weights
from handmesh.detector_network import DetectorNet, DetectorOutput
from handmesh.export import MeshGraph, MeshOutputs, export_mesh
from handmesh.export_detector import INPUT_SIZE, DetectorGraph, export_detector, load_detector
from handmesh.export_targets.coreml import export_coreml
from handmesh.export_targets.onnx_file import OnnxFile, read_onnx, runner
from handmesh.export_targets.openvino_ir import export_openvino
from handmesh.export_targets.parity import measure, pictures_for, torch_runner
from handmesh.export_targets.rules import violations
from handmesh.export_targets.web import BUDGET_MB, export_web, gzipped_mb
from handmesh.hand_model import HandModel
from handmesh.network import HandNet
from handmesh.onnx_storage import Precision

Target = Literal["onnx", "onnx-web", "openvino", "coreml"]

SUFFIXES: dict[Target, str] = {"onnx": ".onnx", "onnx-web": ".onnx", "openvino": ".xml", "coreml": ".mlpackage"}

SMALLEST_CROP = 32
"""Below this a backbone's last map is less than one cell."""


@dataclass(frozen=True)
class ExportOptions:
    """The command line; see the script's help."""

    source: str
    out: Path
    target: Target = "onnx"
    name: str | None = None
    crop_size: int | None = None
    hand_model: Path | None = None
    precision: Precision | None = None
    calibration: Path | None = None

    @property
    def stored(self) -> Precision:
        """`precision`, or the one taken where none is asked for."""
        return self.precision or "fp16"


def export(options: ExportOptions) -> str:
    """Write the target's files; gives the lines to print. ValueError, OSError or RuntimeError say what is wrong."""
    expected = SUFFIXES[options.target]
    if options.out.suffix != expected:
        raise ValueError(f"the target {options.target!r} is written as {expected}, got --out {options.out}")
    if options.crop_size is not None and options.crop_size < SMALLEST_CROP:
        raise ValueError(f"--crop-size must be at least {SMALLEST_CROP} pixels, got {options.crop_size}")
    export_to = {"onnx": _to_onnx, "onnx-web": _to_web, "openvino": _to_openvino, "coreml": _to_coreml}
    return export_to[options.target](options)


class Trained(NamedTuple):
    """A network from its weights, with what an export needs to know of it."""

    network: HandNet | DetectorNet
    size: tuple[int, int]  # (height, width) of its pictures
    name: str
    model: HandModel | None = None  # of a mesh network
    box_scale: float = 1.0
    confidence: dict | None = None

    @property
    def kind(self) -> Literal["mesh", "detector"]:
        return "detector" if self.model is None else "mesh"

    @property
    def outputs(self) -> list[str]:
        return list((DetectorOutput if self.model is None else MeshOutputs)._fields)

    @property
    def metadata(self) -> dict[str, object]:
        """As in an .onnx file."""
        said = {"kind": self.kind, "name": self.name, "backbone": self.network.config.backbone}
        said |= {"box_scale": self.box_scale} if self.model is not None else {}
        return said | ({"confidence": self.confidence} if self.confidence else {})

    def graph(self, network: nn.Module | None = None) -> MeshGraph | DetectorGraph:
        """From pictures to outputs, by this network or by another form of it."""
        network = self.network if network is None else network
        return (DetectorGraph(network) if self.model is None else MeshGraph(network, self.model)).eval()

    def pictures(self) -> dict[str, list[np.ndarray]]:
        """What to compare it on."""
        return pictures_for(self.kind, self.size, self.box_scale)


def _to_onnx(options: ExportOptions) -> str:
    trained = _trained(options)
    _write_onnx(trained, options.out, options.stored)
    file = read_onnx(options.out)
    parity = measure(torch_runner(trained.graph().of_unit, trained.outputs), runner(file), trained.pictures())
    notes = [f"note: not for every target: {line}" for line in violations(file.proto)]
    return _lines(
        _wrote(options.out, f"weights stored as {options.stored}"),
        "largest difference of each output from torch:",
        parity.table(),
        *notes,
        f'use: handmesh.HandTracker.load(model="{options.out}")' if trained.kind == "mesh" else "",
    )


def _to_web(options: ExportOptions) -> str:
    parity = _with_onnx(options, lambda file: export_web(file, options.out))
    budget = f"a mesh network and the detector have {BUDGET_MB} MB together"
    return _lines(
        _wrote(options.out, f"{gzipped_mb(options.out):.2f} MB where the server compresses; {budget}"),
        "largest difference of each output from the .onnx file, both in ONNX Runtime on the CPU:",
        parity.table(),
        "use: ort.InferenceSession.create(url, { executionProviders: ['webgpu', 'wasm'] }), input `image`: "
        "uint8 RGB (1, H, W, 3)",
    )


def _to_openvino(options: ExportOptions) -> str:
    parities = _with_onnx(options, lambda file: export_openvino(file, options.out, options.stored))
    tables = [
        line
        for arithmetic, parity in parities.items()
        for line in (f"largest difference of each output from ONNX Runtime, OpenVINO in {arithmetic}:", parity.table())
    ]
    return _lines(
        _wrote(options.out.with_suffix(".bin"), f"and {options.out}, weights stored as {options.stored}"),
        *tables,
        f'use: openvino.Core().compile_model("{options.out}", "CPU"), input `image`: uint8 RGB (1, H, W, 3)',
    )


def _to_coreml(options: ExportOptions) -> str:
    trained = _trained(options)
    merged = trained.graph(trained.network.reparameterised())
    report = export_coreml(
        merged, trained.outputs, trained.metadata, options.out, trained.size, trained.pictures(), options.stored
    )
    told = ["not compared: Core ML runs on macOS alone; export there to see how far the package's numbers are"]
    if report.package is not None:
        told = ["largest difference of each output from torch, Core ML:", report.package.table()]
    return _lines(
        _wrote(options.out, f"weights and arithmetic in {options.stored}"),
        "largest difference of each output from torch, the program that was converted, run by torch:",
        report.program.table(),
        *told,
        f"use: MLModel in Swift, input `image`: an RGB picture of {trained.size[1]}x{trained.size[0]}",
    )


def _with_onnx(options: ExportOptions, export_file: Callable) -> object:
    """What `export_file` makes of the source as an exported graph, which is made first where there are weights only."""
    path = _bundled(options.source, ".onnx")
    if path.suffix != ".safetensors":
        _refuse_for_onnx(options)
        return export_file(read_onnx(path))
    with tempfile.TemporaryDirectory() as folder:
        trained = _trained(replace(options, name=options.name or options.out.stem))
        _write_onnx(trained, Path(folder) / "graph.onnx", options.stored)
        return export_file(read_onnx(Path(folder) / "graph.onnx"))


def _refuse_for_onnx(options: ExportOptions) -> None:
    shaping = ["name", "crop_size", "hand_model", "calibration"] + (
        ["precision"] if options.target == "onnx-web" else []
    )  # OpenVINO stores weights anew
    given = [name for name in shaping if getattr(options, name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags} shape an export from weights; {options.source} is exported already")


def _trained(options: ExportOptions) -> Trained:
    path = _bundled(options.source, ".safetensors")
    if path.suffix == ".onnx":
        raise ValueError(f"the target {options.target!r} is made from weights (.safetensors), got {path}")
    config = load_weights(path).metadata.get("config", {})
    name = options.name or options.out.stem
    if config.get("task") != "mesh":
        return Trained(load_detector(path), (INPUT_SIZE.height, INPUT_SIZE.width), name)
    beside = _beside(path)
    size = options.crop_size or (beside.input_size[0] if beside else config["run"]["schedule"][-1][1])
    model = HandModel.load(options.hand_model or config["hand_model"])
    confidence = beside.metadata.get("confidence") if beside else None
    if options.calibration:
        confidence = read_confidence(options.calibration)
    return Trained(load_network(path), (size, size), name, model, config["box_scale"], confidence)


def _beside(path: Path) -> OnnxFile | None:
    """The bundled graph of bundled weights, which knows its size of crops and its calibration."""
    graph = path.with_suffix(".onnx")
    return read_onnx(graph) if path.parent == ASSETS and graph.is_file() else None


def _write_onnx(trained: Trained, path: Path, precision: Precision) -> None:
    if trained.model is None:
        height, width = trained.size
        export_detector(trained.network, path, type(INPUT_SIZE)(width, height), trained.name, precision)
        return
    export_mesh(
        trained.network, trained.model, path, trained.size[0], trained.box_scale, trained.name, precision,
        trained.confidence,
    )  # fmt: skip


def _bundled(source: str, suffix: str) -> Path:
    """The path that `source` is, or the bundled file of that name."""
    names = sorted({path.stem for path in ASSETS.glob("*.onnx")})
    if source in names:
        return (ASSETS / source).with_suffix(suffix)
    if Path(source).suffix not in (".onnx", ".safetensors"):
        raise ValueError(f"{source!r} is neither weights (.safetensors), an .onnx file, nor one of {', '.join(names)}")
    return Path(source)


def read_confidence(path: Path) -> dict:
    """What makes chances of a network's scores; ValueError where the file does not say."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict) or "confidence" not in content:
        raise ValueError(f"{path} is not a calibration.json of `scripts/evaluate.py calibration`")
    return content["confidence"]


def _wrote(path: Path, more: str) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"wrote {path}: {sum(file.stat().st_size for file in files) / 1e6:.2f} MB, {more}"


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
