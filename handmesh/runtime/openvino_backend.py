"""Runs exported networks in OpenVINO, which is quicker than ONNX Runtime on many processors of Intel's and AMD's."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from handmesh.runtime.backend import split_outputs


class OpenVINOSession:
    """A network compiled for the CPU; see `backend.Session`.

    OpenVINO itself chooses the precision of the arithmetic: where the processor multiplies bfloat16, it
    does so, and vertices differ from those in single precision by up to 2 mm.
    """

    def __init__(self, path: Path, metadata: dict[str, object], threads: int) -> None:
        """Raises ValueError where OpenVINO is not installed."""
        openvino = _openvino()
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._requests = threading.local()  # a request serves one run at a time
        self.metadata = metadata
        names = {output.any_name: output for output in self._compiled.outputs}
        changing, constant = split_outputs(names)
        self._outputs = {name: names[name] for name in changing}
        shape = list(self._compiled.inputs[0].shape)
        self.input_size: tuple[int, int] = (shape[1], shape[2])
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.provider = f"OpenVINO CPU {precision}"
        first = self._infer(np.zeros(shape, np.uint8))
        self.constants = {name: np.array(first[names[name]]) for name in constant}

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        """See `backend.Session`."""
        results = self._infer(image_nhwc)
        return {name: np.array(results[output]) for name, output in self._outputs.items()}

    def _infer(self, image_nhwc: np.ndarray) -> object:
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        return self._requests.mine.infer({0: image_nhwc}, share_inputs=True, share_outputs=True)


def _openvino() -> object:
    try:
        import openvino
    except ImportError as error:
        raise ValueError("the backend 'openvino' is not installed: pip install 'handmesh[openvino]'") from error
    return openvino
