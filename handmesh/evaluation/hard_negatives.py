"""`handmesh data hard-negatives`: what the detector takes for hands and is none, for the mesh network's training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from rich.progress import track

from handmesh.assets import DETECTOR, detector_path
from handmesh.data.detection import SceneConfig, Size, scene_sources
from handmesh.data.mixture import mine, write_hard_negatives
from handmesh.detection import Detector
from handmesh.tracking.backends import open_session

SCENE = Size(512, 384)


@dataclass(frozen=True)
class HardNegativeOptions:
    """Collect what the detector takes for hands and is none.

    Looks at random parts of images without hands, of labelled photographs of people (faces!) and at pasted
    scenes, training split only. The mesh network learns from them that these are no hands (data.hard_negatives),
    so that its score can turn down what a detector with a low threshold proposes.
    """

    output: Path
    """Folder for the images and hard_negatives.json."""
    backgrounds: tuple[Path, ...]
    """Folders of images without hands."""
    cutouts: tuple[Path, ...] = ()
    """Folders of cutout people and hands."""
    people: tuple[Path, ...] = ()
    """Folders of labelled photographs of people."""
    count: int = 6000
    """Scenes to look at, shared by the sources."""
    threshold: float = 0.1
    """Least score of the detector."""
    detector: str = DETECTOR
    """The bundled detector by name, or the path of an exported .onnx file."""
    seed: int = 0
    """Another one gives other scenes."""


def run(options: HardNegativeOptions) -> None:
    """Look at scenes and write what the detector takes for hands there."""
    detector = Detector(open_session(detector_path(options.detector), "detector"))
    detect = partial(detector.detect, threshold=options.threshold)
    mix = SceneConfig(cutouts=options.cutouts, backgrounds=options.backgrounds, people_photos=options.people)
    sources = [source for _, source in scene_sources(mix)]
    each = options.count // len(sources)
    mined = chain(*(mine(s, SCENE, each, detect, options.seed + k) for k, s in enumerate(sources)))
    positions = chain.from_iterable(track(mined, "looking for hard negatives", total=each * len(sources)))
    print(f"wrote {write_hard_negatives(options.output, positions)} places to {options.output}")
