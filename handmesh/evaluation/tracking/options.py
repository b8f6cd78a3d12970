"""What to film and whom to ask: the command line of `scripts/benchmark.py tracking`. It needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from handmesh.runtime.models import model_help
from handmesh.runtime.smoothing import Smooth

HandSize = Literal["true", "none"]

SEQUENCES: dict[str, str] = {
    "still": "a hand held still at half a metre",
    "still, near": "the same at 0.3 m",
    "still, far": "the same at 1.1 m",
    "slow wave": "from the elbow, 0.5 Hz, 20 cm to either side",
    "fast wave": "from the elbow, 1.5 Hz, 20 cm to either side",
    "grasp and turn": "opens, grasps, turns by up to 80 degrees, points",
    "to and fro": "towards the camera and away from it, 0.35 m to 0.75 m",
    "crossing": "two hands pass each other twice, the right one before the left",
    "leave and return": "out of the picture for a second, back at another height",
    "one of two leaves": "the same beside a hand that stays",
}
"""What is filmed, by name; `sequences` has the scripts."""


@dataclass(frozen=True)
class TrackingOptions:
    """What to film and whom to ask."""

    model: Annotated[str, tyro.conf.arg(help=model_help())] = "balanced"
    smooth: tuple[Smooth, ...] = ("off", "low", "high")
    """Presets of smoothing, compared on the same frames."""
    sequences: tuple[str, ...] = ()
    """Which sequences, by (the beginning of) their names; all if not given."""
    num_hands: int = 2
    """How many hands the tracker looks for."""
    hand_size: HandSize = "none"
    """Whether the tracker is told how large the hands are; without, distances are up to scale."""
    takes: int = 1
    """How often each sequence is filmed, each time with another person, light and wall."""
    seed: int = 0
    """Another one films other people."""
    exposure_ms: float = 8.0
    """How long the shutter is open: what moves is blurred."""
    threads: int | None = None
    """Cores that a network may use; all but one if not given."""
    frames: Path | None = None
    """Folder to keep the rendered pictures in, so that the next run need not render them."""
    draw: Path | None = None
    """Folder for a video of each sequence and preset: meshes, true joints as crosses."""
    output: Annotated[Path, tyro.conf.arg(aliases=["--out"])] = Path("outputs/tracking")
    """Folder for tracking.json and tracking.png."""

    def check(self) -> None:
        """Raise ValueError where something does not fit."""
        self.chosen()
        for name in ("num_hands", "takes"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.exposure_ms <= 33:
            raise ValueError(f"--exposure-ms must lie between 0 and 33 at 30 frames a second, got {self.exposure_ms}")
        if not self.smooth:
            raise ValueError(f"no preset of smoothing: choose from {', '.join(get_args(Smooth))}")

    def chosen(self) -> list[str]:
        """Full names of the chosen sequences, in the order of `SEQUENCES`; ValueError for a word that begins none."""
        for word in self.sequences:
            if not any(name.startswith(word.lower()) for name in SEQUENCES):
                raise ValueError(f"unknown sequence {word!r}; choose from {', '.join(SEQUENCES)}")
        words = [word.lower() for word in self.sequences]
        exact = set(words) & SEQUENCES.keys()  # 'still' means itself, 'wave' nothing, 'lea' the one it begins
        begun = tuple(word for word in words if word not in exact)
        return [name for name in SEQUENCES if not words or name in exact or (begun and name.startswith(begun))]
