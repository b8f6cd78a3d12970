"""From the detector's weights to an ONNX graph, whole picture to maps, compared with torch before it is kept."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from handmesh.checkpoint import load_weights, write_atomically
from handmesh.data.scenes import Size
from handmesh.detector_network import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.export import ExportMismatch, compare, to_onnx
from handmesh.onnx_storage import Precision, stored_in

INPUT_SIZE = Size(256, 192)

TOLERANCE: dict[Precision, float] = {"fp16": 3e-2, "fp32": 2e-3}
"""The largest difference between ONNX Runtime and torch, in logits, cells and their logarithms."""


class DetectorGraph(nn.Module):
    """(1, H, W, 3) uint8 RGB pictures to `DetectorOutput`: what is frozen into the file."""

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> DetectorOutput:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, picture: Tensor) -> DetectorOutput:
        """The same of (1, 3, H, W) float RGB between 0 and 1."""
        return self.network(picture)


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

    size: of the pictures that the file takes; precision: of the stored weights. Raises ExportMismatch
    where ONNX Runtime, given the file, and the network in its training form disagree; nothing is
    written then.
    """
    graph = DetectorGraph(network.reparameterised()).eval()
    example = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    metadata = {"kind": "detector", "name": name, "backbone": network.config.backbone}
    proto = stored_in(precision, to_onnx(graph, example, list(DetectorOutput._fields), metadata))
    differences = compare(DetectorGraph(network.eval()), proto, example)
    difference = max(differences.values())
    if not difference < TOLERANCE[precision]:
        raise ExportMismatch(f"outputs differ by {difference:.5f} between ONNX and torch; nothing was written")
    write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
    return differences
