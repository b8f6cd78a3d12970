"""How a hand is turned to the camera, at random: palm or back, worn on the head, edge-on, fingers first.

Each function gives the (3, 3) rotation from the open hand's canonical frame (fingers along -x, palm
facing -y, thumb's side +z) to the camera's (x right, y down, z forward). Equal generators give equal views.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton


def sample_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation from the canonical frame to the camera's (x right, y down, z forward).

    38 % show the palm, 19 % the back of the hand, each tilted by up to 70 degrees; 10 % are seen as by
    a head-mounted camera; the rest show it from anywhere, edge-on and fingers first included. Most
    stand upright or lie sideways.
    """
    kind = rng.random()
    if kind >= 0.9:
        return head_mounted_view(rng)
    if kind >= 0.57:
        return Rotation.random(None, rng).as_matrix()
    about, tilt = rng.uniform(0, 2 * np.pi), min(abs(rng.normal(0, 32)), 70.0)
    tilted = Rotation.from_rotvec([tilt * np.cos(about), tilt * np.sin(about), 0], degrees=True)
    side = Rotation.from_euler("y", 0.0 if kind < 0.38 else 180.0, degrees=True)
    turned = Rotation.from_euler("z", _roll_deg(rng), degrees=True) * tilted * side
    return turned.as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)


def head_mounted_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: one's own hand before one's eyes, its fingers up and away, its back seen more often."""
    side = Rotation.from_euler("y", 0.0 if rng.random() < 0.35 else 180.0, degrees=True)
    about_arm = Rotation.from_euler("y", rng.normal(0, 35), degrees=True)
    tilted = Rotation.from_euler("zx", [rng.normal(20, 25), -rng.uniform(15, 75)], degrees=True)
    return (tilted * about_arm * side).as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)


_THUMB_SIDE_FIRST = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
_FINGERS_FIRST = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
"""(3, 3) from the canonical frame to the camera's: the thumb's side, or the finger tips, to the camera."""


def edge_on_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: the thumb's or the little finger's edge to the camera, within 20 degrees."""
    side = Rotation.from_euler("y", 0.0 if rng.random() < 0.5 else 180.0, degrees=True)
    return _near(rng, side, 20.0, _roll_deg(rng)) @ _THUMB_SIDE_FIRST


def fingers_first_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: the fingers' direction within 35 degrees of towards the camera."""
    return _near(rng, Rotation.identity(), 35.0, rng.uniform(-180, 180)) @ _FINGERS_FIRST


def _near(rng: np.random.Generator, side: Rotation, most_deg: float, roll_deg: float) -> np.ndarray:
    about, tilt = rng.uniform(0, 2 * np.pi), most_deg * np.sqrt(rng.random())
    tilted = Rotation.from_rotvec([tilt * np.cos(about), tilt * np.sin(about), 0], degrees=True)
    return (Rotation.from_euler("z", roll_deg, degrees=True) * tilted * side).as_matrix()


def _roll_deg(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.2:
        return rng.uniform(-180, 180)
    upright = 0.0 if kind < 0.7 else rng.choice([-90.0, 90.0])
    return rng.normal(upright, 22)
