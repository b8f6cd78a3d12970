"""`handmesh export`: what an exported network becomes, a small file for browsers, OpenVINO's and Apple's formats."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
import torch
import tyro
from PIL import Image
from torch import Tensor, nn

from handmesh.assets import ASSETS
from handmesh.export.compress import Precision, for_browsers, storage_of
from handmesh.export.onnx import (
    CLIP,
    INPUT_SIZE,
    NOISE,
    OPSET,
    DetectorGraph,
    ExportMismatch,
    ImageGraph,
    MeshGraph,
    OnnxFile,
    Parity,
    Runner,
    check,
    export_detector,
    export_mesh,
    images_for,
    load_detector,
    measure,
    read_onnx,
    runner,
    torch_runner,
)
from handmesh.files import parsed_json, write_bytes
from handmesh.hand.model import HandModel
from handmesh.models.checkpoint import load_trained, load_weights
from handmesh.models.detector_net import DetectorNet
from handmesh.models.mesh_net import HandNet
from handmesh.tracking.backends import METADATA_KEY

# What a graph may be made of so that every target can run it.

# fmt: off
OPERATORS = frozenset({
    "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "Cos", "Div", "Erf", "Exp", "Expand",
    "Gather", "Gelu", "Gemm", "GlobalAveragePool", "Identity", "InstanceNormalization", "LayerNormalization",
    "MatMul", "MaxPool", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze",
    "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
"""Those of opset 20 or less that onnxruntime-web 1.30 computes by WebGPU and that are in the tables of Unity's
Inference Engine, but for Gelu: Unity names opsets up to 25 as supported from Sentis 2.6 on, and lists no Gelu up to
Inference Engine 2.3."""

INSTEAD = {
    "Einsum": "write it as a matrix product",
    "GridSample": "gather by a product with a soft attention map",
    "ScatterND": "concatenate instead of writing in place",
    "ScatterElements": "concatenate instead of writing in place",
    "DequantizeLinear": "use Cast and Mul, which runtimes fold",
    "QuantizeLinear": "the target onnx-web leaves it out",
}

TYPES = tuple(getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "UINT8"))


def violations(proto: onnx.ModelProto) -> list[str]:
    """A line for each thing in an exported graph that some target does not run; empty where all is well."""
    return list(_violations(proto, proto.graph))


def _violations(proto: onnx.ModelProto, graph: onnx.GraphProto) -> Iterator[str]:
    for opset in proto.opset_import:
        if opset.domain not in ("", "ai.onnx") or opset.version > OPSET:
            yield f"opset {opset.version} of {opset.domain or 'ai.onnx'}: expected at most {OPSET} of ai.onnx"
    for function in proto.functions:
        yield f"the function {function.name}: expected plain operators"
    names = Counter(f"{node.domain}.{node.op_type}".removeprefix(".") for node in graph.node)
    for name, count in sorted(names.items()):
        if name not in OPERATORS:
            yield f"{count} x {name}: {INSTEAD.get(name, 'not an operator that every target has')}"
    for value in {value.name: value for value in (*graph.input, *graph.output)}.values():
        if not all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim):
            yield f"{value.name} has no fixed shape: export with a batch of one and a fixed size"
    for tensor in graph.initializer:
        if tensor.data_type not in TYPES:
            yield f"{tensor.name} is stored as {onnx.TensorProto.DataType.Name(tensor.data_type)}"
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield f"{tensor.name} is stored in another file: expected one file"


# A file for onnxruntime-web: the same network, as few bytes as its numbers allow.

BUDGET_MB = 10.0
"""What the detector and one mesh network may weigh together, as they lie on the server, without compression."""

WEB_TOLERANCE = {"mesh": {NOISE: 1e-5, CLIP: 1e-5}, "detector": {NOISE: 0.1, CLIP: 0.05}}
"""The largest difference of any output. The mesh network keeps its weights as they are; a wrong logit of the
detector's moves a score by 0.012 at most on the clip, an offset a box by 0.4 pixels of 256x192, and a logarithm its
side by 5 %, before the mesh network looks again."""


def export_web(source: OnnxFile, path: Path) -> Parity:
    """Write `source` for browsers; gives how far it is from the source, both in ONNX Runtime on the CPU.

    Raises ValueError where the graph has what WebGPU does not run, ExportMismatch where numbers differ.
    """
    source, kind = source.in_single_precision(), source.metadata["kind"]
    proto = for_browsers(source.proto, is_detector=kind == "detector")
    wrong = violations(proto)
    if wrong:
        raise ValueError(f"the graph holds what browsers may not run: {'; '.join(wrong)}")
    parity = source.compared(runner(OnnxFile(proto, source.metadata)))
    check(parity, WEB_TOLERANCE[kind])
    write_bytes(path, proto.SerializeToString())
    return parity


# OpenVINO's own format: a text file with the graph and a binary file with weights.

OPENVINO_TOLERANCE = {"mesh": {NOISE: 5e-4, CLIP: 5e-4}, "detector": {NOISE: 0.05, CLIP: 0.05}}
"""In single precision, of vertices and of the detector's maps: more than halved constants can do."""


