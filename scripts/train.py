"""Train a network from a preset: `python scripts/train.py configs/mesh.yaml [--run.out runs/mine ...]`.

The run's folder takes the resolved config, the commit, a TensorBoard log with overlay pictures, the
checkpoint `last.pt` and, at the end, `weights.safetensors`. Started again with the same config, a run
that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the training that the preset names; 0 on success, 1 with one line on an error."""
    if not arguments or not arguments[0].endswith((".yaml", ".yml")):
        print(f"{__doc__}\nPresets: {', '.join(str(path) for path in sorted(Path('configs').glob('*.yaml')))}")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    preset, overrides = Path(arguments[0]), arguments[1:]
    try:
        from handmesh.training import engine
        from handmesh.training.config import MeshConfig, read_config, task_of

        kind = task_of(preset)
        if kind == "mesh":
            from handmesh.training.mesh import MeshTask as Task

            config = read_config(MeshConfig, preset, overrides)
        elif kind == "detector":
            from handmesh.training.detector import DetectionTask as Task
            from handmesh.training.detector import DetectorConfig

            config = read_config(DetectorConfig, preset, overrides)
        else:
            raise ValueError(f"{preset} names the task '{kind}'; expected one of mesh, detector")
        print(f"wrote {engine.train(Task(config), config.run, config.optimiser)}")
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: training needs more packages ({error}): pip install -e '.[train]'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
