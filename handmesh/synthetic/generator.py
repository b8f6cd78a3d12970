"""Random images of hands with exact labels: a seed in, a sample out. Equal seeds give equal samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.geometry import mirror_points_m, project
from handmesh.hand.poses import PoseSampler, offered_view
from handmesh.synthetic import config, objects, scene
from handmesh.synthetic.config import BOWL, TWO_HANDS, HardCase, SceneProbabilities, Sources, backgrounds_of, seed_of
from handmesh.synthetic.hand_mesh import Arm, PosedHand
from handmesh.synthetic.renderer import Material, Part, RenderedScene, draw_light, load_environments
from handmesh.synthetic.scene import Appearance, HandInstance, Stage, aim, beside, framed, mirror_image
from handmesh.synthetic.sensor import Backgrounds, composite, photograph
from handmesh.synthetic.skin import Skin, draw_skin, load_skins, painted_skins, skin_material
from handmesh.types import Camera, Side

PAINTED_SIZE = 512

MIRRORED = 0.45
"""How often a person's two hands mirror each other and touch: folded, side by side, a bowl."""

OFFERED = 0.5
"""How often such hands are held out to the camera as a bowl."""

SimulateSensor = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes the finished image of (S, S, 4) uint8 RGBA with straight alpha: (S, S, 3) RGB, or several, stacked."""


class Sample(NamedTuple):
    """One image of a right hand with its labels; metres in the camera's frame."""

    image: np.ndarray  # (S, S, 3) uint8 RGB; (N, S, S, 3) from a `SimulateSensor` that makes N of the same scene
    mask: np.ndarray  # (S, S) uint8, 255 where the hand model's own surface is seen
    pose: np.ndarray  # (16, 3) axis-angle relative to the parent; the first to the camera
    shape: np.ndarray  # (10,)
    vertices_m: np.ndarray  # (V, 3) float32
    joints_m: np.ndarray  # (21, 3) float32
    joints_px: np.ndarray  # (21, 2) float32
    translation_m: np.ndarray  # (3,), added to the hand model's output
    camera: Camera
    seed: int  # the sample's index under the generator's seed
    hard_case: HardCase | None = None  # of a hard sample
    others_px: Mapping[Side, np.ndarray] = MappingProxyType({})  # (21, 2) joints of another hand, where there is one


class Scene(NamedTuple):
    """What is before the camera, not placed yet; the first hand is the one that is labelled."""

    probabilities: SceneProbabilities
    hard_case: HardCase | None
    posed: list[tuple[HandInstance, PosedHand]]


