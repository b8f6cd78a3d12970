"""Writes the bundled networks as the page gets them: `python demo/web/write_networks.py FOLDER`. Needs onnx, not torch.

The same files as those of `handmesh export NAME --target onnx-web`, which also says how far their numbers are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from handmesh.assets import ASSETS, DETECTOR, bundled_models
from handmesh.export.compress import for_browsers

if __name__ == "__main__":
    for name in (DETECTOR, *bundled_models()):
        proto = for_browsers(onnx.load(ASSETS / f"{name}.onnx"), is_detector=name == DETECTOR)
        Path(sys.argv[1], f"{name}.onnx").write_bytes(proto.SerializeToString())
