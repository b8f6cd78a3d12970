"""A hand as MediaPipe's Hand Landmarker gives it, for programs written for that.

What differs: z in the picture is that of perspective, not of a network's guess; world landmarks are in
the tracker's metres and about the mean of the 21 joints; `handedness` is the subject's own hand, so
never flip the picture beforehand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.xr.poses import PosedHand

_THUMB = ("THUMB_CMC", "THUMB_MCP", "THUMB_IP", "THUMB_TIP")
_FINGERS = ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")

MEDIAPIPE_LANDMARKS: tuple[str, ...] = (
    "WRIST",
    *_THUMB,
    *(f"{finger}_{part}" for finger in _FINGERS for part in ("MCP", "PIP", "DIP", "TIP")),
)
"""The names of `HandLandmark`; `skeleton.KEYPOINTS` in other words."""


class MediaPipeHand(NamedTuple):
    """One hand of a `HandLandmarkerResult`, as arrays."""

    landmarks: np.ndarray  # (21, 3) float32: x, y 0..1 of the picture; z from the wrist's depth, less is nearer
    world_landmarks_m: np.ndarray  # (21, 3) float32: x right, y down, z away, about the hand's centre
    handedness: str  # 'Left' | 'Right': the subject's own hand


def to_mediapipe(hand: PosedHand, width: int, height: int) -> MediaPipeHand:
    """The 21 landmarks of a hand that was seen in a picture of `width` x `height` pixels.

    z in the picture is the depth beyond the wrist's in the unit of x: metres, times the pixels that a
    metre at the wrist takes, over the picture's width. Raises ValueError for a picture without pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"the picture must have a width and a height of 1 pixel or more, got {width} x {height}")
    joints_m, joints_px = np.asarray(hand.joints_m, np.float64), np.asarray(hand.joints_px, np.float64)
    landmarks = np.empty((len(joints_m), 3), np.float32)
    landmarks[:, :2] = (joints_px + 0.5) / (width, height)  # our (0, 0) is the middle of the first pixel
    depth = joints_m[:, 2] - joints_m[skeleton.WRIST, 2]
    landmarks[:, 2] = depth * _px_per_metre(joints_m, joints_px) / width
    world = (joints_m - joints_m.mean(0)).astype(np.float32)
    return MediaPipeHand(landmarks, world, hand.side.title())


def _px_per_metre(joints_m: np.ndarray, joints_px: np.ndarray) -> float:
    """Pixels of a metre at the wrist's depth: the focal length, which the pixels tell, over that depth."""
    rays = joints_m[:, :2] / joints_m[:, 2:]
    rays, pixels = rays - rays.mean(0), joints_px - joints_px.mean(0)
    focal = (rays * pixels).sum() / max((rays * rays).sum(), 1e-12)
    return float(focal / joints_m[skeleton.WRIST, 2])
