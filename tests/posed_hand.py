"""Hands for tests of drawing and of the demo: the bundled open hand at rest, wherever it is wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import handmesh
from handmesh import skeleton
from handmesh.geometry import mirror_faces, mirror_points_m, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Camera, Hand, Side

OPEN_HAND = Path(handmesh.__file__).parent / "assets" / "open_hand_right.npz"

# Fingers up in the image, palm to the camera: the hand's -x, its fingers, becomes the camera's -y.
_UPRIGHT = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float64)


def posed_hand(
    camera: Camera,
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.5),
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    side: Side = "right",
) -> Hand:
    """The open hand, its middle at `position_m`, turned about the camera's x, y and z axes."""
    with np.load(OPEN_HAND, allow_pickle=False) as data:
        vertices, regressor, faces = data["v_template"].astype(np.float64), data["J_regressor"], data["f"]
    tips = [skeleton.OPEN_HAND_TIP_VERTICES[name] for name in skeleton.TIPS]
    joints = np.concatenate([regressor @ vertices, vertices[tips]])[list(skeleton.MANO_TO_KEYPOINTS)]
    rotation = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix() @ _UPRIGHT
    middle, faces = vertices.mean(0), faces.astype(np.int32)
    vertices, joints = (vertices - middle) @ rotation.T, (joints - middle) @ rotation.T
    if side == "left":
        vertices, joints, faces = mirror_points_m(vertices), mirror_points_m(joints), mirror_faces(faces)
    joints = joints + position_m
    return Hand(
        vertices_m=(vertices + position_m).astype(np.float32),
        joints_m=joints.astype(np.float32),
        joints_px=project(joints, camera).astype(np.float32),
        side=side,
        score=0.97,
        pose=np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        shape=np.zeros(10, np.float32),
        faces=faces,
    )


class FakeTracker:
    """Sees one right hand in every image, in the middle, turning with time."""

    hand_size_m: float | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closed = False

    @property
    def hand(self) -> SkinnedHand:
        """The bundled one."""
        return SkinnedHand.open_hand()

    def close(self) -> None:
        """Nothing is held open, but it is noted."""
        self.closed = True

    @property
    def timings_ms(self) -> dict[str, float]:
        """As if it had taken time."""
        return {"detect": 0.0, "network": 8.0, "total": 8.0}

    def detect(self, image_rgb: np.ndarray, camera: Camera | None = None) -> list[Hand]:
        """One hand; images under 16 pixels are refused, as the real tracker does."""
        if min(image_rgb.shape[:2]) < 16:
            raise ValueError(f"its sides must be 16 pixels or more, got {image_rgb.shape}")
        assert camera is not None and image_rgb.shape == (camera.height, camera.width, 3)
        self.calls.append("detect")
        return [posed_hand(camera)]

    def track(self, frame_rgb: np.ndarray, time_s: float | None = None, camera: Camera | None = None) -> list[Hand]:
        """One hand, turned by 60 degrees a second."""
        assert camera is not None and time_s is not None
        self.calls.append("track")
        return [posed_hand(camera, rotation_deg=(0.0, 60.0 * time_s, 0.0))]
