"""Export trained weights as one ONNX graph: `python scripts/export.py runs/mesh/weights.safetensors --out mine.onnx`.

Weights of the mesh network become a graph from a (1, S, S, 3) uint8 RGB crop to vertices, joints,
rotations, shape, two logits and the errors to expect; weights of the detector become one from a
whole picture to its maps. Either is compared with torch number by number before the file is written.
One set of weights can serve several sizes of crops: each size is a file of its own.
"""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument(
        "--precision",
        choices=("fp16", "fp32"),
        default="fp16",
        help="how weights are stored: fp16 makes a file half as large that computes in fp32 all the same (default)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        help="mesh: calibration.json of `evaluate.py calibration` on an export of these weights; it goes along",
    )
    options = parser.parse_args()
    try:
        from handmesh.checkpoint import load_weights

        config = load_weights(options.weights).metadata.get("config", {})
        is_mesh = config.get("task") == "mesh"
        differences = export_mesh_weights(options, config) if is_mesh else export_detector_weights(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: exporting needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1
    print(report(options, differences))
    return 0


def export_mesh_weights(options: argparse.Namespace, config: dict) -> dict[str, float]:
    """Write the mesh network; how far each output is from torch."""
    from handmesh.checkpoint import load_network
    from handmesh.export import export_mesh
    from handmesh.hand_model import HandModel

    size = options.crop_size or config["run"]["schedule"][-1][1]
    model = HandModel.load(options.hand_model or config["hand_model"])
    network, name = load_network(options.weights), options.name or options.out.stem
    confidence = read_confidence(options.calibration) if options.calibration else None
    return export_mesh(network, model, options.out, size, config["box_scale"], name, options.precision, confidence)


def read_confidence(path: Path) -> dict:
    """What makes chances of a network's scores; ValueError where the file does not say."""
    content = json.loads(path.read_text())
    if "confidence" not in content:
        raise ValueError(f"{path} is not a calibration.json of `scripts/evaluate.py calibration`")
    return content["confidence"]


def export_detector_weights(options: argparse.Namespace) -> dict[str, float]:
    """Write the detector; how far each output is from torch."""
    from handmesh.export_detector import export_detector, load_detector

    network, name = load_detector(options.weights), options.name or options.out.stem
    return export_detector(network, options.out, name=name, precision=options.precision)


def report(options: argparse.Namespace, differences: dict[str, float]) -> str:
    """What to print: the file, and each output's largest difference from torch."""
    size_mb = options.out.stat().st_size / 1e6
    lines = [
        f"wrote {options.out}: {size_mb:.1f} MB, weights stored as {options.precision}",
        "largest difference of each output from torch, over random pictures:",
    ]
    for name, difference in differences.items():
        value, unit = (difference * 1000, " mm") if name.endswith("_m") else (difference, "")
        lines.append(f"  {name.removesuffix('_m'):<12} {value:.5f}{unit}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
