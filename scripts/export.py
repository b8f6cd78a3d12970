"""Export trained weights as one ONNX graph: `python scripts/export.py runs/mesh/weights.safetensors --out mine.onnx`.

The graph takes a (1, S, S, 3) uint8 RGB crop and gives vertices, joints, rotations, shape and two
logits. It is compared with torch number by number before the file is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse, export, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="weights.safetensors of a training run")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--name", help="name in the file's metadata; default: the file's")
    parser.add_argument("--crop-size", type=int, help="side of the crop in pixels; default: the training's last")
    parser.add_argument("--hand-model", type=Path, help="a converted MANO .npz; default: the training's")
    options = parser.parse_args()
    try:
        from handmesh.checkpoint import load_network, load_weights
        from handmesh.export import ExportMismatch, export_mesh
        from handmesh.hand_model import HandModel

        config = load_weights(options.weights).metadata["config"]
        size = options.crop_size or config["run"]["schedule"][-1][1]
        model = HandModel.load(options.hand_model or config["hand_model"])
        network = load_network(options.weights)
        difference = export_mesh(
            network, model, options.out, size, config["box_scale"], options.name or options.out.stem
        )
    except (ValueError, OSError, ExportMismatch) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    megabytes = options.out.stat().st_size / 1e6
    print(f"wrote {options.out} ({megabytes:.1f} MB); vertices differ from torch by at most {difference:.5f} mm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
