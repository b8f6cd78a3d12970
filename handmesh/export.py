"""From weights to one ONNX graph, crop to vertices, compared with torch before it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from handmesh.checkpoint import write_atomically
from handmesh.hand_model import HandModel
from handmesh.losses import pose_hand
from handmesh.network import HandNet

OPSET = 20
VERTEX_TOLERANCE_MM = 0.05


class MeshOutputs(NamedTuple):
    """The outputs of the exported graph, for one crop. Metres, root-relative, the crop's own view."""

    vertices_m: Tensor  # (1, V, 3)
    joints_m: Tensor  # (1, 21, 3)
    joints_crop: Tensor  # (1, 21, 2), -1 and 1 are the crop's outer borders
    rotations: Tensor  # (1, 16, 3, 3)
    shape: Tensor  # (1, 10)
    presence: Tensor  # (1,) logit
    right: Tensor  # (1,) logit


class MeshGraph(nn.Module):
    """(1, S, S, 3) uint8 RGB crops to `MeshOutputs`: what is frozen into the file."""

    def __init__(self, network: HandNet, model: HandModel) -> None:
        super().__init__()
        self.network, self.model = network, model

    def forward(self, image: Tensor) -> MeshOutputs:
        hand = pose_hand(self.network(image.permute(0, 3, 1, 2).float() / 255), self.model)
        net = hand.net
        return MeshOutputs(
            hand.vertices_m, hand.joints_m, hand.joints_crop, net.rotations, net.shape, net.presence, net.right
        )


class ExportMismatch(RuntimeError):
    """The exported graph does not give what torch gives; nothing was written."""


def export_mesh(network: HandNet, model: HandModel, path: Path, crop_size: int, box_scale: float, name: str) -> float:
    """Write the reparameterised network and the hand model to `path`; gives the largest vertex difference in mm.

    Raises ExportMismatch where ONNX Runtime and the network in its training form disagree.
    """
    reference = MeshGraph(network.eval(), model.eval())
    graph = MeshGraph(network.reparameterised(), model).eval()
    metadata = {"kind": "mesh", "name": name, "box_scale": box_scale, "backbone": network.config.backbone}
    example = torch.zeros(1, crop_size, crop_size, 3, dtype=torch.uint8)
    proto = to_onnx(graph, example, list(MeshOutputs._fields), metadata, {"faces": model.faces.astype(np.int32)})
    difference = compare(reference, proto, example)["vertices_m"] * 1000
    if not difference < VERTEX_TOLERANCE_MM:
        raise ExportMismatch(f"vertices differ by {difference:.4f} mm between ONNX and torch; nothing was written")
    write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
    return difference


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
    proto.doc_string = ""
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    onnx.checker.check_model(proto)
    return proto


def compare(reference: nn.Module, proto: onnx.ModelProto, example: Tensor, trials: int = 4) -> dict[str, float]:
    """The largest absolute difference of each output between torch and ONNX Runtime on random pictures."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst: dict[str, float] = {}
    for _ in range(trials):
        image = torch.randint(0, 256, example.shape, generator=generator).to(torch.uint8)
        with torch.no_grad():
            expected = reference(image)._asdict()
        given = dict(zip(expected, session.run(list(expected), {"image": image.numpy()}), strict=True))
        for name, value in expected.items():
            difference = float(np.abs(value.numpy() - given[name]).max())
            worst[name] = max(worst.get(name, 0.0), difference)
    return worst
