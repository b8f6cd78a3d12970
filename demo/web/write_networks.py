"""Writes the bundled networks as the pages get them: `python demo/web/write_networks.py FOLDER`. Needs onnx, not torch.

WebAssembly runs mesh networks as Python does. The detector and NAME_webgpu.onnx, which is for WebGPU, are the files of
`handmesh export NAME --target onnx-web`, which also says how far their numbers are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from handmesh.assets import ASSETS, DETECTOR, bundled_models
from handmesh.export.compress import for_browsers


def write(folder: Path) -> None:
    """Into `folder`, which is there."""
    for name in (DETECTOR, *bundled_models()):
        file = ASSETS / f"{name}.onnx"
        single = for_browsers(onnx.load(file), is_detector=name == DETECTOR).SerializeToString()
        if name == DETECTOR:
            (folder / file.name).write_bytes(single)
        else:
            (folder / file.name).write_bytes(file.read_bytes())
            (folder / f"{name}_webgpu.onnx").write_bytes(single)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
