"""Export trained weights as one ONNX graph: `python scripts/export.py runs/mesh/weights.safetensors --out mine.onnx`.

Weights of the mesh network become a graph from a (1, S, S, 3) uint8 RGB crop to vertices, joints,
rotations, shape and two logits; weights of the detector become one from a whole picture to its
maps. Either is compared with torch number by number before the file is written.
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
    parser.add_argument("--crop-size", type=int, help="mesh: side of the crop in pixels; default: the training's last")
    parser.add_argument("--hand-model", type=Path, help="mesh: a converted MANO .npz; default: the training's")
    options = parser.parse_args()
    try:
        from handmesh.checkpoint import load_weights

        config = load_weights(options.weights).metadata.get("config", {})
        print(
            export_mesh_weights(options, config) if config.get("task") == "mesh" else export_detector_weights(options)
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: exporting needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1
    return 0


def export_mesh_weights(options: argparse.Namespace, config: dict) -> str:
    """Write the mesh network; what to print."""
    from handmesh.checkpoint import load_network
    from handmesh.export import export_mesh
    from handmesh.hand_model import HandModel

    size = options.crop_size or config["run"]["schedule"][-1][1]
    model = HandModel.load(options.hand_model or config["hand_model"])
    network, name = load_network(options.weights), options.name or options.out.stem
    difference = export_mesh(network, model, options.out, size, config["box_scale"], name)
    return f"wrote {options.out} ({_megabytes(options.out)}); vertices differ from torch by {difference:.5f} mm at most"


def export_detector_weights(options: argparse.Namespace) -> str:
    """Write the detector; what to print."""
    from handmesh.export_detector import export_detector, load_detector

    difference = export_detector(load_detector(options.weights), options.out)
    return f"wrote {options.out} ({_megabytes(options.out)}); its maps differ from torch by {difference:.5f} at most"


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
