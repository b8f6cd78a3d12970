"""Places that a detector takes for hands and that are none: what teaches the mesh network to say no.

A folder of them holds JPEG files, each the surroundings of one place, and `false_hands.json`, a list of
`{file, size_px, angle_rad, score}`: the place is a box around the middle of its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh import crop
from handmesh.data.photos import load_picture
from handmesh.data.scenes import Scene, SceneSource, Size
from handmesh.data.training_crops import Labelled
from handmesh.detection import Detection
from handmesh.structs import Box

LIST_FILE = "false_hands.json"
_CONTEXT = 2.6  # of a place's box: room for the training's own turns and shifts
_CONTEXT_PX = 200


class FalseHand(NamedTuple):
    """A place that is no hand, in the middle of its surroundings."""

    image: np.ndarray  # (S, S, 3) uint8 RGB
    box: Box
    score: float  # the detector's


def mine(
    source: SceneSource, size: Size, count: int, detect: Callable[[np.ndarray], Sequence[Detection]], seed: int
) -> Iterator[list[FalseHand]]:
    """For each of `count` scenes drawn from `source`, what `detect` sees there where no hand is or may be."""
    for k in range(count):
        scene = source.draw(size, np.random.default_rng([seed, k]))
        found = [hand for hand in detect(scene.image) if _is_false(hand.box, scene)]
        yield [_cut(scene.image, hand) for hand in found]


def _is_false(box: Box, scene: Scene) -> bool:
    """Whether the box lies clear of every hand, even a hidden one, and of places that may hold one."""
    centre = np.array(box.centre_px)
    for hand in scene.hands:
        if np.linalg.norm(hand.joints_px - centre, axis=1).min() < 0.5 * box.size_px + 0.1 * hand.box.size_px:
            return False
    return all(cv2.pointPolygonTest(p.astype(np.float32), box.centre_px, False) < 0 for p in scene.unsure)


def _cut(image: np.ndarray, found: Detection) -> FalseHand:
    around = Box(found.box.centre_px, found.box.size_px * _CONTEXT)
    surroundings = crop.warp(image, crop.crop_affine(around, _CONTEXT_PX), _CONTEXT_PX)
    middle = (_CONTEXT_PX - 1) / 2
    return FalseHand(surroundings, Box((middle, middle), _CONTEXT_PX / _CONTEXT, found.box.angle_rad), found.score)


def write_false_hands(folder: Path, places: Iterable[FalseHand]) -> int:
    """Write places and their list to `folder`; gives their number. An existing list is replaced last."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for k, place in enumerate(places):
        file = f"{k:06d}.jpg"
        cv2.imwrite(str(folder / file), cv2.cvtColor(place.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        numbers = {"size_px": place.box.size_px, "angle_rad": place.box.angle_rad, "score": place.score}
        entries.append({"file": file} | {name: round(value, 4) for name, value in numbers.items()})
    partial = folder / f".{LIST_FILE}.part"
    partial.write_text(json.dumps(entries))
    partial.replace(folder / LIST_FILE)
    return len(entries)


class FalseHandSource:
    """Mined places, for the mesh network's training; see `training_crops.Source`."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where `folder` holds none."""
        path = folder / LIST_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {LIST_FILE} in {folder}: write one with scripts/mine_false_hands.py")
        self.folder, self.entries = folder, json.loads(path.read_text())

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, rng: np.random.Generator) -> Labelled:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> Labelled:
        entry = self.entries[i]
        image = load_picture(self.folder / entry["file"])
        middle = (image.shape[1] - 1) / 2
        return Labelled(image, Box((middle, middle), entry["size_px"], entry["angle_rad"]))
