"""`handmesh evaluate detector`: what a detector finds on held-out images, and what it takes for hands, by threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from handmesh.assets import DETECTOR, detector_path
from handmesh.data.photos import list_images, read_photos, split_of
from handmesh.detection import Detector
from handmesh.evaluation.metrics import LEAST_SCORE, false_alarm_scores, match_images, metrics_at
from handmesh.evaluation.report import Table
from handmesh.files import read_image
from handmesh.tracking.backends import open_session

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)


@dataclass(frozen=True)
class DetectorOptions:
    """Measure a detector on held-out images, at several thresholds, to choose one.

    For each folder of labelled photographs: the fraction of hands found (a box whose centre lies within 0.35
    of the labelled box's side), the fraction of these with the right side, and median errors. For images
    without hands: how much is taken for a hand.
    """

    model: str = DETECTOR
    """The bundled detector by name, or the path of an exported .onnx file."""
    photos: tuple[Path, ...] = ()
    """Folders with pseudo_labels.json."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of images without hands."""
    threads: int | None = None
    """Cores that the network may use. Default: all but one."""


def evaluate_detector(options: DetectorOptions) -> None:
    """Print a table for each folder. Raises ValueError where none is named, and as `read_photos`."""
    if not (options.photos or options.backgrounds):
        raise ValueError("no data sets: name at least one folder with --photos or --backgrounds")
    detector = Detector(open_session(detector_path(options.model), "detector", options.threads))
    for folder in options.photos:
        Console().print(found_table(detector, folder))
    for folder in options.backgrounds:
        Console().print(false_alarm_table(detector, folder))


def found_table(detector: Detector, folder: Path) -> Table:
    """What is found of the labelled, held-out hands of `folder`."""
    photos = [photo for photo in read_photos(folder, "val") if photo.hands]
    images = ((photo.load(), [(hand.box(), hand.side) for hand in photo.hands]) for photo in photos)
    matches = match_images(lambda image: detector.detect(image, LEAST_SCORE), images)
    columns = ("threshold", "found", "side correct", "angle deg", "centre", "size ratio")
    rows = [
        (f"{at.threshold:.2f}", f"{at.found:.1%}", f"{at.side_correct:.1%}")
        + (f"{at.angle_deg:.1f}", f"{at.centre_error:.3f}", f"{at.size_ratio:.2f}")
        for at in (metrics_at(matches, threshold) for threshold in THRESHOLDS)
    ]
    return Table(f"{folder.name}: {len(matches)} hands in {len(photos)} images", columns, rows)


def false_alarm_table(detector: Detector, folder: Path) -> Table:
    """How many hands are seen in 100 held-out images of `folder`, where there are none."""
    held_out = [path for path in list_images(folder) if split_of(path.name) == "val"]
    scores, count = false_alarm_scores(lambda image: detector.detect(image, LEAST_SCORE), map(read_image, held_out))
    rows = [(f"{one:.2f}", f"{100 * float((scores >= one).sum()) / count:.1f}") for one in THRESHOLDS]
    return Table(f"{folder.name}: {count} images without hands", ("threshold", "false positives per 100 images"), rows)
