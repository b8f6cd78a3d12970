"""Exported .onnx files: what they say of themselves, and how they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime

from handmesh.export_targets.parity import Parity, Runner, measure, pictures_for
from handmesh.runtime.backend import METADATA_KEY, split_outputs


class OnnxFile(NamedTuple):
    """A graph that `scripts/export.py` wrote, and its metadata."""

    proto: onnx.ModelProto
    metadata: dict[str, Any]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the pictures that it takes."""
        dims = self.proto.graph.input[0].type.tensor_type.shape.dim
        return dims[1].dim_value, dims[2].dim_value

    @property
    def changing_outputs(self) -> list[str]:
        """The names of the outputs that differ from picture to picture."""
        return split_outputs(output.name for output in self.proto.graph.output)[0]

    def pictures(self) -> dict[str, list[np.ndarray]]:
        """What to compare it on: see `parity.pictures_for`."""
        return pictures_for(self.metadata["kind"], self.input_size, self.metadata.get("box_scale", 1.0))

    def compared(self, given: Runner) -> Parity:
        """How far another runtime's numbers are from this file's in ONNX Runtime."""
        return measure(runner(self), given, self.pictures())


def read_onnx(path: Path) -> OnnxFile:
    """Read an exported file. ValueError where it is missing, damaged or not handmesh's."""
    if not path.is_file():
        raise ValueError(f"no model at {path}: expected an .onnx file that scripts/export.py wrote")
    try:
        proto = onnx.load(path)
        text = {entry.key: entry.value for entry in proto.metadata_props}.get(METADATA_KEY, "null")
        metadata = json.loads(text)
    except Exception as error:  # protobuf's errors share no base class with the others
        raise ValueError(f"{path} is not a readable ONNX model; export it again ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("kind") not in ("mesh", "detector"):
        raise ValueError(f"{path} was not exported by handmesh; expected an .onnx file that scripts/export.py wrote")
    return OnnxFile(proto, metadata)


def runner(file: OnnxFile) -> Runner:
    """The file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = file.proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = file.changing_outputs
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))
