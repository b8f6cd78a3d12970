"""Hands, clothes, body and face placed before a camera: pose, shape, position, skin and light are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from handmesh.synthetic import objects, renderer
from handmesh.synthetic.hand_mesh import Arm, PosedHand
from handmesh.synthetic.renderer import Light, Material, Part, RenderedScene, Surface, render
from handmesh.synthetic.skin import GROUND, Skin, SkinAppearance, SkinRegions, skin_material, skin_tint
from handmesh.types import Camera, Side

# Hands put before a camera with everything given: pose, shape, position, skin, clothes, light.
#
# The generator draws all of that at random; a clip with a story gives it frame by frame.


OCCLUSION_DIRECTIONS = 16


class Appearance(NamedTuple):
    """What one hand looks like and wears; the same from frame to frame."""

    skin: SkinAppearance
    sleeve: Material | None = None
    band: Material | None = None
    watch: Material | None = None
    glove: Material | None = None
    seed: int = 0  # of the cut of sleeve and band


class HandInstance(NamedTuple):
    """One hand to be drawn. A left hand is given as the right hand that is its mirror image."""

    rotations: np.ndarray  # (16, 3, 3) relative to the parent; the first to the camera's axes
    shape: np.ndarray  # (10,)
    translation: np.ndarray  # (3,) metres, added to the hand model's output
    bend: np.ndarray  # (3, 3) rotation of the forearm about the wrist, canonical axes; eye(3) is straight
    appearance: Appearance
    side: Side = "right"  # a left hand is mirrored at x = 0 of the camera after it was placed
    towards: np.ndarray | None = None  # (3,) unit, camera's axes: where it touches the first hand; None: anywhere


class Stage:
    """A hand model's arm with what depends on it alone."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self._regions = SkinRegions.of(arm)

    def pose(self, hand_instances: Sequence[HandInstance]) -> list[PosedHand]:
        """Pose, skin and place all hands in one pass of the hand model, each still a right hand."""
        rotations = np.stack([hand_instance.rotations for hand_instance in hand_instances])
        vertices, joints = self.arm.skin(rotations, np.stack([hand_instance.shape for hand_instance in hand_instances]))
        return [self._posed(*triple) for triple in zip(hand_instances, vertices, joints, strict=True)]

    def _posed(self, hand_instance: HandInstance, vertices: np.ndarray, joints: np.ndarray) -> PosedHand:
        rotation = hand_instance.rotations[0]
        shift = np.asarray(hand_instance.translation, np.float32)
        return self.arm.pose(vertices + shift, joints + shift, rotation @ hand_instance.bend @ rotation.T)

    def parts(self, hand_instance: HandInstance, hand: PosedHand, pixels_per_metre: float = 1000.0) -> list[Part]:
        """The hand with its forearm, and what it wears. The texture suits `pixels_per_metre`."""
        appearance, rng = hand_instance.appearance, np.random.default_rng(hand_instance.appearance.seed)
        parts = self._skin_parts(appearance, hand, pixels_per_metre)
        if appearance.sleeve is not None:
            parts.append(Part(objects.draw_sleeve(rng, hand), appearance.sleeve))
        if appearance.band is not None:
            parts.append(Part(objects.draw_band(rng, hand), appearance.band))
        if appearance.watch is not None:
            parts.append(Part(objects.draw_watch(rng, hand), appearance.watch))
        if hand_instance.side == "left":
            parts = [part._replace(surface=part.surface.mirrored()) for part in parts]
        return parts

    def _skin_parts(self, appearance: Appearance, hand: PosedHand, pixels_per_metre: float) -> list[Part]:
        """Hand and forearm in one, or a glove on the hand model's own faces and the skin beyond it."""
        material, tint = skin_material(appearance.skin, pixels_per_metre), skin_tint(appearance.skin, self._regions)
        if appearance.glove is None:
            return [Part(hand.surface, material, tint)]
        n = self.arm.hand_faces
        glove, bare = (
            hand.surface._replace(faces=hand.surface.faces[span], uv_faces=hand.surface.uv_faces[span])
            for span in (slice(n), slice(n, None))
        )
        return [Part(glove, appearance.glove), Part(bare, material, tint)]

    def render(
        self,
        hand_instances: Sequence[HandInstance],
        camera: Camera,
        light: Light,
        extras: Sequence[Part] = (),
        supersample: int = 2,
    ) -> RenderedScene:
        """RGBA of all hands and `extras`; the mask is the first hand's."""
        hands = self.pose(hand_instances)
        return self.render_scene(list(zip(hand_instances, hands, strict=True)), camera, light, extras, supersample)

    def render_scene(
        self,
        posed: Sequence[tuple[HandInstance, PosedHand]],
        camera: Camera,
        light: Light,
        extras: Sequence[Part] = (),
        supersample: int = 2,
    ) -> RenderedScene:
        """As `render`, for hands that are posed already."""
        parts: list[Part] = []
        for hand_instance, hand in posed:
            density = supersample * camera.fx / max(float(hand.wrist[2]), 0.05)
            parts += self.parts(hand_instance, hand, density)
        focus = self.arm.model.num_vertices
        return render([*parts, *extras], self.arm.hand_faces, camera, light, _directions(light), focus, supersample)


