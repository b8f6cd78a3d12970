"""Where the files that ship with the package lie."""

from pathlib import Path

ASSETS = Path(__file__).parent

OPEN_HAND = ASSETS / "open_hand_right.npz"

DEMO_CLIP = ASSETS / "demo.mp4"

VIEWER = ASSETS / "viewer"
"""The built page of demo/web/src/viewer."""

POSE_LIBRARY = ASSETS / "pose_library.npz"
"""Finger angles of poses that people made; see `handmesh.data.poses`."""
