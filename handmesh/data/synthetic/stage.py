"""Hands put before a camera with everything given: pose, shape, place, skin, clothes, light.

The generator draws all of that at random; a clip with a story gives it frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.data.synthetic import objects
from handmesh.data.synthetic.arm import Arm, PosedHand
from handmesh.data.synthetic.lighting import Light
from handmesh.data.synthetic.render import Part, Picture, render
from handmesh.data.synthetic.skin import Material, SkinLook, SkinRegions, skin_material, skin_tint
from handmesh.structs import Camera, Side

OCCLUSION_DIRECTIONS = 16


class Outfit(NamedTuple):
    """What one hand looks like and wears; the same from frame to frame."""

    skin: SkinLook
    sleeve: Material | None = None
    band: Material | None = None
    watch: Material | None = None
    glove: Material | None = None
    seed: int = 0  # of the cut of sleeve and band


class Actor(NamedTuple):
    """One hand to be drawn. A left hand is given as the right hand that is its mirror image."""

    rotations: np.ndarray  # (16, 3, 3) relative to the parent; the first to the camera's axes
    shape: np.ndarray  # (10,)
    translation: np.ndarray  # (3,) metres, added to the hand model's output
    bend: np.ndarray  # (3, 3) rotation of the forearm about the wrist, canonical axes; eye(3) is straight
    outfit: Outfit
    side: Side = "right"  # a left hand is mirrored at x = 0 of the camera after it was placed


class Stage:
    """A hand model's arm with what depends on it alone."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self._regions = SkinRegions.of(arm)

    def pose(self, actors: Sequence[Actor]) -> list[PosedHand]:
        """Pose, skin and place all actors in one pass of the hand model, each still a right hand."""
        rotations = np.stack([actor.rotations for actor in actors])
        vertices, joints = self.arm.skin(rotations, np.stack([actor.shape for actor in actors]))
        return [self._place(*triple) for triple in zip(actors, vertices, joints, strict=True)]

    def _place(self, actor: Actor, vertices: np.ndarray, joints: np.ndarray) -> PosedHand:
        turn = actor.rotations[0]
        shift = np.asarray(actor.translation, np.float32)
        return self.arm.pose(vertices + shift, joints + shift, turn @ actor.bend @ turn.T)

    def parts(self, actor: Actor, hand: PosedHand, pixels_per_metre: float = 1000.0) -> list[Part]:
        """The hand with its forearm, and what it wears. The texture suits `pixels_per_metre`."""
        outfit, rng = actor.outfit, np.random.default_rng(actor.outfit.seed)
        parts = self._skin_parts(outfit, hand, pixels_per_metre)
        if outfit.sleeve is not None:
            parts.append(Part(objects.draw_sleeve(rng, hand), outfit.sleeve))
        if outfit.band is not None:
            parts.append(Part(objects.draw_band(rng, hand), outfit.band))
        if outfit.watch is not None:
            parts.append(Part(objects.draw_watch(rng, hand), outfit.watch))
        if actor.side == "left":
            parts = [part._replace(surface=part.surface.mirrored()) for part in parts]
        return parts

    def _skin_parts(self, outfit: Outfit, hand: PosedHand, pixels_per_metre: float) -> list[Part]:
        """Hand and forearm in one, or a glove on the hand model's own faces and the skin beyond it."""
        material, tint = skin_material(outfit.skin, pixels_per_metre), skin_tint(outfit.skin, self._regions)
        if outfit.glove is None:
            return [Part(hand.surface, material, tint)]
        n = self.arm.hand_faces
        glove, bare = (
            hand.surface._replace(faces=hand.surface.faces[span], uv_faces=hand.surface.uv_faces[span])
            for span in (slice(n), slice(n, None))
        )
        return [Part(glove, outfit.glove), Part(bare, material, tint)]

    def render(
        self, actors: Sequence[Actor], camera: Camera, light: Light, extras: Sequence[Part] = (), supersample: int = 2
    ) -> Picture:
        """RGBA of all actors and `extras`; the mask is the first actor's."""
        hands = self.pose(actors)
        return self.shoot(list(zip(actors, hands, strict=True)), camera, light, extras, supersample)

    def shoot(
        self,
        posed: Sequence[tuple[Actor, PosedHand]],
        camera: Camera,
        light: Light,
        extras: Sequence[Part] = (),
        supersample: int = 2,
    ) -> Picture:
        """As `render`, for actors that are posed already."""
        parts: list[Part] = []
        for actor, hand in posed:
            density = supersample * camera.fx / max(float(hand.wrist[2]), 0.05)
            parts += self.parts(actor, hand, density)
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
