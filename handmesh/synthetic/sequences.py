"""Videos of scripted hands: the same skin, light and wall in every frame, and the truth beside it.

The generator draws independent images; here a hand's fingers, rotation and position are functions of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from handmesh import skeleton
from handmesh.geometry import mirror_points_m, project
from handmesh.hand import anatomy
from handmesh.hand.poses import default_sampler
from handmesh.render.rasterizer import rasterize
from handmesh.synthetic.hand_mesh import Arm, PosedHand
from handmesh.synthetic.renderer import random_light
from handmesh.synthetic.scene import Appearance, HandInstance, Stage
from handmesh.synthetic.sensor import draw_pattern
from handmesh.synthetic.skin import draw_skin, painted_skins
from handmesh.types import Camera, Side

VERSION = 1
"""Of what is drawn: another one makes other images of the same scripts."""

_SKIN_SIZE = 1024
_STREAK_PX = 3.0  # a moving hand is drawn so often in an exposure that it moves no farther in between
_MOST_DRAWINGS = 8
_COARSE = 4  # pixels of the image, along each side, to one in which hidden parts are counted


class HandState(NamedTuple):
    """What one hand does at one time. A left hand is given as the right hand that is its mirror image at x = 0."""

    fingers_deg: np.ndarray  # (15, 3), see `anatomy`
    rotation: Rotation  # about the image's axes; without one, fingers are up and the palm faces the camera
    wrist_m: np.ndarray  # (3,) in the camera's frame


class Trajectory(NamedTuple):
    """One hand and what it does, by seconds."""

    side: Side
    at: Callable[[float], HandState]


class FilmedHand(NamedTuple):
    """The truth of one hand in one frame, camera frame; a left hand is a left hand here."""

    side: Side
    joints_m: np.ndarray  # (21, 3) float32
    vertices_m: np.ndarray  # (V, 3) float32
    joints_px: np.ndarray  # (21, 2) float32
    inside: float  # 0..1, fraction of its outline that lies in the image
    seen: float  # 0..1, fraction of its outline that lies in the image and that no other hand or arm hides


class Keyframes:
    """Fingers and rotation at key times: at rest at each, eased between them, held before the first and after the
    last."""

    def __init__(self, times_s: np.ndarray, fingers_deg: np.ndarray, rotations: Rotation) -> None:
        """times_s: (K,) rising; fingers_deg: (K, 15, 3); rotations: K of them."""
        self._times, self._fingers = np.asarray(times_s, np.float64), np.asarray(fingers_deg)
        self._rotations = Slerp(np.arange(len(self._times)), rotations)

    def at(self, time_s: float) -> tuple[np.ndarray, Rotation]:
        """(15, 3) angles of the fingers, and the hand's rotation."""
        k, fraction = _between(self._times, time_s)
        return eased_between(self._times, self._fingers, time_s), self._rotations(k + fraction)


def eased_between(times_s: np.ndarray, values: np.ndarray, time_s: float) -> np.ndarray:
    """What lies at `time_s` between (K, ...) values at (K,) rising key times, at rest at each."""
    k, fraction = _between(times_s, time_s)
    return (1 - fraction) * values[k] + fraction * values[k + 1]


def _between(times_s: np.ndarray, time_s: float) -> tuple[int, float]:
    """The last key not after `time_s` that has another after it, and the eased fraction of the way to that one."""
    k = min(max(int(np.searchsorted(times_s, time_s, side="right")) - 1, 0), len(times_s) - 2)
    return k, eased(float((time_s - times_s[k]) / (times_s[k + 1] - times_s[k])))


def eased(fraction: float) -> float:
    """0 up to 0, 1 from 1 on, and between them a rise that starts and ends at rest.

    >>> eased(-1.0), eased(0.5), eased(2.0)
    (0.0, 0.5, 1.0)
    """
    fraction = min(max(fraction, 0.0), 1.0)
    return fraction * fraction * (3 - 2 * fraction)


