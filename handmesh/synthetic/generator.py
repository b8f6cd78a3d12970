"""Random images of hands with exact labels: a seed in, a sample out. Equal seeds give equal samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.geometry import project
from handmesh.hand.poses import PoseSampler
from handmesh.synthetic import config, objects, scene
from handmesh.synthetic.config import Challenge, Chances, Sources
from handmesh.synthetic.hand_mesh import Arm, PosedHand
from handmesh.synthetic.lighting import draw_light, load_environments
from handmesh.synthetic.renderer import Part, Picture
from handmesh.synthetic.scene import Actor, Outfit, Stage, aim, beside
from handmesh.synthetic.sensor import Backgrounds, composite, photograph
from handmesh.synthetic.skin import Skin, draw_skin, load_skins, painted_skins, skin_material
from handmesh.synthetic.split import backgrounds_of, seed_of
from handmesh.synthetic.surfaces import Material
from handmesh.types import Camera

PAINTED_SIZE = 512

Develop = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes the finished picture of (S, S, 4) uint8 RGBA with straight alpha: (S, S, 3) RGB, or several, stacked."""


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
    challenge: Challenge | None = None  # of a hard sample


class Scene(NamedTuple):
    """What is before the camera, not placed yet; the first actor is the one that is labelled."""

    chances: Chances
    challenge: Challenge | None
    posed: list[tuple[Actor, PosedHand]]