def export_openvino(source: OnnxFile, path: Path, precision: Precision = "fp16") -> dict[str, Parity]:
    """Write `path` (.xml), the weights beside it (.bin) in `precision`; how far it is from the source, by arithmetic.

    Compared in single precision, "f32", and where the processor has it in the one that OpenVINO then
    takes by itself, "bf16". ValueError where OpenVINO is missing, ExportMismatch where f32 differs.
    The metadata lies in the model's runtime information, as JSON under the name "handmesh".
    """
    try:
        import openvino
    except ImportError as error:
        raise ValueError("the target 'openvino' needs OpenVINO: pip install 'handmesh[openvino]'") from error
    source = source.in_single_precision()
    model = openvino.convert_model(io.BytesIO(source.proto.SerializeToString()))
    model.set_rt_info(json.dumps(source.metadata), [METADATA_KEY])
    with _beside(path) as written:
        openvino.save_model(model, written, compress_to_fp16=precision == "fp16")
        core, kind = openvino.Core(), source.metadata["kind"]
        parity = {"f32": source.compared(_openvino_runner(core, written, "f32"))}
        check(parity["f32"], OPENVINO_TOLERANCE[kind], ["vertices_m"] if kind == "mesh" else None)
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            parity["bf16"] = source.compared(_openvino_runner(core, written, "bf16"))
        for file in (written.with_suffix(".bin"), written):  # the one that is opened comes last
            os.replace(file, path.with_suffix(file.suffix))
    return parity


def _openvino_runner(core: object, path: Path, precision: str) -> Runner:
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    names = {output.any_name: output for output in compiled.outputs}

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        results = compiled([image])
        return {name: np.array(results[output]) for name, output in names.items()}

    return run


# Core ML: converted from torch anywhere, run on macOS and iOS alone.

TRIED = "coremltools 9.0 with torch 2.15"
"""What this conversion is known to work with."""

SAME = 1e-3
"""How far the program that is converted may be from the network that it was made of: both run in torch."""


class _Unit(nn.Module):
    """Core ML hands images over as floats in planes, scaled as the package says."""

    def __init__(self, graph: ImageGraph) -> None:
        super().__init__()
        self.inner = graph  # a name that torch.fx leaves free

    def forward(self, image: Tensor) -> Sequence[Tensor]:
        return self.inner.of_unit(image)


class CoreMLReport(NamedTuple):
    """How far numbers are from the network's own in torch, as far as this machine can tell."""

    program: Parity  # the torch program that was converted, run by torch
    package: Parity | None  # the package itself; None anywhere but on macOS


def export_coreml(
    graph: ImageGraph, metadata: Mapping[str, Any], path: Path, size: tuple[int, int],
    images: Mapping[str, Sequence[np.ndarray]], precision: Precision = "fp16",
) -> CoreMLReport:  # fmt: skip
    """Write `path` (.mlpackage), which takes an RGB image of `size` (height, width) named `image`.

    graph: in evaluation mode; images: (1, H, W, 3) uint8. precision: of weights and of the arithmetic, which Apple's
    neural engine has in half alone. ValueError where coremltools is missing,
    RuntimeError where it cannot convert.
    """
    try:
        import coremltools
    except ImportError as error:
        raise ValueError("the target 'coreml' needs coremltools, on macOS or Linux: pip install coremltools") from error
    with torch.no_grad():
        program = torch.export.export(_Unit(graph).eval(), (torch.zeros(1, 3, *size),)).run_decompositions({})
    reference = torch_runner(graph)
    of_program = measure(reference, torch_runner(graph, program.module()), images)
    check(of_program, dict.fromkeys(images, SAME))
    package = _converted(coremltools, program, graph.outputs, size, precision)
    package.short_description = f"handmesh {metadata['kind']} network {metadata['name']}"
    package.license = "Apache-2.0"
    package.user_defined_metadata[METADATA_KEY] = json.dumps({"format": 1, **metadata})
    with _beside(path) as written:
        package.save(str(written))
        if path.exists():  # a package is a folder
            shutil.rmtree(path)
        written.rename(path)
    if sys.platform != "darwin":
        return CoreMLReport(of_program, None)
    of_package = measure(reference, lambda image: package.predict({"image": Image.fromarray(image[0])}), images)
    return CoreMLReport(of_program, of_package)