class Generator:
    """Draws samples; holds all ingredients in memory."""

    def __init__(self, sources: Sources | None = None, probabilities: SceneProbabilities | None = None) -> None:
        self.sources = sources = sources or Sources()
        if sources.painted_skins < 1 and sources.skins is None:
            raise ValueError("no skins: give a folder of skins or let at least one be painted")
        self.probabilities = probabilities or SceneProbabilities()
        arm = Arm.load(sources.hand_model)
        self.stage = Stage(arm)
        self.skins = _load_skins(sources, arm)
        folder = sources.environments
        self.environments = [] if folder is None else load_environments(folder, sources.materials)
        split = backgrounds_of(sources.materials, sources.backgrounds_split)
        self.backgrounds = Backgrounds(sources.backgrounds, split)
        self._poses = PoseSampler(arm.rest_joints)

    def sample(self, seed: int, index: int, size: int = 160) -> Sample:
        """The sample `index` of `seed`: (size, size) image."""
        return self.samples(seed, [index], size)[0]

    def samples(
        self, seed: int, indices: Sequence[int], size: int = 160, simulate_sensor: SimulateSensor | None = None
    ) -> list[Sample]:
        """Several samples, their hands posed in one pass; `simulate_sensor` is `self.simulate_sensor` where it is not
        given."""
        simulate_sensor = simulate_sensor or self.simulate_sensor
        rngs = [self._rng(seed, index) for index in indices]
        hard = [config.hard_case_of(self.sources.difficulty, index) for index in indices]
        casts = [self._instances(rng, hard_case) for rng, hard_case in zip(rngs, hard, strict=True)]
        posed = iter(self.stage.pose([hand_instance for instances in casts for hand_instance in instances]))
        scenes = [
            Scene(
                config.harder(self.probabilities, hard_case),
                hard_case,
                [(hand_instance, next(posed)) for hand_instance in instances],
            )
            for hard_case, instances in zip(hard, casts, strict=True)
        ]
        return [self._sample(*scene, size, simulate_sensor) for scene in zip(indices, rngs, scenes, strict=True)]

    def simulate_sensor(self, rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(S, S, 3): the scene before a background, as an ordinary camera delivers it."""
        background = self.backgrounds.draw(rng, len(rgba))
        return photograph(composite(rgba, background, rng), rng)

    def render_rgba(
        self, seed: int, index: int, size: int = 384, cover: tuple[float, float] = (0.35, 0.5), pair: bool = False
    ) -> tuple[np.ndarray, dict[Side, np.ndarray], Camera]:
        """A right hand with forearm on transparent ground, without its owner; with `pair`, the left one beside or on
        it.

        The longer side of the first hand's joints' box takes a fraction in `cover` of the image. Gives
        (size, size, 4) uint8 RGBA with straight alpha, (21, 2) joints in pixels of each hand, and the camera.
        """
        rng = self._rng(seed, index)
        first = self.draw_actor(rng, None)
        actors = self._pair(rng, first) if pair else [first]
        hands = list(zip(actors, self.stage.pose(actors), strict=True))
        touching = config.harder(self.probabilities, TWO_HANDS).touching
        posed, camera = self._before_camera(rng, hands, size, cover, touching)
        extras = self._things(rng, posed[0][1], self.probabilities)
        image = self.stage.render_scene(posed, camera, draw_light(rng, self.environments), extras)
        return image.rgba, {one.side: _joints_px(one, hand, camera) for one, hand in posed}, camera

    def _before_camera(
        self, rng: np.random.Generator, hands: list[tuple[HandInstance, PosedHand]], size: int,
        cover: tuple[float, float], touching: float, cut_off: bool = False,
    ) -> tuple[list[tuple[HandInstance, PosedHand]], Camera]:  # fmt: skip
        """The first hand aimed at and the other, where there is one, near it or, as often as `touching` says, on it."""
        first, hand, camera = aim(rng, self.stage.arm, *hands[0], size, cover, cut_off)
        others = [beside(rng, self.stage.arm, hand, *other, rng.random() < touching) for other in hands[1:]]
        return [(first, hand), *others], camera

    def _rng(self, seed: int, index: int) -> np.random.Generator:
        return np.random.default_rng(seed_of(self.sources.materials, seed, index))

    def _instances(self, rng: np.random.Generator, hard_case: HardCase | None) -> list[HandInstance]:
        """The labelled hand and, at times, another: mostly a left one, often the mirror image of the first's
        rotation."""
        first = self.draw_actor(rng, hard_case)
        if hard_case == TWO_HANDS:
            return self._pair(rng, first)
        if hard_case == BOWL:
            return self._bowl(rng, first)
        if rng.random() >= config.harder(self.probabilities, hard_case).second_hand:
            return [first]
        other = self.draw_actor(rng, None)._replace(side="left" if rng.random() < 0.7 else "right")
        if rng.random() < 0.5:
            rotation = Rotation.from_rotvec(rng.normal(0, 0.35, 3)).as_matrix() @ first.rotations[0]
            other.rotations[0] = rotation
        if rng.random() < 0.7:  # one person's two hands
            other = other._replace(
                appearance=other.appearance._replace(skin=first.appearance.skin, sleeve=first.appearance.sleeve)
            )
        return [first, other]

    def _pair(self, rng: np.random.Generator, first: HandInstance) -> list[HandInstance]:
        """A right hand and the same person's left one: often its mirror image at a plane that both touch; otherwise
        mostly turned as the first, every second in its gesture."""
        other = self._other_hand(rng, first)
        if rng.random() < MIRRORED:
            if rng.random() < OFFERED:
                first = self._held_out(rng, first)
            return [first, mirror_image(rng, first, other)]
        rotations = other.rotations
        if rng.random() < 0.75:
            rotations[0] = Rotation.from_rotvec(rng.normal(0, 0.4, 3)).as_matrix() @ first.rotations[0]
        if rng.random() < 0.5:
            rotations[1:] = Rotation.from_rotvec(rng.normal(0, 0.12, (15, 3))).as_matrix() @ first.rotations[1:]
        return [first, other._replace(side="left", rotations=rotations, shape=first.shape)]

    def _bowl(self, rng: np.random.Generator, first: HandInstance) -> list[HandInstance]:
        """A right hand and the same person's left one, side by side as a bowl that is held out to the camera."""
        first = self._held_out(rng, first)
        return [first, mirror_image(rng, first, self._other_hand(rng, first), angle_deg=rng.normal(8, 12))]

    def _held_out(self, rng: np.random.Generator, first: HandInstance) -> HandInstance:
        """The hand as one half of a bowl that is held out to the camera."""
        held = np.concatenate([offered_view(rng)[None], self._poses.sample(rng, "bowl")])
        return first._replace(rotations=Rotation.from_matrix(held).as_matrix())

    def _other_hand(self, rng: np.random.Generator, first: HandInstance) -> HandInstance:
        """Another hand in any pose, of the skin and the clothes of the first."""
        other = self.draw_actor(rng, None)
        return other._replace(appearance=first.appearance._replace(seed=other.appearance.seed))

    def draw_actor(self, rng: np.random.Generator, hard_case: HardCase | None) -> HandInstance:
        """A hand in any pose, seen from anywhere, not placed yet."""
        fingers = config.sample_fingers(rng, self._poses, hard_case)
        rotations = np.concatenate([config.sample_view(rng, hard_case)[None], fingers])
        pose = Rotation.from_matrix(rotations).as_rotvec()  # what is labelled is what is drawn
        return HandInstance(
            rotations=Rotation.from_rotvec(pose).as_matrix(),
            shape=rng.normal(0, 1, 10).clip(-2.5, 2.5),
            translation=np.zeros(3),
            bend=np.eye(3),
            appearance=self._appearance(rng),
        )

    def _appearance(self, rng: np.random.Generator) -> Appearance:
        probabilities = self.probabilities
        sleeve = self._cloth(rng, 0.0) if rng.random() < probabilities.sleeve else None
        band = self._cloth(rng, float(rng.uniform(0, 0.8))) if rng.random() < probabilities.band else None
        watch = self._cloth(rng, float(rng.uniform(0.2, 0.8))) if band and rng.random() < 0.5 else None
        glove = self._cloth(rng, float(rng.uniform(0, 0.4))) if rng.random() < probabilities.glove else None
        return Appearance(draw_skin(rng, self.skins), sleeve, band, watch, glove, int(rng.integers(2**31)))

    def _cloth(self, rng: np.random.Generator, gloss: float) -> Material:
        return objects.coloured(rng, np.ascontiguousarray(self.backgrounds.draw(rng, 48)), gloss)

    def _sample(
        self, index: int, rng: np.random.Generator, scene: Scene, size: int, simulate_sensor: SimulateSensor
    ) -> Sample:
        cut_off = rng.random() < scene.probabilities.cut_off
        touching = scene.probabilities.touching
        posed, camera = self._before_camera(rng, scene.posed, size, (0.45, 0.6), touching, cut_off)
        if scene.hard_case == BOWL:
            camera = framed(rng, camera, np.concatenate([_joints_px(*one, camera) for one in posed]))
        hand_instance, hand = posed[0]
        image = self._render_scene(rng, posed, camera, scene.probabilities)
        return Sample(
            image=simulate_sensor(image.rgba, rng),
            mask=np.where(image.hand > 127, np.uint8(255), np.uint8(0)),
            pose=Rotation.from_matrix(hand_instance.rotations).as_rotvec(),
            shape=hand_instance.shape,
            vertices_m=hand.vertices,
            joints_m=hand.joints,
            joints_px=project(hand.joints, camera).astype(np.float32),
            translation_m=hand_instance.translation,
            camera=camera,
            seed=index,
            hard_case=scene.hard_case,
            others_px={one.side: _joints_px(one, hand, camera) for one, hand in posed[1:]},
        )

    def _render_scene(
        self,
        rng: np.random.Generator,
        posed: list[tuple[HandInstance, PosedHand]],
        camera: Camera,
        probabilities: SceneProbabilities,
    ) -> RenderedScene:
        hand_instance, hand = posed[0]
        extras = self._things(rng, hand, probabilities)
        extras += self._owner(rng, hand, hand_instance.appearance, probabilities)
        return self.stage.render_scene(posed, camera, draw_light(rng, self.environments), extras)

    def _things(self, rng: np.random.Generator, hand: PosedHand, probabilities: SceneProbabilities) -> list[Part]:
        """What the hand holds and what comes before it."""
        things, materials = [], self.sources.materials
        if rng.random() < probabilities.held:
            held = objects.draw_held(rng, hand, materials)
            things.append(Part(held, self._cloth(rng, float(rng.uniform(0, 0.6)))))
        if rng.random() < probabilities.occluder:
            occluder = objects.draw_occluder(rng, hand, materials)
            things.append(Part(occluder, self._cloth(rng, float(rng.uniform(0, 0.6)))))
        return things

    def _owner(
        self, rng: np.random.Generator, hand: PosedHand, appearance: Appearance, probabilities: SceneProbabilities
    ) -> list[Part]:
        """The body and the face of whose hand it is, behind it."""
        parts = []
        if rng.random() < probabilities.torso:
            parts.append(Part(scene.draw_torso(rng, hand), appearance.sleeve or self._cloth(rng, 0.0)))
        if rng.random() < probabilities.head:
            face = scene.face_appearance(rng, appearance.skin)
            parts.append(Part(scene.draw_head(rng, hand), skin_material(face, 1000.0)))
        return parts


def _joints_px(instance: HandInstance, hand: PosedHand, camera: Camera) -> np.ndarray:
    """(21, 2) where a placed hand's joints are seen."""
    joints_m = mirror_points_m(hand.joints) if instance.side == "left" else hand.joints
    return project(joints_m, camera).astype(np.float32)


def _load_skins(sources: Sources, arm: Arm) -> list[Skin]:
    """Painted skins and the given ones, these repeated so that both are used about equally often."""
    painted = painted_skins(arm, sources.painted_skins, PAINTED_SIZE, sources.materials)
    given = [] if sources.skins is None else load_skins(sources.skins, arm, sources.materials)
    if not painted and not given:
        raise ValueError(f"{sources.skins} holds no skin of --materials {sources.materials}: paint at least one")
    return painted + given * max(1, sources.painted_skins // max(1, len(given)))
