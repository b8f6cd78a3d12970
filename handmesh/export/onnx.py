"""From weights to one verified ONNX graph, crop to vertices or whole image to maps: what it says and gives, and how
far its numbers are from another runtime's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from handmesh.assets import DEMO_CLIP, detector_path
from handmesh.crop import crop_affine, letterbox, warp
from handmesh.data.detection import Size
from handmesh.detection import Detector
from handmesh.export.compress import HALVED_FROM, Precision, in_eight_bits, in_single_precision, shared, stored_in
from handmesh.files import write_bytes
from handmesh.hand.model import HandModel
from handmesh.machine import import_onnxruntime
from handmesh.models.checkpoint import built, load_weights
from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.models.mesh_net import HandNet
from handmesh.tracking.backends import METADATA_KEY, Kind, open_session, split_outputs
from handmesh.training.losses import pose_hand
from handmesh.video.sources import open_source

onnxruntime = import_onnxruntime()

# How far one runtime's numbers are from another's, on noise and on images of hands.

Runner = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""(1, H, W, 3) uint8 RGB through a network: its outputs by name."""

NOISE, CLIP = "noise", "clip"
"""Where images come from: numbers at random, which are harder than any photograph, and the bundled clip."""

STEP, FRAMES = 25, 300


class ExportMismatch(RuntimeError):
    """What was exported does not give what it should; nothing was written."""


class Parity(NamedTuple):
    """The largest absolute difference of each output, by where the images came from."""

    differences: dict[str, dict[str, float]]  # by output, then by `NOISE` and `CLIP`
    images: dict[str, int]  # how many there were

    def worst(self, output: str) -> float:
        """The largest difference of an output on any image, in its own unit."""
        return max(self.differences[output].values())

    def table(self) -> str:
        """Lines to print: a row an output, a column for each kind of image. Metres become millimetres."""
        lines = [f"  {'output':<12}" + "".join(f"{f'{n} x {kind}':>16}" for kind, n in self.images.items())]
        for name, by_kind in self.differences.items():
            factor, unit = (1000, " mm") if name.endswith("_m") else (1, "")
            cells = "".join(f"{f'{factor * difference:.5f}{unit}':>16}" for difference in by_kind.values())
            lines.append(f"  {name.removesuffix('_m'):<12}{cells}")
        return "\n".join(lines)


def measure(expected: Runner, given: Runner, samples: Mapping[str, Sequence[np.ndarray]]) -> Parity:
    """Run both on all images. Outputs of `expected` that `given` lacks are a KeyError; others are ignored."""
    differences: dict[str, dict[str, float]] = {}
    for kind, images in samples.items():
        for image in images:
            found = given(image)
            for name, value in expected(image).items():
                worst = differences.setdefault(name, {})
                # Not Python's `max`: what is no number must stay.
                worst[kind] = float(np.maximum(worst.get(kind, 0.0), np.abs(found[name] - value).max()))
    return Parity(differences, {kind: len(images) for kind, images in samples.items()})


