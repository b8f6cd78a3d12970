"""Export networks: one ONNX graph from crop to vertices, or what browsers, OpenVINO and Apple's devices run.

    python scripts/export.py runs/mesh/weights.safetensors --out mine.onnx
    python scripts/export.py fast --target onnx-web --out web/fast.onnx
    python scripts/export.py mine.onnx --target openvino --out mine.xml
    python scripts/export.py fast --target coreml --out fast.mlpackage

The source is a training's weights, an exported .onnx file (onnx-web and openvino), or the name of a
bundled network. Numbers are compared with the source's before the file is kept, on noise and on
hands of the bundled clip; the table that is printed says the largest difference of each output.
One set of weights can serve several sizes of crops: each size is a file of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TARGETS = """\
targets:
  onnx      the graph that handmesh itself runs; from weights
  onnx-web  the same for onnxruntime-web: static, in operators that WebGPU has, the detector's large layers in 8 bits
  openvino  an .xml and a .bin file for OpenVINO, weights in half precision
  coreml    an .mlpackage for macOS 13 and iOS 16 on; from weights; its numbers can be compared on macOS alone
"""


def main() -> int:
    """Parse, export, print; 0 on success, 1 with one line on an error."""
    options = _parser().parse_args()
    try:
        from handmesh.export.targets import ExportOptions, export

        print(export(ExportOptions(**vars(options))))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: exporting needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=TARGETS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="weights.safetensors, an exported .onnx file, or a bundled network's name")
    parser.add_argument("--target", choices=("onnx", "onnx-web", "openvino", "coreml"), default="onnx")
    parser.add_argument("--out", type=Path, required=True, help="the file to write: .onnx, .xml or .mlpackage")
    parser.add_argument("--name", help="from weights: name in the file's metadata; default: the file's")
    parser.add_argument("--crop-size", type=int, help="mesh weights: side of the crop in px; default: training's last")
    parser.add_argument("--hand-model", type=Path, help="mesh weights: a converted MANO .npz; default: the training's")
    parser.add_argument(
        "--precision",
        choices=("fp16", "fp32"),
        help="how weights are stored, default fp16: a file half as large that computes in fp32 all the same; "
        "but Core ML computes in what it stores",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        help="mesh weights: calibration.json of `evaluate.py calibration` on an export of these; it goes along",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
