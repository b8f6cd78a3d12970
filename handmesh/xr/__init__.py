"""Hands in the conventions of WebXR, OpenXR, Unity and MediaPipe. NumPy and SciPy only; see docs/xr.md.

`Hand.to_webxr()`, `Hand.to_openxr()` and `Hand.to_mediapipe()` call these functions.
"""

from handmesh.xr.joints import OPENXR_JOINTS, UNITY_JOINTS, WEBXR_JOINTS
from handmesh.xr.poses import (
    MEDIAPIPE_LANDMARKS,
    MediaPipeHand,
    PosedHand,
    XRHand,
    to_mediapipe,
    to_openxr,
    to_unity,
    to_webxr,
)

__all__ = [
    "MEDIAPIPE_LANDMARKS",
    "OPENXR_JOINTS",
    "UNITY_JOINTS",
    "WEBXR_JOINTS",
    "MediaPipeHand",
    "PosedHand",
    "XRHand",
    "to_mediapipe",
    "to_openxr",
    "to_unity",
    "to_webxr",
]
