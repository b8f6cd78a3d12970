"""Random pictures of hands with exact labels. Equal seeds give equal samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.camera import project
from handmesh.data.poses import PoseSampler, sample_view
from handmesh.data.synthetic import objects
from handmesh.data.synthetic.arm import Arm, PosedHand
from handmesh.data.synthetic.backgrounds import Backgrounds, Split
from handmesh.data.synthetic.camera_effects import composite, photograph
from handmesh.data.synthetic.lighting import draw_light, load_environments
from handmesh.data.synthetic.render import Part, Picture
from handmesh.data.synthetic.skin import Material, draw_skin, load_skins, painted_skins
from handmesh.data.synthetic.stage import Actor, Outfit, Stage
from handmesh.structs import Camera, Side

PAINTED_SIZE = 512

Develop = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes the finished picture of (S, S, 4) uint8 RGBA with straight alpha: (S, S, 3) RGB, or several, stacked."""


@dataclass(frozen=True)
class Sources:
    """Where pictures take their ingredients from; what is not given is made procedurally."""

    hand_model: Path | None = None  # .npz in MANO's layout; the bundled open hand without one
    skins: Path | None = None  # folder of textures for the hand's UVs
    backgrounds: Path | None = None  # folder of photographs without hands
    backgrounds_split: Split = "all"
    environments: Path | None = None  # folder of .hdr panoramas
    painted_skins: int = 16  # how many skins to make here, beside those given


@dataclass(frozen=True)
class Chances:
    """How often things appear."""

    sleeve: float = 0.5
    band: float = 0.12
    held: float = 0.2
    occluder: float = 0.13
    second_hand: float = 0.13


class Sample(NamedTuple):
    """One picture of a right hand with its labels; metres in the camera's frame."""

    image: np.ndarray  # (S, S, 3) uint8 RGB; (N, S, S, 3) from a `Develop` that makes N of the same scene
    mask: np.ndarray  # (S, S) uint8, 255 where the hand model's own surface is seen
    pose: np.ndarray  # (16, 3) axis-angle relative to the parent; the first to the camera
    shape: np.ndarray  # (10,)
    vertices_m: np.ndarray  # (V, 3) float32
    joints_m: np.ndarray  # (21, 3) float32
    joints_px: np.ndarray  # (21, 2) float32
    translation_m: np.ndarray  # (3,), added to the hand model's output
    camera: Camera
    seed: int  # the sample's index under the generator's seed