_EVEN = np.arange(OCCLUSION_DIRECTIONS) + 0.5


def _directions(light: Light) -> np.ndarray:
    """(D, 3) unit vectors spread evenly, turned by an angle that follows from the light alone."""
    height = 1 - 2 * _EVEN / OCCLUSION_DIRECTIONS
    around = np.pi * (1 + 5**0.5) * _EVEN
    radius = np.sqrt(1 - height * height)
    even = np.stack([radius * np.cos(around), height, radius * np.sin(around)], -1)
    return even @ Rotation.from_rotvec(3 * light.lights[0, :3].astype(np.float64)).as_matrix().T


# Where hands stand before the camera: aimed at, cut by the border, beside or touching one another.


TOUCH_M = 0.004
"""Hands whose sampled vertices come this near touch: about half the distance of neighbouring ones."""

_VERTICES_STEP = 3  # every third vertex is enough to find where hands meet
_FARTHEST_M = 0.35


def aim(
    rng: np.random.Generator, arm: Arm, hand_instance: HandInstance, hand: PosedHand, size: int,
    cover: tuple[float, float],
    cut_off: bool = False,
) -> tuple[HandInstance, PosedHand, Camera]:  # fmt: skip
    """Place the hand before a camera that looks straight at it, and bend its wrist.

    The longer side of the joints' box takes a fraction in `cover` of the (size, size) image. With
    `cut_off` the image is taken farther to one side, so that its border runs through the hand.
    """
    distance = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2))))
    joints = hand.joints.astype(np.float64)
    shift = np.array([0, 0, distance]) - joints.mean(0)
    for _ in range(2):
        low, high = _image_box(joints + shift)
        shift[:2] -= (low + high) / 2 * distance
    low, high = _image_box(joints + shift)
    focal = size * rng.uniform(*cover) / (high - low).max()
    centre = (size - 1) / 2 - focal * (low + high) / 2 + rng.normal(0, 0.02 * size, 2)
    if cut_off:
        centre += _over_the_border(rng, size, focal * (high - low))
    camera = Camera(focal, focal, *(float(c) for c in centre), size, size)
    hand_instance = _bend(rng, hand_instance._replace(translation=shift), hand)
    return hand_instance, _moved(arm, hand_instance, hand), camera


def framed(rng: np.random.Generator, camera: Camera, points_px: np.ndarray) -> Camera:
    """The camera zoomed and shifted, so that (N, 2) points are in view, near the image's middle or below it: where the
    hands of somebody are who sits before a camera."""
    low, high = points_px.min(0), points_px.max(0)
    zoom = camera.width * np.exp(rng.uniform(np.log(0.35), np.log(0.8))) / float((high - low).max())
    middle = (low + high) / 2 - [0.0, rng.uniform(0, 0.12) * camera.height / zoom]
    size = np.array([camera.width, camera.height])
    cx, cy = (size - 1) / 2 + zoom * ([camera.cx, camera.cy] - middle)
    return Camera(camera.fx * zoom, camera.fy * zoom, cx, cy, camera.width, camera.height)


def _over_the_border(rng: np.random.Generator, size: int, extent_px: np.ndarray) -> np.ndarray:
    """(2,) pixels that take 15 to 42 % of a centred box of (2,) `extent_px` out of the image; some at a corner."""
    fraction = rng.uniform(0.15, 0.42)
    shift = rng.choice([-1.0, 1.0], 2) * (size / 2 + (fraction - 0.5) * extent_px)
    if rng.random() < 0.85:
        shift[rng.integers(2)] = 0
    return shift


def _moved(arm: Arm, hand_instance: HandInstance, hand: PosedHand) -> PosedHand:
    """The hand, posed before without a translation, where `hand_instance` now says."""
    shift, rotation = hand_instance.translation.astype(np.float32), hand_instance.rotations[0]
    return arm.pose(hand.vertices + shift, hand.joints + shift, rotation @ hand_instance.bend @ rotation.T)