class Room:
    """Skin, light and wall; all follow from the seed."""

    def __init__(self, seed: int, width: int = 640, height: int = 480, shape: np.ndarray | None = None) -> None:
        """shape: (10,) of whose hands are filmed; the mean hand's without one."""
        arm = Arm.load(None)
        self.stage, self.frames = Stage(arm), default_sampler().frames
        rng = np.random.default_rng(seed)
        self.appearance = Appearance(draw_skin(rng, painted_skins(arm, 1, _SKIN_SIZE)))
        self.light = random_light(rng)
        longer = max(width, height)
        wall = cv2.GaussianBlur(draw_pattern(rng, longer), (0, 0), 6 * longer / 640)
        self.wall = wall[:height, :width] // 2 + 70
        self.shape = np.zeros(10) if shape is None else shape

    def hands(self, trajectories: Sequence[Trajectory], time_s: float, camera: Camera) -> list[FilmedHand]:
        """The truth at one time, in the order of the roles."""
        posed = self.stage.pose(self._hand_instances(trajectories, time_s))
        inside, seen = _fractions(trajectories, posed, len(self.stage.arm.model.faces), camera)
        made = []
        for trajectory, hand, *fractions in zip(trajectories, posed, inside, seen, strict=True):
            joints, vertices = _own_side(trajectory, hand.joints), _own_side(trajectory, hand.vertices)
            made.append(FilmedHand(trajectory.side, joints, vertices, np.float32(project(joints, camera)), *fractions))
        return made

    def render_scene(
        self, trajectories: Sequence[Trajectory], time_s: float, camera: Camera, exposure_s: float = 0.0
    ) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the image, without noise, of an exposure with `time_s` in its middle.

        camera: of the room's width and height. What moves while the shutter is open is drawn several times.
        """
        moments = time_s + exposure_s * _offsets(self._drawings(trajectories, time_s, camera, exposure_s))
        layers = np.mean([self._premultiplied(trajectories, float(state), camera) for state in moments], axis=0)
        return np.uint8(layers[..., :3] + self.wall * (1 - layers[..., 3:]))

    def _drawings(self, trajectories: Sequence[Trajectory], time_s: float, camera: Camera, exposure_s: float) -> int:
        """How many drawings show a moving hand as a streak and not as copies of itself."""
        if exposure_s <= 0:
            return 1
        ends = (time_s - exposure_s / 2, time_s + exposure_s / 2)
        first, last = (
            [hand.joints for hand in self.stage.pose(self._hand_instances(trajectories, end))] for end in ends
        )
        moved_px = np.abs(project(np.array(last), camera) - project(np.array(first), camera)).max()
        return min(max(math.ceil(moved_px / _STREAK_PX), 1), _MOST_DRAWINGS)

    def _premultiplied(self, trajectories: Sequence[Trajectory], time_s: float, camera: Camera) -> np.ndarray:
        """(H, W, 4) float32: colours 0..255 times opacity, and opacity 0..1; the farthest hand is drawn first.

        Each hand is lit by itself. Shadows are measured in maps that are framed on one hand, and those of another
        would come and go with their border.
        """
        hand_instances = self._hand_instances(trajectories, time_s)
        posed = list(zip(hand_instances, self.stage.pose(hand_instances), strict=True))
        layers = np.zeros((camera.height, camera.width, 4), np.float32)
        for one in sorted(posed, key=lambda pair: -pair[1].wrist[2]):
            rgba = self.stage.render_scene([one], camera, self.light).rgba
            alpha = rgba[..., 3:].astype(np.float32) / 255
            layers = np.concatenate([rgba[..., :3] * alpha, alpha], axis=-1) + layers * (1 - alpha)
        return layers

    def _hand_instances(self, trajectories: Sequence[Trajectory], time_s: float) -> list[HandInstance]:
        return [self._hand_instance(trajectory.side, trajectory.at(time_s)) for trajectory in trajectories]

    def _hand_instance(self, side: Side, state: HandState) -> HandInstance:
        rotation = state.rotation.as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)
        fingers = anatomy.rotations_from_angles(state.fingers_deg, self.frames)
        rotations = np.concatenate([rotation[None], fingers])
        position = state.wrist_m - self.stage.arm.rest_joints[skeleton.WRIST]  # the hand model turns about the wrist
        return HandInstance(rotations, self.shape, position, np.eye(3), self.appearance, side)


def with_noise(image: np.ndarray, seed: Sequence[int], read: float = 1.2, shot: float = 0.02) -> np.ndarray:
    """(H, W, 3) uint8 image as a sensor delivers it: equal seeds give equal noise.

    read, shot: a value v has noise of variance read^2 + shot * v; the values given are those of an ordinary
    webcam in a lit room. Grains are a little larger than a pixel, as a camera's own denoising leaves them.
    """
    grain = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    grain = cv2.GaussianBlur(grain, (3, 3), 0.6) * np.float32(_unit_after_blur())
    noisy = image + grain * np.sqrt(np.float32(read * read) + np.float32(shot) * image)
    return np.uint8(np.clip(noisy + 0.5, 0, 255))


def _unit_after_blur() -> float:
    """What brings blurred noise back to a variance of one."""
    kernel = cv2.getGaussianKernel(3, 0.6)
    return float(1 / np.square(kernel).sum())


def _offsets(count: int) -> np.ndarray:
    """(count,) middles of equal parts of -0.5..0.5."""
    return (np.arange(count) + 0.5) / count - 0.5


def _own_side(trajectory: Trajectory, points_m: np.ndarray) -> np.ndarray:
    return mirror_points_m(points_m) if trajectory.side == "left" else points_m


def _fractions(
    trajectories: Sequence[Trajectory], posed: Sequence[PosedHand], hand_faces: int, camera: Camera
) -> tuple[list[float], list[float]]:
    """How much of each hand's outline lies in the image, and how much of that no other hand or arm hides."""
    points = [
        _wide_points(_own_side(trajectory, hand.surface.vertices), camera)
        for trajectory, hand in zip(trajectories, posed, strict=True)
    ]
    faces = posed[0].surface.faces
    height, width = (3 * side // _COARSE for side in (camera.height, camera.width))
    middle = slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3)
    stacked = np.concatenate([faces + k * len(points[0]) for k in range(len(posed))])
    shown = rasterize(np.concatenate(points), stacked, height, width).face[middle]
    inside, seen = [], []
    for k, own in enumerate(points):
        alone = rasterize(own, faces[:hand_faces], height, width).face >= 0
        whole, first = max(int(alone.sum()), 1), k * len(faces)
        inside.append(float(alone[middle].sum() / whole))
        seen.append(float(((shown >= first) & (shown < first + hand_faces)).sum() / whole))
    return inside, seen


def _wide_points(vertices_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(V, 3) float32 for `rasterize`, on a coarse grid three images wide and high with the image in its middle."""
    pixels = (project(vertices_m, camera) + np.array([camera.width, camera.height])) / _COARSE
    return np.concatenate([pixels, vertices_m[:, 2:]], axis=1).astype(np.float32)