def _converted(
    tools: object, program: torch.export.ExportedProgram, outputs: Sequence[str], size: tuple[int, int],
    precision: Precision,
) -> object:  # fmt: skip
    image = tools.ImageType(name="image", shape=(1, 3, *size), scale=1 / 255, color_layout=tools.colorlayout.RGB)
    try:
        return tools.convert(
            program,
            inputs=[image],
            outputs=[tools.TensorType(name=name, dtype=np.float32) for name in outputs],
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT16 if precision == "fp16" else tools.precision.FLOAT32,
        )
    except Exception as error:  # whatever coremltools stumbles over
        versions = f"coremltools {tools.__version__} with torch {torch.__version__}"
        reason = " ".join(str(error).split())[:200]
        raise RuntimeError(
            f"{versions} cannot convert this network, {TRIED} could; nothing was written: {reason}"
        ) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place to write to before what is whole takes the one of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        yield Path(folder) / path.name


# The command.

Target = Literal["onnx", "onnx-web", "openvino", "coreml"]

SUFFIXES: dict[Target, str] = {"onnx": ".onnx", "onnx-web": ".onnx", "openvino": ".xml", "coreml": ".mlpackage"}

SMALLEST_CROP = 32
"""Below this a backbone's last map is less than one cell."""


@dataclass(frozen=True)
class ExportOptions:
    """Export networks: one ONNX graph from crop to vertices, or what browsers, OpenVINO and Apple's devices run.

    Numbers are compared with the source's before the file is kept, on noise and on hands of the bundled clip;
    the table that is printed says the largest difference of each output. One set of weights can serve several
    sizes of crops: each size is a file of its own.
    """

    source: tyro.conf.Positional[str]
    """Training's weights.safetensors, an exported .onnx file (onnx-web and openvino), or a bundled network's name."""
    output: Path
    """The file to write: .onnx, .xml or .mlpackage."""
    target: Target = "onnx"
    """onnx: the graph that handmesh itself runs, from weights. onnx-web: the same for onnxruntime-web, static, in
    operators that WebGPU has, the detector's large layers in 8 bits. openvino: an .xml and a .bin file, weights in half
    precision. coreml: an .mlpackage for macOS 13 and iOS 16 on, from weights; compared on macOS alone."""
    name: str | None = None
    """From weights: name in the file's metadata. Default: the file's."""
    crop_size: int | None = None
    """Mesh weights: side of the crop in px. Default: training's last."""
    box_scale: float | None = None
    """Mesh weights: side of a crop's box over the side of the hand's, 1 to 2; a tighter one shows the hand larger.
    Default: training's, around which the crops of training vary."""
    hand_model: Path | None = None
    """Mesh weights: a converted MANO .npz. Default: the training's."""
    precision: Precision | None = None
    """How weights are stored. fp16 makes a file half as large that computes in fp32 all the same; but Core ML computes
    in what it stores. int8: a mesh network that multiplies integers, in two thirds of the time on a CPU, as the
    bundled ones; scales come of the bundled clip's hands. For onnx. Default: fp16, of as many layers as keep vertices
    within 0.5 mm, and else fp32."""
    calibration: Path | None = None
    """Mesh weights: calibration.json of `handmesh evaluate calibration` on an export of these; it goes along."""


def export(options: ExportOptions) -> str:
    """Write the target's files; gives the lines to print. ValueError, OSError or RuntimeError say what is wrong."""
    expected = SUFFIXES[options.target]
    if options.output.suffix != expected:
        raise ValueError(f"the target {options.target!r} is written as {expected}, got --output {options.output}")
    if options.crop_size is not None and options.crop_size < SMALLEST_CROP:
        raise ValueError(f"--crop-size must be at least {SMALLEST_CROP} pixels, got {options.crop_size}")
    if options.box_scale is not None and not 1 <= options.box_scale <= 2:
        raise ValueError(f"--box-scale must lie between 1 and 2, got {options.box_scale}")
    if options.precision == "int8" and options.target != "onnx":
        raise ValueError(f"--precision int8 is for the target onnx, got {options.target!r}")
    export_to = {"onnx": _to_onnx, "onnx-web": _to_web, "openvino": _to_openvino, "coreml": _to_coreml}
    files, *lines = export_to[options.target](options, options.precision)
    path = options.output.with_suffix(".bin") if options.target == "openvino" else options.output
    parts = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    megabytes = sum(part.stat().st_size for part in parts) / 1e6
    return "\n".join([f"wrote {path}: {megabytes:.2f} MB, {files}", *lines])


