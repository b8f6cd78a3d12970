"""A recorded clip in memory: one row a hand and frame, as tables, and as `Hand`s where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from handmesh.crop import mirror_faces
from handmesh.gltf import Track
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand, Side

FORMAT, VERSION = "handmesh clip", 1

HAND_ROW = np.dtype(
    [
        ("frame", "<i4"),  # which frame of the clip, from 0
        ("id", "<i4"),
        ("side", "<U5"),
        ("score", "<f4"),
        ("visible_s", "<f4"),
        ("predicted", "?"),
        ("pose", "<f4", (16, 3, 3)),
        ("shape", "<f4", (10,)),
        ("joints_m", "<f4", (21, 3)),
        ("joints_px", "<f4", (21, 2)),
        ("joints_spread_m", "<f4", (21,)),  # NaN where the tracker tells none
        ("joints_spread_px", "<f4", (21,)),
    ]
)
"""A hand in a frame: the fields of `Hand` but its mesh."""

_OPTIONAL = ("joints_spread_m", "joints_spread_px")
_SCALARS = {"id": int, "side": str, "score": float, "visible_s": float, "predicted": bool}


class ClipError(ValueError):
    """A recording that cannot be read or used; the message is one line that names it and the remedy."""


class FrameHead(NamedTuple):
    """What is kept of a frame beside its hands."""

    name: str
    time_s: float  # since the clip's first frame, always rising
    camera: Camera


def hand_row(hand: Hand, frame: int) -> np.ndarray:
    """(1,) `HAND_ROW` of a hand."""
    row = np.zeros(1, HAND_ROW)
    row["frame"] = frame
    for name in HAND_ROW.names[1:]:
        value = getattr(hand, name)
        row[name] = np.nan if value is None else value
    return row


@dataclass(frozen=True, eq=False)
class Clip:
    """N frames with M hands in all. Iterating over it gives (FrameHead, list of `Hand`) of every frame."""

    title: str
    fps: float
    heads: list[FrameHead]  # N
    rows: np.ndarray  # (M,) HAND_ROW, frames in order
    faces: np.ndarray  # (F, 3) int32, outward for a right hand
    num_vertices: int
    vertices_m: np.ndarray | None = None  # (M, V, 3) float32; None: posed anew from pose and shape when asked for
    model: SkinnedHand = field(default_factory=SkinnedHand.open_hand)

    @property
    def times_s(self) -> np.ndarray:
        """(N,) the frames' times."""
        return np.array([head.time_s for head in self.heads])

    def __iter__(self) -> Iterator[tuple[FrameHead, list[Hand]]]:
        bounds = np.searchsorted(self.rows["frame"], np.arange(len(self.heads) + 1))
        for k, head in enumerate(self.heads):
            yield head, [self.hand(row) for row in range(bounds[k], bounds[k + 1])]

    def hand(self, row: int) -> Hand:
        """The hand of one row, with its mesh."""
        values = self.rows[row]
        arrays = {name: np.array(values[name]) for name in HAND_ROW.names[1:] if name not in _SCALARS}
        for name in _OPTIONAL:
            arrays[name] = None if np.isnan(arrays[name]).any() else arrays[name]
        scalars = {name: kind(values[name]) for name, kind in _SCALARS.items()}
        right = scalars["side"] == "right"
        vertices = self._posed(values) if self.vertices_m is None else np.array(self.vertices_m[row])
        return Hand(vertices_m=vertices, faces=self.faces if right else mirror_faces(self.faces), **arrays, **scalars)

    def _posed(self, row: np.void) -> np.ndarray:
        """(V, 3) the mesh posed as the row says, placed and scaled so that its joints lie on the row's."""
        self.check_model()
        vertices, joints = self.model.posed(row["pose"], self.model.rest(row["shape"]), row["side"])
        middle, seen_middle = joints.mean(0), row["joints_m"].mean(0)
        scale = np.linalg.norm(row["joints_m"] - seen_middle) / np.linalg.norm(joints - middle)
        return ((vertices - middle) * scale + seen_middle).astype(np.float32)

    def check_model(self) -> None:
        """Raise ClipError where the poses were recorded with another hand model than `model`."""
        expected = len(self.model.template)
        if self.num_vertices != expected:
            raise ClipError(
                f"{self.title or 'the clip'} was recorded with a hand of {self.num_vertices} vertices, and the model "
                f"given has {expected}: give read_clip the SkinnedHand that it was recorded with"
            )

    def tracks(self) -> list[Track]:
        """Every hand that was followed, by when it was first seen."""
        keys = np.stack([self.rows["id"], self.rows["side"] == "left"], axis=1)
        chosen = [np.flatnonzero((keys == key).all(1)) for key in np.unique(keys, axis=0)]
        return [self._track(rows) for rows in sorted(chosen, key=lambda rows: rows[0])]

    def _track(self, rows: np.ndarray) -> Track:
        _, first = np.unique(self.rows["frame"][rows], return_index=True)
        of = self.rows[rows[first]]
        side: Side = str(of["side"][0])
        return Track(f"{side}_{of['id'][0]}", side, of["frame"], of["pose"], of["shape"], of["joints_m"])
