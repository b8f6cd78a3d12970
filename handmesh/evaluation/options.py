"""What can be asked of evaluations on FreiHAND. No torch, so that a command line can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from handmesh.evaluation.looks import Looks
from handmesh.runtime.models import Device

ErrorKind = Literal["PA-MPJPE", "RA-MPJPE"]


@dataclass(frozen=True)
class ReadingOptions:
    """What to look at, and how."""

    root: Path
    """FreiHAND's folder, which holds evaluation_K.json and evaluation/rgb."""
    model: str = "balanced"
    """A bundled network by name, an exported .onnx, or weights.safetensors of a training run."""
    hand_model: Path | None = None
    """A converted MANO .npz for weights; the hand they were trained with if not given."""
    looks: tyro.conf.OmitArgPrefixes[Looks] = field(default_factory=Looks)
    batch: int = 32
    """Crops that the network takes at a time; an exported graph takes one by one."""
    device: Device = "auto"
    threads: int | None = None
    """Cores that the network may use; the runtime's own choice if not given."""
    limit: int | None = None
    """Take the first so many samples; all if not given."""
    overwrite: bool = False
    """Do again what the output folder already holds."""

    def __post_init__(self) -> None:
        for name in ("batch", "limit", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class FreihandOptions(ReadingOptions):
    """An evaluation on FreiHAND."""

    use_scale: bool = False
    """Make each hand as large as the given length of its middle finger's first bone says."""
    submission: bool = False
    """Also write pred.zip for the server."""
    output: Path = Path("outputs/freihand")
    """Folder for report.html, metrics.json, scores.txt, samples.csv and the predictions."""


@dataclass(frozen=True)
class RobustnessOptions(ReadingOptions):
    """An evaluation on corrupted pictures of FreiHAND."""

    baseline: tuple[str, ...] = ()
    """Networks that the mean corruption error is relative to, each named as for --model."""
    error: ErrorKind = "PA-MPJPE"
    """The joint error that counts: after similarity alignment, or with the roots together."""
    output: Path = Path("outputs/robustness")
    """Folder for report.html, metrics.json and the predictions."""
