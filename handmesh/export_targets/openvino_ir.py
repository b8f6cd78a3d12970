"""OpenVINO's own format: a text file with the graph and a binary file with weights."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from handmesh.export_targets.onnx_file import OnnxFile
from handmesh.export_targets.parity import CLIP, NOISE, Parity, Runner, check
from handmesh.onnx_storage import Precision
from handmesh.runtime.backend import METADATA_KEY

TOLERANCE = {"mesh": {NOISE: 5e-4, CLIP: 5e-4}, "detector": {NOISE: 0.05, CLIP: 0.05}}
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
    model = openvino.convert_model(io.BytesIO(source.proto.SerializeToString()))
    model.set_rt_info(json.dumps(source.metadata), [METADATA_KEY])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=precision == "fp16")
        parity = _compared(openvino.Core(), source, written)
        for file in (written.with_suffix(".bin"), written):  # the one that is opened comes last
            os.replace(file, path.with_suffix(file.suffix))
    return parity


def _compared(core: object, source: OnnxFile, path: Path) -> dict[str, Parity]:
    kind = source.metadata["kind"]
    parity = {"f32": source.compared(_runner(core, path, "f32"))}
    check(parity["f32"], TOLERANCE[kind], ["vertices_m"] if kind == "mesh" else None)
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        parity["bf16"] = source.compared(_runner(core, path, "bf16"))
    return parity


def _runner(core: object, path: Path, precision: str) -> Runner:
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    names = {output.any_name: output for output in compiled.outputs}

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        results = compiled([image])
        return {name: np.array(results[output]) for name, output in names.items()}

    return run