def run(options: ExportOptions) -> None:
    """`handmesh export`: export and print."""
    print(export(options))


class Trained(NamedTuple):
    """A network from its weights, with what an export needs to know of it."""

    network: HandNet | DetectorNet
    size: tuple[int, int]  # (height, width) of its images
    name: str
    model: HandModel | None = None  # of a mesh network
    box_scale: float = 1.0
    confidence: dict | None = None

    @property
    def metadata(self) -> dict[str, object]:
        """As in an .onnx file."""
        said = {"name": self.name, "backbone": self.network.config.backbone}
        if self.model is None:
            return {"kind": "detector", **said}
        confidence = {"confidence": self.confidence} if self.confidence else {}
        return {"kind": "mesh", **said, "box_scale": self.box_scale, **confidence}

    def graph(self, network: nn.Module) -> ImageGraph:
        """From images to outputs, by `network` or by another form of it."""
        return (DetectorGraph(network) if self.model is None else MeshGraph(network, self.model)).eval()

    def images(self) -> dict[str, list[np.ndarray]]:
        """What to compare it on: (1, H, W, 3) uint8 images by where they come from."""
        return images_for(self.metadata["kind"], self.size, self.box_scale)

    def write_onnx(self, path: Path, precision: Precision | None) -> OnnxFile:
        """Write the graph, compared with torch."""
        if self.model is None:
            height, width = self.size
            export_detector(self.network, path, type(INPUT_SIZE)(width, height), self.name, precision)
        else:
            export_mesh(
                self.network, self.model, path, self.size[0], self.box_scale, self.name, precision, self.confidence
            )
        return read_onnx(path)


def _to_onnx(options: ExportOptions, precision: Precision | None) -> list[str]:
    trained = _trained(options)
    file = trained.write_onnx(options.output, precision)
    parity = measure(torch_runner(trained.graph(trained.network)), runner(file), trained.images())
    use = f'use: handmesh.HandTracker.load(model="{options.output}")'
    return [
        f"weights stored as {storage_of(file.proto)}",
        "largest difference of each output from torch:",
        parity.table(),
        *(f"note: not for every target: {line}" for line in violations(file.proto)),
        *_uncalibrated(options.output, file.metadata),
        *([use] if trained.model else []),
    ]


def _uncalibrated(path: Path, metadata: Mapping[str, Any]) -> list[str]:
    """What to do about scores that nobody has compared with what came true."""
    if metadata["kind"] != "mesh" or metadata.get("confidence"):
        return []
    return [
        "not calibrated: scores are what the network says of itself, no probabilities; thresholds may not suit them. "
        "Make a calibration on images that it was not trained on, and export again with it:",
        f"  handmesh evaluate calibration --model {path} --photos FOLDER --backgrounds FOLDER --output calibration",
        "  the same export with --calibration calibration/calibration.json",
    ]


def _to_web(options: ExportOptions, precision: Precision | None) -> list[str]:
    metadata, parity = _with_onnx(options, precision, lambda file: (file.metadata, export_web(file, options.output)))
    gzipped_mb = len(gzip.compress(options.output.read_bytes(), 6)) / 1e6
    budget = f"a mesh network and the detector have {BUDGET_MB} MB together"
    return [
        f"{gzipped_mb:.2f} MB where the server compresses; {budget}",
        "largest difference of each output from the .onnx file, both in ONNX Runtime on the CPU:",
        parity.table(),
        *_uncalibrated(options.output, metadata),
        "use: ort.InferenceSession.create(url, { executionProviders: ['webgpu', 'wasm'] }), input `image`: "
        "uint8 RGB (1, H, W, 3)",
    ]


