"""A file for onnxruntime-web: the same network, as few bytes as its numbers allow."""

from __future__ import annotations

import gzip
from pathlib import Path

from handmesh.checkpoint import write_atomically
from handmesh.export_targets.onnx_file import OnnxFile, runner
from handmesh.export_targets.parity import CLIP, NOISE, Parity, check
from handmesh.export_targets.rules import violations
from handmesh.onnx_storage import for_browsers

BUDGET_MB = 15
"""What the detector and one mesh network may weigh together, as they lie on the server, without compression."""

TOLERANCE = {"mesh": {NOISE: 1e-5, CLIP: 1e-5}, "detector": {NOISE: 0.1, CLIP: 0.05}}
"""The largest difference of any output. The mesh network keeps its weights as they are; a wrong logit of the
detector's moves a score by 0.012 at most on the clip, an offset a box by 0.4 pixels of 256x192, and a logarithm its
side by 5 %, before the mesh network looks again."""


def export_web(source: OnnxFile, path: Path) -> Parity:
    """Write `source` for browsers; gives how far it is from the source, both in ONNX Runtime on the CPU.

    Raises ValueError where the graph has what WebGPU does not run, ExportMismatch where numbers differ.
    """
    kind = source.metadata["kind"]
    proto = for_browsers(source.proto, is_detector=kind == "detector")
    wrong = violations(proto)
    if wrong:
        raise ValueError(f"the graph holds what browsers may not run: {'; '.join(wrong)}")
    parity = source.compared(runner(OnnxFile(proto, source.metadata)))
    check(parity, TOLERANCE[kind])
    write_atomically(path, lambda temporary: temporary.write_bytes(proto.SerializeToString()))
    return parity


def gzipped_mb(path: Path) -> float:
    """What is transferred where a server compresses, in megabytes."""
    return len(gzip.compress(path.read_bytes(), 6)) / 1e6
