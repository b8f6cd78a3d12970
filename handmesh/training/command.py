"""`handmesh train`: a run from a preset, what its config resolves to, a look at it beforehand, averages of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handmesh.console import BAD_USAGE, parse
from handmesh.training.config import MeshConfig, explained, read_config, task_of
from handmesh.training.engine import Task, train
from handmesh.training.run_folder import AverageOptions, average_weights

HELP = """usage: handmesh train PRESET.yaml [OPTIONS]
       handmesh train PRESET.yaml [OPTIONS] --explain | --dry-run
       handmesh train average WEIGHTS... --output FILE

Train a network from a preset. The run's folder takes the resolved config, the commit, a TensorBoard log with
overlay images, the checkpoints `last.pt` and `before.pt`, the averaged weights so far as `average.safetensors`, what
`--run.best` and `--run.keep-every` ask for and, at the end, `weights.safetensors`. Started again with the same config,
a run that was killed goes on from its last checkpoint.

--explain prints every value and where it comes from: the package, a preset, or the command line.
--dry-run trains nothing: it draws some crops of each source to an image, says what their labels are like, names
mistakes in them (sides, units, camera, boxes), takes a few steps, and estimates the hours; 1 where something is wrong.
`average` writes the mean of several weights files.

`handmesh train PRESET.yaml --help` lists what can be changed, as in `--run.out runs/mine`."""


def main(words: Sequence[str]) -> int:
    """`handmesh train`: train the network that a preset describes, with changes to it; the exit code."""
    if words and words[0] == "average":
        average_weights(parse(AverageOptions, words[1:], "handmesh train average"))
        return 0
    if not words or not words[0].endswith((".yaml", ".yml")):
        print(f"{HELP}\nPresets: {', '.join(map(str, sorted(Path('configs').glob('*.yaml')))) or 'none in configs/'}.")
        return 0 if words and words[0] in ("-h", "--help") else BAD_USAGE
    preset = Path(words[0])
    changes = [word for word in words[1:] if word not in ("--explain", "--dry-run")]
    if "--help" in changes or "-h" in changes:
        print(f"{HELP}\n")
    config, make = _described(preset, changes)
    if "--explain" in words:
        print("\n".join(explained(config, preset, changes)))
    elif "--dry-run" in words:
        from handmesh.training.dry_run import dry_run

        return dry_run(make(config), config.run, config.optimiser)
    else:
        print(f"wrote {train(make(config), config.run, config.optimiser)}")
    return 0


def _described(preset: Path, changes: Sequence[str]) -> tuple[object, type[Task]]:
    """The config of a preset, and the task that it is of. Raises ValueError for a task that there is not."""
    kind = task_of(preset)
    if kind == "mesh":
        from handmesh.training.mesh import MeshTask

        return read_config(MeshConfig, preset, changes), MeshTask
    if kind == "detector":
        from handmesh.training.detector import DetectionTask, DetectorConfig

        return read_config(DetectorConfig, preset, changes), DetectionTask
    raise ValueError(f"{preset} names the task '{kind}'; expected one of mesh, detector")