class Generator:
    """Draws samples; holds all ingredients in memory."""

    def __init__(self, sources: Sources | None = None, chances: Chances | None = None) -> None:
        sources = sources or Sources()
        if sources.painted_skins < 1 and sources.skins is None:
            raise ValueError("no skins: give a folder of skins or let at least one be painted")
        self.chances = chances or Chances()
        arm = Arm.load(sources.hand_model)
        self.stage = Stage(arm)
        self.skins = painted_skins(arm, sources.painted_skins, PAINTED_SIZE)
        if sources.skins is not None:
            given = load_skins(sources.skins, arm)
            self.skins += given * max(1, sources.painted_skins // len(given))  # half painted, half given
        self.environments = [] if sources.environments is None else load_environments(sources.environments)
        self.backgrounds = Backgrounds(sources.backgrounds, sources.backgrounds_split)
        self._poses = PoseSampler(arm.rest_joints)

    def sample(self, seed: int, index: int, size: int = 160) -> Sample:
        """The sample `index` of `seed`: (size, size) picture."""
        return self.samples(seed, [index], size)[0]

    def samples(
        self, seed: int, indices: Sequence[int], size: int = 160, develop: Develop | None = None
    ) -> list[Sample]:
        """Several samples, their hands posed in one pass; `develop` is `self.develop` where it is not given."""
        develop = develop or self.develop
        rngs = [np.random.default_rng([seed, index]) for index in indices]
        casts = [self._cast(rng) for rng in rngs]
        posed = iter(self.stage.pose([actor for cast in casts for actor in cast]))
        scenes = [[(actor, next(posed)) for actor in cast] for cast in casts]
        return [self._sample(*scene, size, develop) for scene in zip(indices, rngs, scenes, strict=True)]

    def develop(self, rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(S, S, 3): the scene before a background, as an ordinary camera delivers it."""
        background = self.backgrounds.draw(rng, len(rgba))
        return photograph(composite(rgba, background, rng), rng)

    def render_rgba(
        self, seed: int, index: int, size: int = 384, cover: tuple[float, float] = (0.35, 0.5)
    ) -> tuple[np.ndarray, np.ndarray, Camera]:
        """A hand with forearm on transparent ground, without a second hand.

        The longer side of the joints' box takes a share in `cover` of the picture. Gives
        (size, size, 4) uint8 RGBA with straight alpha, (21, 2) joints in pixels, and the camera.
        """
        rng = np.random.default_rng([seed, index])
        actor = self._actor(rng)
        hand = self.stage.pose([actor])[0]
        actor, hand, camera = self._aim(rng, actor, hand, size, cover)
        picture = self._shoot(rng, [(actor, hand)], camera)
        return picture.rgba, project(hand.joints, camera).astype(np.float32), camera

    def _cast(self, rng: np.random.Generator) -> list[Actor]:
        first = self._actor(rng)
        return [first, self._actor(rng)] if rng.random() < self.chances.second_hand else [first]

    def _actor(self, rng: np.random.Generator) -> Actor:
        """A hand in any pose, seen from anywhere, not placed yet."""
        rotations = np.concatenate([sample_view(rng)[None], self._poses.sample(rng)])
        pose = Rotation.from_matrix(rotations).as_rotvec()  # what is labelled is what is drawn
        return Actor(
            rotations=Rotation.from_rotvec(pose).as_matrix(),
            shape=rng.normal(0, 1, 10).clip(-2.5, 2.5),
            translation=np.zeros(3),
            bend=np.eye(3),
            outfit=self._outfit(rng),
        )

    def _outfit(self, rng: np.random.Generator) -> Outfit:
        chances = self.chances
        sleeve = self._cloth(rng, 0.0) if rng.random() < chances.sleeve else None
        band = self._cloth(rng, float(rng.uniform(0, 0.8))) if rng.random() < chances.band else None
        return Outfit(draw_skin(rng, self.skins), sleeve, band, int(rng.integers(2**31)))

    def _cloth(self, rng: np.random.Generator, gloss: float) -> Material:
        return objects.coloured(rng, np.ascontiguousarray(self.backgrounds.draw(rng, 48)), gloss)

    def _sample(
        self, index: int, rng: np.random.Generator, scene: list[tuple[Actor, PosedHand]], size: int, develop: Develop
    ) -> Sample:
        actor, hand, camera = self._aim(rng, *scene[0], size, (0.45, 0.6))
        posed = [(actor, hand)]
        if len(scene) > 1:
            posed.append(self._beside(rng, hand, *scene[1]))
        picture = self._shoot(rng, posed, camera)
        return Sample(
            image=develop(picture.rgba, rng),
            mask=np.where(picture.hand > 127, np.uint8(255), np.uint8(0)),
            pose=Rotation.from_matrix(actor.rotations).as_rotvec(),
            shape=actor.shape,
            vertices_m=hand.vertices,
            joints_m=hand.joints,
            joints_px=project(hand.joints, camera).astype(np.float32),
            translation_m=actor.translation,
            camera=camera,
            seed=index,
        )

    def _shoot(self, rng: np.random.Generator, posed: list[tuple[Actor, PosedHand]], camera: Camera) -> Picture:
        extras = []
        hand = posed[0][1]
        if rng.random() < self.chances.held:
            extras.append(Part(objects.draw_held(rng, hand), self._cloth(rng, float(rng.uniform(0, 0.6)))))
        if rng.random() < self.chances.occluder:
            extras.append(Part(objects.draw_occluder(rng, hand), self._cloth(rng, float(rng.uniform(0, 0.6)))))
        return self.stage.shoot(posed, camera, draw_light(rng, self.environments), extras)

    def _aim(
        self, rng: np.random.Generator, actor: Actor, hand: PosedHand, size: int, cover: tuple[float, float]
    ) -> tuple[Actor, PosedHand, Camera]:
        """Place the hand before a camera that looks straight at it, and bend its wrist."""
        distance = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2))))
        joints = hand.joints.astype(np.float64)
        shift = np.array([0, 0, distance]) - joints.mean(0)
        for _ in range(2):
            low, high = _image_box(joints + shift)
            shift[:2] -= (low + high) / 2 * distance
        low, high = _image_box(joints + shift)
        focal = size * rng.uniform(*cover) / (high - low).max()
        centre = (size - 1) / 2 - focal * (low + high) / 2 + rng.normal(0, 0.02 * size, 2)
        camera = Camera(focal, focal, *(float(c) for c in centre), size, size)
        actor = self._bend(rng, actor._replace(translation=shift), hand)
        return actor, self._moved(actor, hand), camera

    def _moved(self, actor: Actor, hand: PosedHand) -> PosedHand:
        """The hand, posed before without a translation, where `actor` now says."""
        shift, turn = actor.translation.astype(np.float32), actor.rotations[0]
        return self.stage.arm.pose(hand.vertices + shift, hand.joints + shift, turn @ actor.bend @ turn.T)

    def _bend(self, rng: np.random.Generator, actor: Actor, hand: PosedHand) -> Actor:
        """Bend the wrist so that the forearm does not pass between the camera and the hand, if that can be."""
        turn, joints = actor.rotations[0], hand.joints + actor.translation
        for attempt in range(8):
            bend = _wrist_bend(rng, 1 + 0.15 * attempt)
            axis = turn @ bend @ turn.T @ hand.axis
            if not _hides(joints, hand.wrist + actor.translation, axis):
                break
        return actor._replace(bend=bend)

    def _beside(
        self, rng: np.random.Generator, first: PosedHand, actor: Actor, hand: PosedHand
    ) -> tuple[Actor, PosedHand]:
        """Another hand near the first, before or behind it, of either side."""
        centre = first.joints.mean(0).astype(np.float64)
        side: Side = "left" if rng.random() < 0.7 else "right"
        flip = np.array([-1.0, 1, 1]) if side == "left" else np.ones(3)
        for _ in range(8):
            away = rng.normal(size=2)
            away *= rng.uniform(0.09, 0.2) / np.linalg.norm(away)
            place = centre * rng.uniform(0.85, 1.3) + [*away, 0]
            bend = _wrist_bend(rng)
            actor = actor._replace(translation=flip * place - hand.joints.mean(0), bend=bend, side=side)
            moved = self._moved(actor, hand)
            if not _hides(first.joints, flip * moved.wrist, flip * moved.axis, reach_m=(-0.1, 0.4)):
                break
        return actor, moved


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
