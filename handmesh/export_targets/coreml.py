"""Core ML: converted from torch anywhere, run on macOS and iOS alone."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from handmesh.export_targets.parity import Parity, Runner, check, measure, torch_runner
from handmesh.onnx_storage import Precision
from handmesh.runtime.backend import METADATA_KEY

TRIED = "coremltools 9.0 with torch 2.15"
"""What this conversion is known to work with."""

SAME = 1e-3
"""How far the program that is converted may be from the network that it was made of: both run in torch."""


class PictureGraph(Protocol):
    """A graph of `export` or `export_detector`."""

    def of_unit(self, picture: Tensor) -> NamedTuple: ...


class _Unit(nn.Module):
    """Core ML hands pictures over as floats in planes, scaled as the package says."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.inner = graph  # a name that torch.fx leaves free

    def forward(self, image: Tensor) -> NamedTuple:
        return self.inner.of_unit(image)


class CoreMLReport(NamedTuple):
    """How far numbers are from the network's own in torch, as far as this machine can tell."""

    program: Parity  # the torch program that was converted, run by torch
    package: Parity | None  # the package itself; None anywhere but on macOS


def export_coreml(
    graph: nn.Module, outputs: Sequence[str], metadata: Mapping[str, Any], path: Path, size: tuple[int, int],
    pictures: Mapping[str, Sequence[np.ndarray]], precision: Precision = "fp16",
) -> CoreMLReport:  # fmt: skip
    """Write `path` (.mlpackage), which takes an RGB image of `size` (height, width) named `image`.

    graph: in evaluation mode, see `PictureGraph`; outputs: their names. precision: of weights and of the
    arithmetic, which Apple's neural engine has in half alone. ValueError where coremltools is missing,
    RuntimeError where it cannot convert.
    """
    tools = _coremltools()
    program = _program(graph, size)
    reference = torch_runner(graph.of_unit, outputs)
    of_program = measure(reference, torch_runner(program.module(), outputs), pictures)
    check(of_program, dict.fromkeys(pictures, SAME))
    package = _converted(tools, program, outputs, size, precision)
    package.short_description = f"handmesh {metadata['kind']} network {metadata['name']}"
    package.license = "Apache-2.0"
    package.user_defined_metadata[METADATA_KEY] = json.dumps({"format": 1, **metadata})
    _save(package, path)
    on_mac = sys.platform == "darwin"
    return CoreMLReport(of_program, measure(reference, _package_runner(package), pictures) if on_mac else None)


def _program(graph: nn.Module, size: tuple[int, int]) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(_Unit(graph).eval(), (torch.zeros(1, 3, *size),)).run_decompositions({})


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


def _save(package: object, path: Path) -> None:
    """A package is a folder: the old one goes only when the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        package.save(str(written))
        if path.exists():
            shutil.rmtree(path)
        written.rename(path)


def _package_runner(package: object) -> Runner:
    from PIL import Image

    return lambda image: package.predict({"image": Image.fromarray(image[0])})


def _coremltools() -> object:
    try:
        import coremltools
    except ImportError as error:
        raise ValueError("the target 'coreml' needs coremltools, on macOS or Linux: pip install coremltools") from error
    return coremltools
