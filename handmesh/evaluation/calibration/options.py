"""What can be asked of a calibration. No matplotlib, so that a command line can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from handmesh.data.photos import Split
from handmesh.runtime.models import detector_path


@dataclass(frozen=True)
class CalibrationOptions:
    """Data sets and networks; each data set counts as much as any other, whatever its number of pictures."""

    photos: tuple[Path, ...] = ()
    """Folders with a pseudo_labels.json that labels all hands."""
    people: tuple[Path, ...] = ()
    """The same of pictures of one person each; where a hand may be unlabelled, only those with two count."""
    shards: tuple[Path, ...] = ()
    """Folders of synthetic shards; only what lies on their labelled hand counts, for a second one has no label."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of pictures without hands."""
    split: Split = "val"
    """The held-out files of photographs and backgrounds (val), those for training, or all."""
    colours: bool = False
    """Also look at photographs and backgrounds in grey and with red and blue swapped. Of pictures like those that they
    learnt from networks are too sure; these stand for the pictures of strangers."""
    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    detector: Path = field(default_factory=detector_path)
    """An exported detector; the bundled one if not given."""
    limit: int | None = None
    """Take so many pictures of each data set, evenly spread over it; all if not given."""
    threads: int | None = None
    """Cores that the networks may use; all but one if not given."""
    overwrite: bool = False
    """Look again at what the output folder already holds."""
    output: Path = Path("outputs/calibration")
    """Folder for calibration.json, metrics.json, candidates.csv and the plots."""

    def __post_init__(self) -> None:
        if not (self.photos or self.people or self.shards):
            raise ValueError("no labelled hands: name at least one folder with --photos, --people or --shards")
        if not (self.photos or self.people or self.backgrounds):
            raise ValueError("no pictures in which a wrong hand would be noticed: name a folder with --backgrounds")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"--limit must be at least 2, got {self.limit}: half of the pictures check the other half")