class Generator:
    """Draws samples; holds all ingredients in memory."""

    def __init__(self, sources: Sources | None = None, chances: Chances | None = None) -> None:
        self.sources = sources = sources or Sources()
        if sources.painted_skins < 1 and sources.skins is None:
            raise ValueError("no skins: give a folder of skins or let at least one be painted")
        self.chances = chances or Chances()
        arm = Arm.load(sources.hand_model)
        self.stage = Stage(arm)
        self.skins = _load_skins(sources, arm)
        folder = sources.environments
        self.environments = [] if folder is None else load_environments(folder, sources.materials)
        split = backgrounds_of(sources.materials, sources.backgrounds_split)
        self.backgrounds = Backgrounds(sources.backgrounds, split)
        self._poses = PoseSampler(arm.rest_joints)

    def sample(self, seed: int, index: int, size: int = 160) -> Sample:
        """The sample `index` of `seed`: (size, size) picture."""
        return self.samples(seed, [index], size)[0]

    def samples(
        self, seed: int, indices: Sequence[int], size: int = 160, develop: Develop | None = None
    ) -> list[Sample]:
        """Several samples, their hands posed in one pass; `develop` is `self.develop` where it is not given."""
        develop = develop or self.develop
        rngs = [self._rng(seed, index) for index in indices]
        hard = [config.challenge_of(self.sources.difficulty, index) for index in indices]
        casts = [self._cast(rng, challenge) for rng, challenge in zip(rngs, hard, strict=True)]
        posed = iter(self.stage.pose([actor for cast in casts for actor in cast]))
        scenes = [
            Scene(config.harder(self.chances, challenge), challenge, [(actor, next(posed)) for actor in cast])
            for challenge, cast in zip(hard, casts, strict=True)
        ]
        return [self._sample(*scene, size, develop) for scene in zip(indices, rngs, scenes, strict=True)]

    def develop(self, rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(S, S, 3): the scene before a background, as an ordinary camera delivers it."""
        background = self.backgrounds.draw(rng, len(rgba))
        return photograph(composite(rgba, background, rng), rng)

    def render_rgba(
        self, seed: int, index: int, size: int = 384, cover: tuple[float, float] = (0.35, 0.5)
    ) -> tuple[np.ndarray, np.ndarray, Camera]:
        """A hand with forearm on transparent ground, without its owner or a second hand.

        The longer side of the joints' box takes a share in `cover` of the picture. Gives
        (size, size, 4) uint8 RGBA with straight alpha, (21, 2) joints in pixels, and the camera.
        """
        rng = self._rng(seed, index)
        actor = self.draw_actor(rng, None)
        hand = self.stage.pose([actor])[0]
        actor, hand, camera = aim(rng, self.stage.arm, actor, hand, size, cover)
        extras = self._things(rng, hand, self.chances)
        picture = self.stage.shoot([(actor, hand)], camera, draw_light(rng, self.environments), extras)
        return picture.rgba, project(hand.joints, camera).astype(np.float32), camera

    def _rng(self, seed: int, index: int) -> np.random.Generator:
        return np.random.default_rng(seed_of(self.sources.materials, seed, index))

    def _cast(self, rng: np.random.Generator, challenge: Challenge | None) -> list[Actor]:
        """The labelled hand and, at times, another: mostly a left one, often the mirror image of the first's turn."""
        first = self.draw_actor(rng, challenge)
        if rng.random() >= config.harder(self.chances, challenge).second_hand:
            return [first]
        other = self.draw_actor(rng, None)._replace(side="left" if rng.random() < 0.7 else "right")
        if rng.random() < 0.5:
            turn = Rotation.from_rotvec(rng.normal(0, 0.35, 3)).as_matrix() @ first.rotations[0]
            other.rotations[0] = turn
        if rng.random() < 0.7:  # one person's two hands
            other = other._replace(outfit=other.outfit._replace(skin=first.outfit.skin, sleeve=first.outfit.sleeve))
        return [first, other]

    def draw_actor(self, rng: np.random.Generator, challenge: Challenge | None) -> Actor:
        """A hand in any pose, seen from anywhere, not placed yet."""
        fingers = config.sample_fingers(rng, self._poses, challenge)
        rotations = np.concatenate([config.sample_view(rng, challenge)[None], fingers])
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
        watch = self._cloth(rng, float(rng.uniform(0.2, 0.8))) if band and rng.random() < 0.5 else None
        glove = self._cloth(rng, float(rng.uniform(0, 0.4))) if rng.random() < chances.glove else None
        return Outfit(draw_skin(rng, self.skins), sleeve, band, watch, glove, int(rng.integers(2**31)))

    def _cloth(self, rng: np.random.Generator, gloss: float) -> Material:
        return objects.coloured(rng, np.ascontiguousarray(self.backgrounds.draw(rng, 48)), gloss)

    def _sample(self, index: int, rng: np.random.Generator, scene: Scene, size: int, develop: Develop) -> Sample:
        cut_off = rng.random() < scene.chances.cut_off
        actor, hand, camera = aim(rng, self.stage.arm, *scene.posed[0], size, (0.45, 0.6), cut_off)
        posed = [(actor, hand)]
        if len(scene.posed) > 1:
            touching = rng.random() < scene.chances.touching
            posed.append(beside(rng, self.stage.arm, hand, *scene.posed[1], touching))
        picture = self._shoot(rng, posed, camera, scene.chances)
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
            challenge=scene.challenge,
        )

    def _shoot(
        self, rng: np.random.Generator, posed: list[tuple[Actor, PosedHand]], camera: Camera, chances: Chances
    ) -> Picture:
        actor, hand = posed[0]
        extras = self._things(rng, hand, chances)
        extras += self._owner(rng, hand, actor.outfit, chances)
        return self.stage.shoot(posed, camera, draw_light(rng, self.environments), extras)

    def _things(self, rng: np.random.Generator, hand: PosedHand, chances: Chances) -> list[Part]:
        """What the hand holds and what comes before it."""
        things, materials = [], self.sources.materials
        if rng.random() < chances.held:
            held = objects.draw_held(rng, hand, materials)
            things.append(Part(held, self._cloth(rng, float(rng.uniform(0, 0.6)))))
        if rng.random() < chances.occluder:
            occluder = objects.draw_occluder(rng, hand, materials)
            things.append(Part(occluder, self._cloth(rng, float(rng.uniform(0, 0.6)))))
        return things

    def _owner(self, rng: np.random.Generator, hand: PosedHand, outfit: Outfit, chances: Chances) -> list[Part]:
        """The body and the face of whose hand it is, behind it."""
        parts = []
        if rng.random() < chances.torso:
            parts.append(Part(scene.draw_torso(rng, hand), outfit.sleeve or self._cloth(rng, 0.0)))
        if rng.random() < chances.head:
            look = scene.face_look(rng, outfit.skin)
            parts.append(Part(scene.draw_head(rng, hand), skin_material(look, 1000.0)))
        return parts


def _load_skins(sources: Sources, arm: Arm) -> list[Skin]:
    """Painted skins and the given ones, these repeated so that both are used about equally often."""
    painted = painted_skins(arm, sources.painted_skins, PAINTED_SIZE, sources.materials)
    given = [] if sources.skins is None else load_skins(sources.skins, arm, sources.materials)
    if not painted and not given:
        raise ValueError(f"{sources.skins} holds no skin of --materials {sources.materials}: paint at least one")
    return painted + given * max(1, sources.painted_skins // max(1, len(given)))