def _to_openvino(options: ExportOptions, precision: Precision | None) -> list[str]:
    stored_as, parities = _with_onnx(options, precision, lambda file: _openvino(file, options.output, precision))
    lines = [f"and {options.output}, weights stored as {stored_as}"]
    for arithmetic, parity in parities.items():
        lines += [f"largest difference of each output from ONNX Runtime, OpenVINO in {arithmetic}:", parity.table()]
    use = f'openvino.Core().compile_model("{options.output}", "CPU")'
    return [*lines, f"use: {use}, input `image`: uint8 RGB (1, H, W, 3)"]


def _openvino(
    source: OnnxFile, path: Path, precision: Precision | None
) -> tuple[Precision, dict[str, Parity]]:  # fmt: skip
    """Write it in `precision`, by itself in half where numbers bear that; which one it was, and how far they are."""
    try:
        return precision or "fp16", export_openvino(source, path, precision or "fp16")
    except ExportMismatch:
        if precision is not None:
            raise
        return "fp32", export_openvino(source, path, "fp32")


def _to_coreml(options: ExportOptions, precision: Precision | None) -> list[str]:
    trained, precision = _trained(options), precision or "fp16"
    merged = trained.graph(trained.network.reparameterised())
    report = export_coreml(merged, trained.metadata, options.output, trained.size, trained.images(), precision)
    told = ["not compared: Core ML runs on macOS alone; export there to see how far the package's numbers are"]
    if report.package is not None:
        told = ["largest difference of each output from torch, Core ML:", report.package.table()]
    return [
        f"weights and arithmetic in {precision}",
        "largest difference of each output from torch, the program that was converted, run by torch:",
        report.program.table(),
        *told,
        f"use: MLModel in Swift, input `image`: an RGB image of {trained.size[1]}x{trained.size[0]}",
    ]


def _with_onnx(options: ExportOptions, precision: Precision | None, export_file: Callable[[OnnxFile], Any]) -> Any:
    """What `export_file` makes of the source as an exported graph, which is made first where there are weights only."""
    path = _bundled(options.source, ".onnx")
    if path.suffix == ".safetensors":
        with tempfile.TemporaryDirectory() as folder:
            return export_file(_trained(options).write_onnx(Path(folder) / "graph.onnx", precision))
    shaping = ["name", "crop_size", "box_scale", "hand_model", "calibration"]
    shaping += ["precision"] if options.target == "onnx-web" else []  # OpenVINO stores weights anew
    given = [f"--{name.replace('_', '-')}" for name in shaping if getattr(options, name) is not None]
    if given:
        raise ValueError(f"{', '.join(given)} shape an export from weights; {options.source} is exported already")
    return export_file(read_onnx(path))


def _trained(options: ExportOptions) -> Trained:
    path = _bundled(options.source, ".safetensors")
    if path.suffix == ".onnx":
        raise ValueError(f"the target {options.target!r} is made from weights (.safetensors), got {path}")
    name = options.name or options.output.stem
    if load_weights(path).metadata["config"].get("task") != "mesh":
        return Trained(load_detector(path), (INPUT_SIZE.height, INPUT_SIZE.width), name)
    network, config = load_trained(path)
    graph = path.with_suffix(".onnx")  # of bundled weights, it knows its crops and its calibration
    beside = read_onnx(graph) if path.parent == ASSETS and graph.is_file() else None
    size = options.crop_size or (beside.input_size[0] if beside else config["run"]["schedule"][-1][1])
    model = HandModel.load(options.hand_model or config["hand_model"])
    confidence = beside.metadata.get("confidence") if beside else None
    if options.calibration:
        confidence = read_confidence(options.calibration)
    box_scale = options.box_scale or (beside.metadata if beside else config)["box_scale"]
    return Trained(network, (size, size), name, model, box_scale, confidence)


def _bundled(source: str, suffix: str) -> Path:
    """The path that `source` is, or the bundled file of that name."""
    names = sorted({path.stem for path in ASSETS.glob("*.onnx")})
    if source in names:
        return (ASSETS / source).with_suffix(suffix)
    if Path(source).suffix not in (".onnx", ".safetensors"):
        raise ValueError(f"{source!r} is neither weights (.safetensors), an .onnx file, nor one of {', '.join(names)}")
    return Path(source)


def read_confidence(path: Path) -> dict:
    """What makes probabilities of a network's scores; ValueError where the file does not say."""
    content = parsed_json(path.read_bytes(), path)
    if not isinstance(content, dict) or "confidence" not in content:
        raise ValueError(f"{path} is not a calibration.json of `handmesh evaluate calibration`")
    return content["confidence"]