def torch_runner(graph: ImageGraph, of_unit: Callable[[Tensor], Sequence[Tensor]] | None = None) -> Runner:
    """A graph in torch; of_unit: its function of (1, 3, H, W) float RGB between 0 and 1 in another form."""
    of_unit = of_unit or graph.of_unit

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            values = of_unit(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
        return {name: value.numpy() for name, value in zip(graph.outputs, values, strict=True)}

    return run


def check(parity: Parity, tolerance: Mapping[str, float], outputs: Collection[str] | None = None) -> None:
    """Raise ExportMismatch where an output differs by more than `tolerance` allows on its kind of images.

    outputs: the names of those to look at; None looks at all.
    """
    for name in parity.differences if outputs is None else outputs:
        for kind, difference in parity.differences[name].items():
            if not difference <= tolerance[kind]:  # true for what is no number, too
                raise ExportMismatch(
                    f"{name} differs by {difference:.5f} on {kind}, expected at most {tolerance[kind]}; "
                    "nothing was written"
                )


def images_for(kind: Kind, size: tuple[int, int], box_scale: float = 1.0) -> dict[str, list[np.ndarray]]:
    """What to compare a network on: (1, H, W, 3) uint8 RGB images by where they come from.

    size: (height, width) that the network takes. box_scale: of a mesh network, from its metadata.
    """
    numbers = np.random.default_rng(0)
    noise = [numbers.integers(0, 256, (1, *size, 3), np.uint8) for _ in range(4)]
    frames = clip_frames()
    if kind == "detector":
        return {NOISE: noise, CLIP: [letterbox(frame, *size).image[None] for frame in frames]}
    # Hands as the bundled detector finds them, left ones mirrored, as the tracker shows them to the network.
    detector = Detector(open_session(detector_path(), "detector"))
    crops = [
        warp(frame, crop_affine(hand.box.scaled(box_scale), size[0], hand.side == "left"), size[0])[None]
        for frame in frames
        for hand in detector.detect(frame)
    ]
    return {NOISE: noise, CLIP: crops}


def clip_frames() -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB frames of the bundled clip."""
    source = open_source(DEMO_CLIP)
    try:
        return [frame.image_rgb for frame in islice(source, 0, FRAMES, STEP)]
    finally:
        source.close()


class OnnxFile(NamedTuple):
    """A graph that `handmesh export` wrote, and its metadata."""

    proto: onnx.ModelProto
    metadata: dict[str, Any]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the images that it takes."""
        dims = self.proto.graph.input[0].type.tensor_type.shape.dim
        return dims[1].dim_value, dims[2].dim_value

    @property
    def changing_outputs(self) -> list[str]:
        """The names of the outputs that differ from image to image."""
        return split_outputs(output.name for output in self.proto.graph.output)[0]

    def in_single_precision(self) -> OnnxFile:
        """The same file without rounding between convolutions, for runtimes that compute so."""
        return self._replace(proto=in_single_precision(self.proto))

    def compared(self, given: Runner) -> Parity:
        """How far another runtime's numbers are from this file's in ONNX Runtime."""
        images = images_for(self.metadata["kind"], self.input_size, self.metadata.get("box_scale", 1.0))
        return measure(runner(self), given, images)


def read_onnx(path: Path) -> OnnxFile:
    """Read an exported file. ValueError where it is missing, damaged or not handmesh's."""
    if not path.is_file():
        raise ValueError(f"no model at {path}: expected an .onnx file that `handmesh export` wrote")
    try:
        proto = onnx.load(path)
        text = {entry.key: entry.value for entry in proto.metadata_props}.get(METADATA_KEY, "null")
        metadata = json.loads(text)
    except Exception as error:  # protobuf's errors share no base class with the others
        raise ValueError(f"{path} is not a readable ONNX model; export it again ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("kind") not in ("mesh", "detector"):
        raise ValueError(f"{path} was not exported by handmesh; expected an .onnx file that `handmesh export` wrote")
    return OnnxFile(proto, metadata)


def runner(file: OnnxFile) -> Runner:
    """The file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = file.proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = file.changing_outputs
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


# From weights to a graph, compared with torch before it is kept.

OPSET = 20

VERTEX_TOLERANCE_MM: dict[Precision, float] = {"int8": 3.0, "fp16": 0.5, "fp32": 0.05}
"""How far any vertex may be from torch's: in int8 on hands of the bundled clip, otherwise on random noise, which is
harder than any photograph."""


class ImageGraph(nn.Module):
    """(1, H, W, 3) uint8 RGB images to named outputs: what is frozen into a file."""

    outputs: list[str]
    """The names of what comes out."""

    def forward(self, image: Tensor) -> Sequence[Tensor]:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, image: Tensor) -> Sequence[Tensor]:
        """The same of (1, 3, H, W) float RGB between 0 and 1."""
        raise NotImplementedError


class MeshOutputs(NamedTuple):
    """The outputs of the exported graph, for one crop. Metres, root-relative, the crop's own view."""

    vertices_m: Tensor  # (1, V, 3)
    joints_m: Tensor  # (1, 21, 3)
    joints_crop: Tensor  # (1, 21, 2), -1 and 1 are the crop's outer borders
    rotations: Tensor  # (1, 16, 3, 3)
    shape: Tensor  # (1, 10)
    presence: Tensor  # (1,) logit
    right: Tensor  # (1,) logit
    spread: Tensor  # (1, 21, 2) errors to expect: half crop sides, decimetres; see `mesh_net.HandNetOutput`
    contact: Tensor | None = None  # (1, 4) logits: the thumb touches that finger; no output where it is not told


class MeshGraph(ImageGraph):
    """(1, S, S, 3) uint8 RGB crops to `MeshOutputs`."""

    def __init__(self, network: HandNet, model: HandModel) -> None:
        super().__init__()
        self.network, self.model = network, model
        self.outputs = [name for name in MeshOutputs._fields if name != "contact" or network.config.contact]

    def of_unit(self, image: Tensor) -> tuple[Tensor, ...]:
        """The same of (1, 3, S, S) float RGB between 0 and 1; without what the network does not tell."""
        hand = pose_hand(self.network(image), self.model)
        net = hand.net
        outputs = MeshOutputs(
            hand.vertices_m, hand.joints_m, hand.joints_crop, net.rotations, net.shape, net.presence, net.handedness,
            net.uncertainty, net.contact,
        )  # fmt: skip
        return tuple(output for output in outputs if output is not None)


def export_mesh(
    network: HandNet, model: HandModel, path: Path, crop_size: int, box_scale: float, name: str,
    precision: Precision | None = None, confidence: Mapping[str, Any] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write the merged network and the hand model to `path`; gives each output's largest difference from torch.

    precision: of the stored weights; with fp16, as many of the smaller layers stay whole as the vertices need, and with
    None all of them where that is not enough. In int8 pairs of 1x1 convolutions multiply integers.
    confidence: what makes a probability of the network's scores, kept in the file's metadata (`confidence` of a
    calibration.json). Raises ExportMismatch where ONNX Runtime, given the file, and the network in its training form
    disagree; nothing is written then.
    """
    reference = MeshGraph(network.eval(), model.eval())
    graph = MeshGraph(network.reparameterised(), model).eval()
    metadata = {"kind": "mesh", "name": name, "box_scale": box_scale, "backbone": network.config.backbone}
    metadata |= {"confidence": confidence} if confidence else {}
    example = torch.zeros(1, crop_size, crop_size, 3, dtype=torch.uint8)
    proto = to_onnx(graph, example, metadata, hand_constants(model))
    images = noise_like(example)
    if precision == "int8":  # noise is nothing that its scales are made for
        images = images_for("mesh", (crop_size, crop_size), box_scale)[CLIP]
        proto = in_eight_bits(proto, images)
    tolerance_mm = VERTEX_TOLERANCE_MM[precision or "fp16"]
    for stored_as, halved_from in _ways_to_store(precision):
        stored = shared(stored_in(stored_as, proto, halved_from))
        differences = worst_differences(reference, stored, images)
        difference_mm = differences["vertices_m"] * 1000
        if difference_mm < tolerance_mm:  # false for what is no number, too
            write_bytes(path, stored.SerializeToString())
            return differences
    raise ExportMismatch(
        f"vertices differ by {difference_mm:.4f} mm between ONNX (weights stored as {precision or stored_as}) and "
        f"torch, expected less than {tolerance_mm}; nothing was written" + _REMEDY[precision]
    )


def _ways_to_store(precision: Precision | None) -> Iterator[tuple[Precision, int]]:
    """How weights may be stored, the smallest file first; None leaves it open. Of int8: those that have more bits."""
    if precision != "fp32":
        yield from (("fp16", halved_from) for halved_from in HALVED_FROM)
    if precision in ("fp32", None):
        yield "fp32", HALVED_FROM[0]


_ELSE = ": leave --precision out, or try --precision fp32"
_REMEDY = {"int8": _ELSE, "fp16": _ELSE, "fp32": "", None: ""}


def hand_constants(model: HandModel) -> dict[str, np.ndarray]:
    """The parametric hand (see `SkinnedHand`) by the names that the runtime reads, which poses smoothed hands."""
    constants = {
        "faces": model.faces.astype(np.int32),
        "hand_template": model.template,
        "hand_shapedirs": model.shapedirs.unflatten(1, (-1, 3)).permute(1, 2, 0),
        "hand_weights": model.weights[model.level_order.argsort()].T,
        "hand_keypoint_regressor": model.keypoint_regressor,
    }
    if model.posedirs is not None:
        constants["hand_posedirs"] = model.posedirs.unflatten(1, (-1, 3)).permute(1, 2, 0)
    return {name: np.ascontiguousarray(value) for name, value in constants.items()}


def to_onnx(
    graph: ImageGraph, example: Tensor, metadata: dict[str, Any], constants: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """A graph with one input `image`, named outputs, constant outputs and handmesh metadata."""
    program = torch.onnx.export(
        graph, (example,), input_names=["image"], output_names=graph.outputs, opset_version=OPSET, dynamo=True,
        verbose=False,
    )  # fmt: skip
    proto = program.model_proto
    for name, value in (constants or {}).items():
        tensor = onnx.numpy_helper.from_array(value)
        proto.graph.node.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    onnx.helper.set_model_props(proto, {"handmesh": json.dumps({"format": 1, **metadata})})
    _forget_origins(proto)
    onnx.checker.check_model(proto)
    return proto


def _forget_origins(proto: onnx.ModelProto) -> None:
    """Drop what the exporter notes on where everything came from, which nobody reads and paths are part of."""
    proto.doc_string = ""
    graph = proto.graph
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


INPUT_SIZE = Size(256, 192)

TOLERANCE: dict[Precision, float] = {"fp16": 3e-2, "fp32": 2e-3}
"""The largest difference between ONNX Runtime and torch, in logits, cells and their logarithms."""


class DetectorGraph(ImageGraph):
    """(1, H, W, 3) uint8 RGB images to `DetectorOutput`."""

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network, self.outputs = network, list(DetectorOutput._fields)

    def of_unit(self, image: Tensor) -> DetectorOutput:
        """The same of (1, 3, H, W) float RGB between 0 and 1."""
        return self.network(image)


def noise_like(example: Tensor) -> list[np.ndarray]:
    """Four images of random numbers like `example`, (1, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, example.shape, generator=generator).to(torch.uint8).numpy() for _ in range(4)]


def worst_differences(reference: ImageGraph, proto: onnx.ModelProto, images: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest difference of each output between a torch graph and its export on (1, H, W, 3) uint8 images."""
    parity = measure(torch_runner(reference), runner(OnnxFile(proto, {})), {"": images})
    return {name: parity.worst(name) for name in parity.differences}


def load_detector(path: Path) -> DetectorNet:
    """The network of a detector's weights file, in evaluation mode; strict about names and shapes."""
    return built(path, load_weights(path), "detector", DetectorNet, DetectorNetworkConfig)


def export_detector(
    network: DetectorNet,
    path: Path,
    size: Size = INPUT_SIZE,
    name: str = "detector",
    precision: Precision | None = None,
) -> dict[str, float]:
    """Write the reparameterised network to `path`; gives each output's largest difference from torch.

    size: of the images that the file takes; precision: of the stored weights, None as for `export_mesh`, int8 a
    ValueError. Raises ExportMismatch where ONNX Runtime, given the file, and the network in its training form disagree;
    nothing is written then.
    """
    if precision == "int8":
        raise ValueError("a detector is stored in fp16 or fp32, got --precision int8")
    graph = DetectorGraph(network.reparameterised()).eval()
    example = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    metadata = {"kind": "detector", "name": name, "backbone": network.config.backbone}
    proto = to_onnx(graph, example, metadata)
    for stored_as, halved_from in _ways_to_store(precision):
        stored = stored_in(stored_as, proto, halved_from)
        differences = worst_differences(DetectorGraph(network.eval()), stored, noise_like(example))
        difference = max(differences.values())
        if difference < TOLERANCE[precision or "fp16"]:  # false for what is no number, too
            write_bytes(path, stored.SerializeToString())
            return differences
    raise ExportMismatch(
        f"outputs differ by {difference:.5f} between ONNX (weights stored as {stored_as}) and torch; "
        "nothing was written" + _REMEDY[precision]
    )