def _bend(rng: np.random.Generator, hand_instance: HandInstance, hand: PosedHand) -> HandInstance:
    """Bend the wrist so that the forearm does not pass between the camera and the hand, if that can be."""
    rotation, joints = hand_instance.rotations[0], hand.joints + hand_instance.translation
    for attempt in range(8):
        bend = _wrist_bend(rng, 1 + 0.15 * attempt)
        axis = rotation @ bend @ rotation.T @ hand.axis
        if not _hides(joints, hand.wrist + hand_instance.translation, axis):
            break
    return hand_instance._replace(bend=bend)


def beside(
    rng: np.random.Generator,
    arm: Arm,
    first: PosedHand,
    hand_instance: HandInstance,
    hand: PosedHand,
    touching: bool = False,
) -> tuple[HandInstance, PosedHand]:
    """Another hand near the first, before or behind it; with `touching`, or where it says from where, on it."""
    touching = touching or hand_instance.towards is not None
    flip = np.array([-1.0, 1, 1]) if hand_instance.side == "left" else np.ones(3)
    for _ in range(4 if touching else 8):
        hand_instance = hand_instance._replace(bend=_wrist_bend(rng))
        if touching:
            direction = _any_direction(rng) if hand_instance.towards is None else hand_instance.towards
            position = _touching_position(first, hand, flip, direction)
        else:
            position = _near_position(rng, first)
        hand_instance = hand_instance._replace(translation=flip * position - hand.joints.mean(0))
        moved = _moved(arm, hand_instance, hand)
        if not _hides(first.joints, flip * moved.wrist, flip * moved.axis, reach_m=(-0.1, 0.4)):
            break
    return hand_instance, moved


def mirror_image(
    rng: np.random.Generator, first: HandInstance, other: HandInstance, noise_rad: float = 0.12,
    angle_deg: float | None = None,
) -> HandInstance:  # fmt: skip
    """`other` as the left hand that nearly mirrors a right one at a plane between them: both make a bowl, are folded,
    or lie side by side.

    The plane's normal turns about the fingers' direction: from the little finger's edge (0 degrees) over the palm (90)
    to the thumb's edge (180). angle_deg: how far; None: mostly a little.
    """
    if angle_deg is None:
        angle_deg = rng.normal(20, 30) if rng.random() < 0.65 else rng.uniform(-20, 200)
    angle = np.radians(angle_deg)
    normal = first.rotations[0] @ [0, -np.sin(angle), -np.cos(angle)]  # the palm looks along -y, the thumb's side is +z
    reflection = np.eye(3) - 2 * np.outer(normal, normal)
    noise = Rotation.from_rotvec(rng.normal(0, noise_rad, (16, 3))).as_matrix()
    rotations = noise @ first.rotations
    rotations[0] = np.diag([-1.0, 1, 1]) @ reflection @ rotations[0]
    return other._replace(side="left", rotations=rotations, shape=first.shape, towards=normal)


def _near_position(rng: np.random.Generator, first: PosedHand) -> np.ndarray:
    away = rng.normal(size=2)
    away *= rng.uniform(0.09, 0.2) / np.linalg.norm(away)
    return first.joints.mean(0).astype(np.float64) * rng.uniform(0.85, 1.3) + [*away, 0]


