"""Cut-out pictures with labelled hands, to be pasted onto backgrounds: a folder of PNG files and a list.

`sprites.json` is a list of `{file, hands}`; a hand is `{side, joints_px, visible}` with 21 x 2 pixels
in keypoint order and the share of the joints that can be seen, and `joints_m`, 21 x 3 rough metres in
the camera's axes, where these are known. A cut-out of a photograph has an `origin`: the photograph, the
place among its hands, and the scale and shift from its pixels to the cut-out's. The files are RGBA,
straight alpha.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.structs import Side

LIST_FILE = "sprites.json"


class Origin(NamedTuple):
    """The photograph that a hand was cut out of."""

    photo: str  # base name
    index: int  # among the hands of the photograph
    scale: float
    shift_px: tuple[float, float]

    @property
    def affine(self) -> np.ndarray:
        """(2, 3) from the photograph's pixels to the cut-out's."""
        return np.array([[self.scale, 0, self.shift_px[0]], [0, self.scale, self.shift_px[1]]])


@dataclass(frozen=True, eq=False)
class SpriteHand:
    """A hand in a cut-out picture."""

    side: Side  # the subject's own hand
    joints_px: np.ndarray  # (21, 2) float32
    visible: float = 1.0  # share of the joints that nothing hides
    joints_m: np.ndarray | None = None  # (21, 3) float32, rough
    origin: Origin | None = None

    def as_plain(self) -> dict:
        plain = {
            "side": self.side,
            "joints_px": np.round(self.joints_px.astype(float), 2).tolist(),
            "visible": round(float(self.visible), 3),
        }
        rough = {} if self.joints_m is None else {"joints_m": np.round(self.joints_m.astype(float), 5).tolist()}
        return plain | rough | ({} if self.origin is None else {"origin": list(self.origin)})

    @staticmethod
    def from_plain(plain: dict) -> SpriteHand:
        """The inverse of `as_plain`."""
        joints_m = np.array(plain["joints_m"], np.float32) if "joints_m" in plain else None
        origin = Origin(*plain["origin"]) if "origin" in plain else None
        return SpriteHand(plain["side"], np.array(plain["joints_px"], np.float32), plain["visible"], joints_m, origin)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A cut-out: (H, W, 4) uint8 RGBA with straight alpha, and its hands."""

    rgba: np.ndarray
    hands: tuple[SpriteHand, ...]


class SpriteSet:
    """The sprites of a folder, decoded on demand."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / LIST_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {LIST_FILE} in {folder}: write sprites with scripts/make_people.py")
        self.entries = json.loads(path.read_text())

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Sprite:
        entry = self.entries[i]
        image = cv2.imread(str(self.folder / entry["file"]), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[2] != 4:
            raise ValueError(f"{self.folder / entry['file']}: expected a PNG with four channels")
        return Sprite(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), tuple(map(SpriteHand.from_plain, entry["hands"])))


def write_sprites(folder: Path | str, sprites: Iterable[Sprite]) -> int:
    """Write sprites and their list to `folder`; gives their number. An existing list is replaced last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for k, sprite in enumerate(sprites):
        file = f"{k:06d}.png"
        bgra = cv2.cvtColor(sprite.rgba, cv2.COLOR_RGBA2BGRA)
        cv2.imwrite(str(folder / file), bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        entries.append({"file": file, "hands": [hand.as_plain() for hand in sprite.hands]})
    partial = folder / f".{LIST_FILE}.part"
    partial.write_text(json.dumps(entries))
    partial.replace(folder / LIST_FILE)
    return len(entries)
