"""From weights to one verified ONNX graph: crop to vertices, or whole image to the detector's maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from handmesh.data.detection import Size
from handmesh.export.compress import HALVED_FROM, Precision, shared, stored_in
from handmesh.export.parity import ExportMismatch, worst_on_noise
from handmesh.files import write_bytes
from handmesh.hand.model import HandModel
from handmesh.models.checkpoint import load_weights
from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.models.mesh_net import HandNet
from handmesh.training.losses import pose_hand

# From weights to one ONNX graph, crop to vertices, compared with torch before it is kept.


OPSET = 20

VERTEX_TOLERANCE_MM: dict[Precision, float] = {"fp16": 0.5, "fp32": 0.05}
"""How far vertices may be from torch's on random noise, which is harder than any photograph."""


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


class MeshGraph(nn.Module):
    """(1, S, S, 3) uint8 RGB crops to `MeshOutputs`: what is frozen into the file."""

    def __init__(self, network: HandNet, model: HandModel) -> None:
        super().__init__()
        self.network, self.model = network, model

    def forward(self, image: Tensor) -> MeshOutputs:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, image: Tensor) -> MeshOutputs:
        """The same of (1, 3, S, S) float RGB between 0 and 1."""
        hand = pose_hand(self.network(image), self.model)
        net = hand.net
        return MeshOutputs(
            hand.vertices_m, hand.joints_m, hand.joints_crop, net.rotations, net.shape, net.presence, net.handedness,
            net.uncertainty,
        )  # fmt: skip


def export_mesh(
    network: HandNet, model: HandModel, path: Path, crop_size: int, box_scale: float, name: str,
    precision: Precision = "fp16", confidence: Mapping[str, Any] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write the merged network and the hand model to `path`; gives each output's largest difference from torch.

    precision: of the stored weights; with fp16, as many of the smaller layers stay whole as the vertices need.
    confidence: what makes a probability of the network's scores, kept in the file's metadata (`confidence` of a
    calibration.json). Raises ExportMismatch where ONNX Runtime, given the file, and the network in its training form
    disagree; nothing is written then.
    """
    reference = MeshGraph(network.eval(), model.eval())
    graph = MeshGraph(network.reparameterised(), model).eval()
    metadata = {"kind": "mesh", "name": name, "box_scale": box_scale, "backbone": network.config.backbone}
    metadata |= {"confidence": confidence} if confidence else {}
    example = torch.zeros(1, crop_size, crop_size, 3, dtype=torch.uint8)
    proto = to_onnx(graph, example, list(MeshOutputs._fields), metadata, hand_constants(model))
    tolerance_mm = VERTEX_TOLERANCE_MM[precision]
    for halved_from in HALVED_FROM if precision == "fp16" else HALVED_FROM[:1]:
        stored = shared(stored_in(precision, proto, halved_from))
        differences = worst_on_noise(reference, stored, example)
        difference_mm = differences["vertices_m"] * 1000
        if difference_mm < tolerance_mm:  # false for what is no number, too
            write_bytes(path, stored.SerializeToString())
            return differences
    raise ExportMismatch(
        f"vertices differ by {difference_mm:.4f} mm between ONNX (weights stored as {precision}) and torch, "
        f"expected less than {tolerance_mm}; nothing was written"
        + (": try --precision fp32" if precision == "fp16" else "")
    )


def hand_constants(model: HandModel) -> dict[str, np.ndarray]:
    """The parametric hand (see `SkinnedHand`) by the names that the runtime reads, which poses smoothed hands."""
    constants = {
        "faces": model.faces.astype(np.int32),
        "hand_template": model.template,
        "hand_shapedirs": model.shapedirs.unflatten(1, (-1, 3)).permute(1, 2, 0),
        "hand_weights": model.weights[:, model.level_order.argsort()],
        "hand_keypoint_regressor": model.keypoint_regressor,
    }
    if model.posedirs is not None:
        constants["hand_posedirs"] = model.posedirs.unflatten(1, (-1, 3)).permute(1, 2, 0)
    return {name: np.ascontiguousarray(value) for name, value in constants.items()}


def to_onnx(
    graph: nn.Module, example: Tensor, outputs: list[str], metadata: dict[str, Any],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A graph with one input `image`, named outputs, constant outputs and handmesh metadata."""
    program = torch.onnx.export(
        graph, (example,), input_names=["image"], output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
    )
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


# From the detector's weights to an ONNX graph, whole image to maps, compared with torch before it is kept.


INPUT_SIZE = Size(256, 192)

TOLERANCE: dict[Precision, float] = {"fp16": 3e-2, "fp32": 2e-3}
"""The largest difference between ONNX Runtime and torch, in logits, cells and their logarithms."""


class DetectorGraph(nn.Module):
    """(1, H, W, 3) uint8 RGB images to `DetectorOutput`: what is frozen into the file."""

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> DetectorOutput:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, image: Tensor) -> DetectorOutput:
        """The same of (1, 3, H, W) float RGB between 0 and 1."""
        return self.network(image)


def load_detector(path: Path) -> DetectorNet:
    """The network of a detector's weights file, in evaluation mode; strict about names and shapes."""
    weights = load_weights(path)
    config = weights.metadata.get("config", {})
    if config.get("task") != "detector":
        raise ValueError(f"{path} holds weights of the task {config.get('task')!r}; expected 'detector'")
    options = {
        name: tuple(v) if isinstance(v, list) else v for name, v in config["network"].items()
    }  # JSON has no tuples
    network = DetectorNet(DetectorNetworkConfig(**options))
    network.load_state_dict(weights.tensors)
    return network.eval()


def export_detector(
    network: DetectorNet, path: Path, size: Size = INPUT_SIZE, name: str = "detector", precision: Precision = "fp16"
) -> dict[str, float]:
    """Write the reparameterised network to `path`; gives each output's largest difference from torch.

    size: of the images that the file takes; precision: of the stored weights. Raises ExportMismatch
    where ONNX Runtime, given the file, and the network in its training form disagree; nothing is
    written then.
    """
    graph = DetectorGraph(network.reparameterised()).eval()
    example = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    metadata = {"kind": "detector", "name": name, "backbone": network.config.backbone}
    proto = stored_in(precision, to_onnx(graph, example, list(DetectorOutput._fields), metadata))
    differences = worst_on_noise(DetectorGraph(network.eval()), proto, example)
    difference = max(differences.values())
    if not difference < TOLERANCE[precision]:
        raise ExportMismatch(f"outputs differ by {difference:.5f} between ONNX and torch; nothing was written")
    write_bytes(path, proto.SerializeToString())
    return differences