def _any_direction(rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(size=3) * [1, 1, 0.8]
    return direction / np.linalg.norm(direction)


def _touching_position(first: PosedHand, hand: PosedHand, flip: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(3,) where the other's middle comes to lie when it is brought up to the first from a (3,) direction.

    It comes nearer by the distance that remains, so that it cannot pass into the first.
    """
    centre = first.joints.mean(0).astype(np.float64)
    tree = cKDTree(first.vertices[::_VERTICES_STEP])
    other = flip * (hand.vertices[::_VERTICES_STEP] - hand.joints.mean(0)) + centre
    away = _FARTHEST_M
    while away > 0.01:
        gap = float(tree.query(other + away * direction, distance_upper_bound=2 * _FARTHEST_M)[0].min())
        if gap < TOUCH_M:
            break
        away -= max(gap - 0.5 * TOUCH_M, 0.001)
    return centre + away * direction


def _wrist_bend(rng: np.random.Generator, freedom: float = 1.0) -> np.ndarray:
    """(3, 3) flexion, deviation and twist of the forearm at the wrist."""
    angles = rng.normal(0, (20, 9, 10)) * freedom
    return Rotation.from_euler("zyx", angles.clip(-60, 60), degrees=True).as_matrix()


def _image_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (2,) least and greatest x / z and y / z."""
    image = points[:, :2] / points[:, 2:]
    return image.min(0), image.max(0)


def _hides(
    joints: np.ndarray, wrist: np.ndarray, axis: np.ndarray, reach_m: tuple[float, float] = (0.06, 0.45)
) -> bool:
    """Whether a forearm along `axis` comes before the joints' middle or runs into the camera."""
    points = wrist + np.linspace(*reach_m, 12)[:, None] * axis
    points = points[points[:, 2] < joints[:, 2].mean() - 0.02]
    if not len(points):
        return False
    low, high = _image_box(joints)
    margin = 0.1 * (high - low)
    image = points[:, :2] / points[:, 2:].clip(0.05)
    return bool(((image > low + margin) & (image < high - margin)).all(1).any() or (points[:, 2] < 0.06).any())


# Whose hand it is: a clothed body and a face behind the hand, in the colours of its sleeve and skin.
#
# A photograph of a hand mostly shows its owner: the sleeve's cloth goes on behind the hand, and a face
# has the hand's own tone. Both are plain bodies; the hand's light falls on them and its shadow, too.


_UPRIGHT = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""(3, 3) from a turned body's axes to the camera's: its axis up, the middle of its texture to the camera."""

FACE_SIZE = 64


def draw_torso(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """Chest and belly behind the hand, as far off as an arm bends, mostly reaching past the image."""
    size = np.array([rng.uniform(0.13, 0.22), rng.uniform(0.3, 0.5), rng.uniform(0.09, 0.14)])
    aside = np.array([rng.normal(0.05, 0.13), rng.normal(0.12, 0.15), 0.0])
    return _behind(rng, hand, size, aside, gap_m=rng.uniform(0.01, 0.3))


def draw_head(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A head behind the hand; every third time the hand is on the face."""
    size = np.array([rng.uniform(0.068, 0.082), rng.uniform(0.1, 0.125), rng.uniform(0.085, 0.1)])
    on_face = rng.random() < 0.35
    aside = np.array([*rng.normal(0, 0.05 if on_face else 0.11, 2), 0.0])
    return _behind(rng, hand, size, aside, gap_m=0.0 if on_face else rng.uniform(0.02, 0.3))


def _behind(
    rng: np.random.Generator, hand: PosedHand, half_size: np.ndarray, aside: np.ndarray, gap_m: float
) -> Surface:
    """An ellipsoid, (3,) `half_size` in the camera's axes; its front lies `gap_m` behind the hand's farthest point."""
    rotation = Rotation.from_euler("yxz", rng.normal(0, (25, 12, 12)), degrees=True).as_matrix()
    position = hand.joints.mean(0) + aside
    position[2] = hand.vertices[:, 2].max() + gap_m + half_size[2]
    return renderer.ball(1.0, sides=32).moved(rotation @ np.diag(half_size) @ _UPRIGHT, position)


def face_appearance(rng: np.random.Generator, appearance: SkinAppearance) -> SkinAppearance:
    """The look of the face that goes with a hand's: the same tone, a painted face."""
    return appearance._replace(skin=Skin((_paint_face(rng),), np.full(3, GROUND)))


def _paint_face(rng: np.random.Generator) -> np.ndarray:
    """(FACE_SIZE, FACE_SIZE, 3) uint8, all round the head: eyes, brows, a mouth, hair behind and above."""
    n = FACE_SIZE
    image = np.full((n, n, 3), GROUND, np.float32)
    middle, high, dark = n / 2, 0.47 * n, rng.uniform(15, 70)
    for side in (-1, 1):
        eye = (middle + side * 0.075 * n, high)
        _spot(image, eye, (0.035 * n, 0.016 * n), (60.0, 55.0, 55.0))
        _spot(image, (eye[0], eye[1] - 0.06 * n), (0.05 * n, 0.012 * n), (dark, dark, dark))
    _spot(image, (middle, high + 0.13 * n), (0.025 * n, 0.03 * n), (150.0, 135.0, 135.0))
    _spot(image, (middle, high + 0.22 * n), (0.06 * n, 0.016 * n), (140.0, 80.0, 85.0))
    hair = np.full(3, dark) + rng.uniform(0, 30, 3)
    if rng.random() < 0.85:
        image[: int(rng.uniform(0.2, 0.36) * n)] = hair
        edge = int(rng.uniform(0.2, 0.3) * n)
        image[: int(rng.uniform(0.5, 0.9) * n), :edge] = image[: int(rng.uniform(0.5, 0.9) * n), n - edge :] = hair
    if rng.random() < 0.25:  # a beard
        image[int(0.73 * n) :] = 0.5 * image[int(0.73 * n) :] + 0.5 * hair
    return cv2.GaussianBlur(image, (0, 0), 0.8).clip(1, 255).astype(np.uint8)


def _spot(image: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], colour: tuple) -> None:
    cv2.ellipse(image, (centre, (2 * axes[0], 2 * axes[1]), 0.0), colour, -1, cv2.LINE_AA)
