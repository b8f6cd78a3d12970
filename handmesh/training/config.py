"""Training configs: frozen dataclasses, YAML presets, one validator for both (tyro)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from handmesh.console import parse
from handmesh.data.loader import MixConfig, Stage
from handmesh.models.mesh_net import NetworkConfig

Config = TypeVar("Config")


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights are moved: with a warm-up, and a rate that falls towards the end."""

    method: Literal["adamw", "muon"] = "adamw"
    """`muon` makes the steps of whatever mixes channels orthogonal, at AdamW's rates (Jordan et al., 2024; Liu et al.,
    2025); AdamW moves the rest."""
    learning_rate: float = 1e-3
    decay: Literal["cosine", "last-tenth"] = "cosine"
    """`cosine` falls from the first step on. `last-tenth` keeps the rate until the last tenth of the schedule, then
    falls along a line: such a run can be lengthened at any time (Hägele et al., 2024)."""
    weight_decay: float = 0.02
    warmup_steps: int = 300
    clip_norm: float = 2.0
    epsilon: float = 1e-8
    """AdamW's; a larger one keeps parameters at rest whose gradient is rounding noise."""
    ema_decay: float = 0.999


@dataclass(frozen=True)
class RunConfig:
    """How a run proceeds, whatever it trains."""

    out: Path = Path("runs/mesh")
    """The run's folder: config, commit, checkpoints, TensorBoard log, final weights."""
    seed: int = 0
    schedule: tuple[tuple[int, int, int], ...] = ((2000, 96, 64),)
    """Stages as steps, crop size in pixels, global batch."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    channels_last: bool = False
    """Faster for RepViT on a CPU. FastViT with it crashes there in the present torch."""
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    accumulate: int = 1
    """Parts that a step works its global batch through in, one after another: memory for one part, the gradient of all.
    Statistics of batch normalisation are a part's own, and so are means over the crops that have a label."""
    synchronise_norm: Literal["auto", "on", "off"] = "auto"
    """Whether batch normalisation takes the statistics of all processes' crops; `auto` does on GPUs alone, for on a CPU
    the exchange costs most of what a second process brings (docs/freihand.md)."""
    checkpoint_every: int = 200
    """Steps between checkpoints that a killed run resumes from."""
    keep_every: int = 0
    """Steps between averaged weights that are kept for good, as `kept/step_001000.safetensors`; 0 keeps none."""
    best: str | None = None
    """The metric of the validation by which `best.safetensors` is chosen, such as `freihand/pa_mpjpe_mm`."""
    best_is: Literal["lowest", "highest"] = "lowest"
    validate_every: int = 1000
    log_every: int = 20
    wandb: bool = False
    """Log to Weights & Biases as well (pip install wandb); the project is WANDB_PROJECT's, or `handmesh`."""
    init: Path | None = None
    """Weights (.safetensors) to start from; shapes must fit."""

    def __post_init__(self) -> None:
        for name, least in (("accumulate", 1), ("keep_every", 0), ("checkpoint_every", 1), ("validate_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"run.{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The schedule with names."""
        return tuple(Stage(*stage) for stage in self.schedule)


DEFAULT_LOSSES = {
    "joints_2d": 4.0,
    "heatmap": 0.0,
    "joints_3d": 4.0,
    "vertices_3d": 4.0,
    "rotations": 1.0,
    "shape": 0.02,
    "shape_prior": 0.02,
    "weak_3d": 1.5,
    "reprojection": 2.0,
    "mask": 0.0,
    "presence": 0.1,
    "handedness": 0.1,
    "uncertainty": 0.05,
    "contact": 0.0,
}


DEFAULT_DISTILLATION = {
    **{"joints_2d": 2.0, "joints_3d": 2.0, "vertices_3d": 2.0, "rotations": 0.5},
    **{"features": 0.0, "attention": 0.0, "map": 0.0},
}


@dataclass(frozen=True)
class MeshConfig:
    """Everything that a training run of the mesh network depends on."""

    run: RunConfig = field(default_factory=RunConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: MixConfig = field(default_factory=MixConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    losses: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_LOSSES))
    """Weights of the losses by name (handmesh/training/losses.py)."""
    hand_model: Path | None = None
    """A converted MANO file; without it the bundled open hand."""
    teacher: Path | None = None
    """Weights of a trained network, usually a larger one, that this one learns from beside the labels."""
    distillation: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_DISTILLATION))
    """Weights of the losses against the teacher by name (handmesh/training/losses.py)."""
    looker: Path | None = None
    """An exported mesh network (.onnx): `data.augment.looked` of the crops lie where it sees the hand."""
    matching: float = 0.5
    """Weight of the differences from the teacher's features that `data.taught` holds."""
    box_scale: float = 1.5
    """Side of a crop's box over the side of the hand's tight box."""
    validation_shards: Path | None = None
    validation_size: int = 256


def read_config(kind: type[Config], preset: Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML preset with command-line overrides, checked by tyro.

    A mistyped key ends the program with a suggestion. Raises ValueError for an unreadable preset.
    """
    values = read_preset(preset)
    values.pop("task", None)
    return parse(kind, [*_flatten(values), *overrides], f"handmesh train {preset}", takes_none=True)


def read_preset(preset: Path) -> dict[str, Any]:
    """The values of a preset over those of the preset that its `base` names, a path beside it.

    Raises ValueError where one cannot be read or is its own base.
    """
    values: dict[str, Any] = {}
    for _, layer in preset_layers(preset):
        values = _merged(values, layer)
    return values


def preset_layers(preset: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """A preset's own values and those of each one that it is based on, the last base first.

    above: the presets whose base this is. Raises ValueError as `read_preset` does.
    """
    chain = (*above, preset.resolve())
    if chain[-1] in above:
        raise ValueError(f"the preset {preset} is its own base: {' -> '.join(path.name for path in chain)}")
    values = read_mapping(preset)
    base = values.pop("base", None)
    if base is None:
        return [(preset, values)]
    if not isinstance(base, str):
        raise ValueError(f"the preset {preset} has a base that is no path but a {type(base).__name__}")
    return [*preset_layers(preset.parent / base, chain), (preset, values)]


def explained(config: Any, preset: Path, overrides: Sequence[str]) -> list[str]:
    """A line for each value of a config that `read_config` made of these: its name, it, and where it comes from."""
    values = dict(_leaves(as_plain(config)))
    given = {_option_name(word) for word in overrides if word.startswith("--")}
    layers = [(path, dict(_leaves(layer))) for path, layer in preset_layers(preset)]
    rows = []
    for name, value in values.items():
        by = [_shown_path(path) for path, layer in layers if any(_within(name, key) for key in layer)]
        by += ["command line"] if name in given or _with_no(name) in given else []
        text = yaml.safe_dump(value, default_flow_style=True, width=100_000).removesuffix("\n...\n").strip()
        rows.append((name, text, (by or ["default"])[-1] + (f" (over {', '.join(by[-2::-1])})" if by[1:] else "")))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    widths[1] = min(widths[1], _LONGEST_VALUE)
    return [f"{name:<{widths[0]}}  {text:<{widths[1]}}  {origin}" for name, text, origin in rows]


_LONGEST_VALUE = 48  # a longer one moves its own line's origin to the right


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping by their dotted names."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _option_name(word: str) -> str:
    """`--optimiser.learning-rate=1` is of `optimiser.learning_rate`."""
    return word.removeprefix("--").partition("=")[0].replace("-", "_")


def _with_no(name: str) -> str:
    """What switches a value off: `run.no_wandb`."""
    head, dot, last = name.rpartition(".")
    return f"{head}{dot}no_{last}"


def _within(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def _shown_path(path: Path) -> str:
    """Without the way down and up again that a base's path has."""
    return os.path.relpath(path)


LARGEST_YAML = 1_000_000  # bytes
MOST_VALUES = 100_000


def read_mapping(path: Path) -> dict[str, Any]:
    """The names and values of a YAML file. Raises ValueError where it is none, or larger than anybody would write it.

    A file of few aliases to aliases is endless to whoever goes through its values, and is refused before.
    """
    try:
        if path.stat().st_size > LARGEST_YAML:
            raise ValueError(f"it has more than {LARGEST_YAML:,} bytes")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise ValueError(f"a mapping of names to values was expected, a {type(values).__name__} came")
        _check_size(values)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"cannot read {path}: {reason}; write it anew or bring back a copy") from error
    return values


def _check_size(values: dict[str, Any]) -> None:
    waiting: list[Any] = [values]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        if len(waiting) > MOST_VALUES:
            break
        value = waiting.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("something in it goes by another name than a word")
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend(value)
    raise ValueError(f"it has more than {MOST_VALUES:,} values")


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A nested mapping as command-line tokens; the items of a list follow their key."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, bool):
            head, _, last = name.rpartition(".")
            yield f"--{head}{'.' if head else ''}{'' if value else 'no-'}{last}"
        else:
            yield f"--{name}"
            yield from (str(token) for token in _tokens(value))


def _tokens(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _tokens(item)
    else:
        yield value


def task_of(preset: Path) -> str:
    """The `task` that a preset names; 'mesh' where it names none."""
    return str(read_preset(preset).get("task", "mesh"))[:60]


def as_plain(config: Any) -> dict[str, Any]:
    """A config as JSON-able values, for run folders and weights files."""
    from dataclasses import asdict

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(asdict(config))
