"""One box in one image to one hand: crop, network, the hand in the camera's frame, and calibrated probabilities."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from handmesh import skeleton
from handmesh.assets import ModelFileError
from handmesh.crop import crop_affine, image_px_from_normalised, view_rotation, warp
from handmesh.detection import THRESHOLD, Detection
from handmesh.geometry import (
    logistic,
    logit,
    mirror_faces,
    mirror_points_m,
    mirror_rotations,
    project,
    solve_translation,
    unproject,
)
from handmesh.hand.lbs import SkinnedHand
from handmesh.machine import PerProcess, compiled
from handmesh.tracking.alignment import ALIGN, LEAST_UNCERTAINTY, Alignment
from handmesh.tracking.backends import Session
from handmesh.types import OTHER_SIDE, Box, Camera, Hand, Side

# Times the stages of a tracker's call.


STAGES = ("detect", "crop", "network", "lift", "smooth", "total")


class Stopwatch:
    """Milliseconds by stage; stages that run several times add up, also where two hands go through them at once."""

    def __init__(self) -> None:
        self._adding = PerProcess(threading.Lock)  # a fork may find it taken
        self.restart()

    def restart(self) -> None:
        """Every stage back to zero."""
        self.ms = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`, one of `STAGES`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - start) * 1e3)

    def add(self, name: str, ms: float) -> None:
        """Add what was spent elsewhere."""
        with self._adding.get():
            self.ms[name] += ms


# From what the networks say of a position in an image to the probability that a hand is there. NumPy only.


@dataclass(frozen=True)
class Logistic:
    """A probability from several: the logistic function of their weighted logits (Platt scaling, 1999, of several
    scores).

    >>> round(float(Logistic(0.0, {"presence": 1.0})(presence=0.8, handedness_probability=0.3)), 6)
    0.8
    """

    bias: float
    weights: Mapping[str, float]  # by the name of the probability that it is for

    def __call__(self, **probabilities: ArrayLike) -> np.ndarray:
        """The probability from those that `weights` names, all of one shape, 0..1; further ones are not looked at."""
        total = self.bias + sum(weight * logit(probabilities[name]) for name, weight in self.weights.items())
        return logistic(total)

    def as_plain(self) -> dict[str, float]:
        """The bias and the weights by name."""
        return {"bias": self.bias} | {_WRITTEN.get(name, name): weight for name, weight in self.weights.items()}


_WRITTEN = {"handedness_probability": "agreement"}
"""Probabilities that exported files call otherwise."""

_BARE = {"bias": 0.0, "presence": 1.0}


@dataclass(frozen=True)
class Confidence:
    """How sure a tracker is of a hand, when it has just found it and while it follows it."""

    found: Logistic  # of the probabilities `detector`, `presence` and `handedness_probability`
    followed: Logistic  # of `presence` and `handedness_probability`
    proposed: float = THRESHOLD  # the detector's score from which a candidate is looked at

    @staticmethod
    def of(metadata: Mapping[str, object]) -> Confidence:
        """What an exported mesh network's metadata says under `confidence`; its bare presence where it says nothing."""
        written = metadata.get("confidence") or {"proposed": THRESHOLD, "found": _BARE, "followed": _BARE}
        return Confidence(_read(written["found"]), _read(written["followed"]), float(written["proposed"]))

    def as_metadata(self) -> dict[str, object]:
        """What `of` reads."""
        return {"proposed": self.proposed, "found": self.found.as_plain(), "followed": self.followed.as_plain()}


def _read(written: Mapping[str, float]) -> Logistic:
    names = {short: name for name, short in _WRITTEN.items()}
    weights = {names.get(name, name): float(value) for name, value in written.items() if name != "bias"}
    return Logistic(float(written["bias"]), weights)


# From what the network says of a crop to a hand in the camera's frame. NumPy only.


SMALLEST_M = 0.01
"""No hand's joints lie closer together than this, along the axis that tells them best apart."""

_LARGEST = {
    "joints_m": 1.0,
    "joints_crop": 8.0,
    "rotations": 1.01,
    "shape": 100.0,
    "presence": 1e6,
    "right": 1e6,
    "spread": 10.0,
    "contact": 1e6,
}
"""Beyond these the numbers describe no hand: one metre from the root, several crops away. Files may lack `contact`."""


class Crop(NamedTuple):
    """How a crop was taken: the square of the image, whose hand it shows, and its side in crop pixels."""

    box: Box
    side: Side
    size: int

    @property
    def mirrored(self) -> bool:
        """Whether the crop shows its hand mirrored, which makes a left hand a right one."""
        return self.side == "left"

    @property
    def affine(self) -> np.ndarray:
        """(2, 3) from image pixels to crop pixels."""
        return crop_affine(self.box, self.size, self.mirrored)


def to_camera_frame(
    outputs: Mapping[str, np.ndarray], crop: Crop, camera: Camera, faces: np.ndarray,
    alignment: Alignment | None = None, mesh: bool = True,
) -> Hand | None:  # fmt: skip
    """The hand that the network saw in `crop`, in the camera's frame; None where its numbers are no hand.

    outputs: the exported mesh network's (see `backends.MESH_OUTPUTS`), batch of one. faces: (F, 3),
    outward for the crop's side. alignment: of the network's own hand, which is then bent towards the joints found in
    the crop. mesh: bend the vertices, too; without, they stay the network's, for who poses them anew. The position in
    space is the one from which the joints look as in the image; `joints_px` is their projection from there, so that
    mesh, joints and image agree.
    """
    if not is_plausible(outputs):
        return None
    to_camera, found_px = view_rotation(camera, crop.box), image_joints_px(outputs, crop)
    weights, contact = 1.0 / np.sqrt(_found_uncertainty(outputs)), _contact(outputs)
    if alignment is not None:
        rays = _rays(found_px, camera) @ to_camera
        outputs = {**outputs, **_bent(outputs, crop, rays, camera, alignment, mesh, contact)}
    vertices, joints, rotations = _in_camera_axes(outputs, crop, to_camera)
    root = solve_translation(joints, found_px, camera, weights)
    joints_m = joints + root
    return Hand(
        vertices_m=vertices + root.astype(np.float32),
        joints_m=joints_m.astype(np.float32),
        joints_px=project(joints_m, camera).astype(np.float32),
        side=crop.side,
        score=probability(outputs["presence"]),
        pose=rotations.astype(np.float32),
        shape=outputs["shape"][0].astype(np.float32),
        faces=faces,
        contact=contact,
        **_uncertainties(outputs, crop),
    )


def _rays(points_px: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) what lies at (N, 2) pixels one metre ahead, in the camera's axes."""
    return unproject(points_px, np.ones(len(points_px)), camera)


def _contact(outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """(4,) float32 probabilities that the thumb touches each finger; None where the network does not tell."""
    return logistic(outputs["contact"][0].astype(np.float64)).astype(np.float32) if "contact" in outputs else None


def _found_uncertainty(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(21,) the errors to expect of the joints found in the crop, in half crop sides, none of them too small."""
    return outputs["spread"][0, :, 0].astype(np.float64).clip(LEAST_UNCERTAINTY)


def _bent(
    outputs: Mapping[str, np.ndarray], crop: Crop, rays: np.ndarray, camera: Camera, alignment: Alignment, mesh: bool,
    contact: np.ndarray | None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The outputs that change where the hand is bent towards the joints found, at (21, 3) rays in the crop's view, and
    its thumb to the fingers that it touches, by (4,) probabilities.

    The network's hand is a right one in the crop's own view: there, a left hand is met as its mirror image.
    """
    if rays[:, 2].min() < _LEAST_AHEAD * np.abs(rays).max():
        return {}  # the view of a crop so oblique, or joints so far from it, has them beside it or behind
    found = rays[:, :2] / rays[:, 2:] * ((-1, 1) if crop.mirrored else (1, 1))
    uncertainty = _found_uncertainty(outputs)
    root = solve_translation(outputs["joints_m"][0].astype(np.float64), found, _VIEW, 1.0 / np.sqrt(uncertainty))
    rest = alignment.hand.rest(outputs["shape"][0])
    uncertainty_seen = uncertainty * (crop.box.size_px / (camera.fx + camera.fy))
    rotations = alignment.bent(outputs["rotations"][0], rest, found, uncertainty_seen, root, contact)
    if mesh:
        vertices, joints = alignment.hand.posed(rotations, rest)
        bent = {"vertices_m": (vertices - joints[skeleton.ROOT])[None]}
    else:
        joints, bent = alignment.hand.posed_joints(rotations, rest), {}
    return bent | {"rotations": rotations[None], "joints_m": (joints - joints[skeleton.ROOT])[None]}


_VIEW = Camera(1.0, 1.0, 0.0, 0.0, 1, 1)
"""The crop's own view as a camera, whose pixels are x / z and y / z."""

_LEAST_AHEAD = 0.1


def _uncertainties(outputs: Mapping[str, np.ndarray], crop: Crop) -> dict[str, np.ndarray]:
    """The errors that the network expects of the joints, in pixels of the image and in metres."""
    in_crop, in_space = outputs["spread"][0].astype(np.float32).T
    return {"joints_uncertainty_px": in_crop * (crop.box.size_px / 2), "joints_uncertainty_m": in_space / 10}


def probability(logit: np.ndarray) -> float:
    """The probability of a single logit."""
    return float(logistic(float(np.squeeze(logit))))


def is_plausible(outputs: Mapping[str, np.ndarray]) -> bool:
    """Whether all numbers are finite, of a hand's size, and the rotations rotate."""
    told = [name for name in _LARGEST if name in outputs]
    values = np.concatenate([outputs[name].ravel() for name in told])
    vertices = outputs["vertices_m"]
    if not abs(float(vertices.sum())) <= vertices.size:  # they follow from the rest: a look at all would only take long
        return False
    if not (np.abs(values) <= _limits(tuple((name, outputs[name].size) for name in told))).all():  # false for NaN too
        return False
    return bool(np.ptp(outputs["joints_m"][0], axis=0).max() >= SMALLEST_M) and _are_rotations(outputs["rotations"][0])


@compiled()
def _are_rotations(matrices):
    """Whether the first two rows of each are orthonormal and the third is their cross product."""
    most = 0.0
    for k in range(len(matrices)):
        one, two, three = matrices[k]
        square, other, across = -1.0, -1.0, 0.0
        for i in range(3):
            j, m = (i + 1) % 3, (i + 2) % 3
            square += one[i] * one[i]
            other += two[i] * two[i]
            across += one[i] * two[i]
            most = max(most, abs(one[j] * two[m] - one[m] * two[j] - three[i]))
        most = max(most, abs(square), abs(other), abs(across))
    return most < 1e-2


@cache
def _limits(sizes: tuple[tuple[str, int], ...]) -> np.ndarray:
    """The limits of these outputs in `_LARGEST`, each as often as it has values."""
    return np.concatenate([np.full(size, _LARGEST[name], np.float32) for name, size in sizes])


def image_joints_px(outputs: Mapping[str, np.ndarray], crop: Crop) -> np.ndarray:
    """(21, 2) the joints that the network saw in the crop, in pixels of the image."""
    return image_px_from_normalised(outputs["joints_crop"][0].astype(np.float64), crop.box, crop.mirrored)


def _in_camera_axes(
    outputs: Mapping[str, np.ndarray], crop: Crop, to_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, joints (still relative to the root) and rotations, un-mirrored, in the camera's axes."""
    names = ("vertices_m", "joints_m", "rotations")
    vertices, joints, rotations = (outputs[name][0] for name in names)
    if crop.mirrored:
        vertices, joints, rotations = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(rotations)
    rotations = rotations.astype(np.float64)
    rotations[0] = to_camera @ rotations[0]
    return vertices @ to_camera.T.astype(np.float32), joints @ to_camera.T, rotations


# One box in one image to one hand: crop, network, lifting, and the question which side it is.


SURE_HANDEDNESS, SURE_SIDE = 0.95, 0.8
"""Below this handedness probability of the mesh network, or this surety of the detector, the other side of a newly
found hand is tried as well: where palm and back look alike the detector is often wrong, and the network agrees too
easily."""

DETECTOR_SIDE_WEIGHT, EXPECTED_ERROR_WEIGHT = 0.75, 5.0
"""Of the logarithms of the detector's odds for a side and of the errors that the mesh network expects of its joints,
against that of the mesh network's odds: on strangers' hands a wrong side is betrayed by joints that fit less well."""

DOUBTED_LEAD, TURNED_RAD = 4.0, 0.2
"""With less lead than this, both sides are looked at again in boxes turned by so much either way: four looks more at
one in ten newly found hands."""

OPPOSITE_SIDES = 6.0
"""How much speaks for opposite sides where two hands are in view, on the scale of `Estimate.lead`: 860 of 882 labelled
pairs are opposite. Hands with so much lead are of their side in 19 of 20 cases, so two sure right hands stay right."""

COMPANION = 0.8
"""What a sure hand in an image adds to the logarithm of the odds of another one of the other side and like size.

Of 11 that it brings in on 300 rendered pairs, 8 are hands by eye; on held-out photographs it brings in none.
"""

COMPANION_SIZES = 2.0
"""The ratio of two hands' boxes up to which they are of like size, as nearly all labelled pairs are."""

HOPELESS = 0.02
"""Below this presence a second look is not worth its time: nothing like a hand is near."""


def _hand_of(constants: Mapping[str, np.ndarray]) -> SkinnedHand:
    """The parametric hand that stands in the network's file."""
    fields = {name.removeprefix("hand_"): value for name, value in constants.items()}
    return SkinnedHand(**fields)


class Estimate(NamedTuple):
    """What the mesh network makes of a box."""

    hand: Hand  # its score is the probability of a hand that is followed
    box: Box  # turned and tight around the joints that the network saw in the image
    presence: float  # 0..1, what the network says of a hand in the crop
    handedness_probability: float  # 0..1, that the hand is of the side it was taken for
    other: Estimate | None = None  # what it makes of the box as one of the other side, where that was tried
    lead: float = math.inf  # how much more speaks for this side than for that, as a logarithm of odds
    expected_error: float = 1.0  # of the joints found in the crop, their mean, in half crop sides

    @property
    def confidence(self) -> float:
        """0..1, that there is a hand and that it is of this side."""
        return self.presence * self.handedness_probability

    def accompanied(self) -> Estimate:
        """The same with the score of one beside a sure hand of the other side."""
        return self.scored(logistic(logit(self.hand.score) + COMPANION))

    def scored(self, score: float) -> Estimate:
        """The same with another score."""
        return self._replace(hand=replace(self.hand, score=float(score)))


@dataclass(eq=False)
class Estimator:
    """The mesh network with what belongs before and after it. Holds no state between calls."""

    session: Session
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        height, width = self.session.input_size
        if height != width:
            raise ModelFileError(f"the mesh network takes {height}x{width} crops; expected a square")
        self._box_scale = float(self.session.metadata["box_scale"])
        self.confidence = Confidence.of(self.session.metadata)
        self.hand = _hand_of(self.session.constants)
        self._alignment = Alignment(self.hand) if ALIGN else None
        self._faces: dict[Side, np.ndarray] = {"right": self.hand.faces, "left": mirror_faces(self.hand.faces)}

    def estimate(self, image: np.ndarray, camera: Camera, box: Box, side: Side, mesh: bool = True) -> Estimate | None:
        """The hand of `side` in `box` (tight around its joints); None where the numbers are no hand.

        image: (H, W, 3) uint8 RGB, the image of `camera`. mesh: as for `to_camera_frame`.
        """
        crop = Crop(box.scaled(self._box_scale), side, self.session.input_size[0])
        with self.stopwatch.stage("crop"):
            pixels = warp(image, crop.affine, crop.size)
        with self.stopwatch.stage("network"):
            outputs = self.session.run(pixels[None])
        with self.stopwatch.stage("lift"):
            hand = to_camera_frame(outputs, crop, camera, self._faces[side], self._alignment, mesh)
            if hand is None:
                return None
            box = Box.around(image_joints_px(outputs, crop))
            expected_error = float(_found_uncertainty(outputs).mean())
        estimate = Estimate(hand, box, hand.score, probability(outputs["right"]), expected_error=expected_error)
        return estimate.scored(
            self.confidence.followed(presence=estimate.presence, handedness_probability=estimate.handedness_probability)
        )

    def estimate_afresh(
        self, image: np.ndarray, camera: Camera, detection: Detection, passes: int = 2, both: bool = False
    ) -> Estimate | None:
        """The hand in a box whose position and side are only roughly known, as a detector gives them.

        image: (H, W, 3) uint8 RGB. Each further pass looks again at a box around the joints of the pass before. Where
        detector or network may be wrong about the side, or for `both` in any case, the other one is followed as far,
        and what the network says of the side in all of these passes is weighed with what the detector says; where that
        leaves doubt, with what it says in turned boxes, too.
        """
        first = self.estimate(image, camera, detection.box, detection.side)
        if first is None or first.presence < HOPELESS:
            return first
        given = self._looked_again(image, camera, first, passes)
        if not both and first.handedness_probability >= SURE_HANDEDNESS and detection.side_score >= SURE_SIDE:
            return given[-1]
        first = self.estimate(image, camera, detection.box, OTHER_SIDE[detection.side])
        other = self._looked_again(image, camera, first, passes)
        lead = _lead(given, other, detection.side_score)
        if abs(lead) < DOUBTED_LEAD:
            turned = [self._looked_turned(image, camera, looks[-1]) + looks for looks in (given, other)]
            lead = _lead(*turned, detection.side_score)
        chosen, rival = (other[-1], given[-1]) if lead < 0 else (given[-1], other[-1])
        return None if chosen is None else chosen._replace(other=rival, lead=abs(lead))

    def _looked_again(
        self, image: np.ndarray, camera: Camera, first: Estimate | None, passes: int
    ) -> list[Estimate | None]:
        """The estimates of all passes; the last one is None where the hand was lost on the way."""
        estimates = [first]
        while (last := estimates[-1]) and len(estimates) < passes and is_usable(last.box, image):
            estimates.append(self.estimate(image, camera, last.box, last.hand.side))
        return estimates

    def _looked_turned(self, image: np.ndarray, camera: Camera, estimate: Estimate) -> list[Estimate]:
        """What is seen in the estimate's own box turned to either side, where that is a hand."""
        box, side = estimate.box, estimate.hand.side
        if not is_usable(box, image):
            return []
        turned = [replace(box, angle_rad=box.angle_rad + turn) for turn in (-TURNED_RAD, TURNED_RAD)]
        looks = [self.estimate(image, camera, each, side, mesh=False) for each in turned]
        return [look for look in looks if look is not None]

    def found(
        self, image: np.ndarray, camera: Camera, detection: Detection, passes: int = 2, both: bool = False
    ) -> Estimate | None:
        """The hand where a detector saw one, see `estimate_afresh`; its score weighs both networks' opinions."""
        estimate = self.estimate_afresh(image, camera, detection, passes, both)
        if estimate is None:
            return None
        other = None if estimate.other is None else self._found_scored(estimate.other, detection)
        return self._found_scored(estimate, detection)._replace(other=other)

    def _found_scored(self, estimate: Estimate, detection: Detection) -> Estimate:
        probabilities = {"presence": estimate.presence, "handedness_probability": estimate.handedness_probability}
        return estimate.scored(self.confidence.found(detector=detection.score, **probabilities))

    def both_sides(self, image: np.ndarray, camera: Camera, box: Box, estimate: Estimate) -> Estimate:
        """`estimate`, which was made of this box of an (H, W, 3) image, with the other side tried as well."""
        other = self.estimate(image, camera, box, OTHER_SIDE[estimate.hand.side])
        return estimate._replace(other=other, lead=_side_support([estimate]) - _side_support([other]))


def _lead(given: Sequence[Estimate | None], other: Sequence[Estimate | None], side_score: float) -> float:
    """How much more speaks for the side that a detector gives, with this score, than for the other; see `Estimate`."""
    return _side_support(given) + DETECTOR_SIDE_WEIGHT * float(logit(side_score)) - _side_support(other)


def _side_support(estimates: Sequence[Estimate | None]) -> float:
    """How much speaks for the side of these passes: the mean logarithm of the odds, more where smaller errors are
    expected; least where the hand is lost."""
    if estimates[-1] is None:
        return -math.inf
    support = [
        float(logit(each.handedness_probability)) - EXPECTED_ERROR_WEIGHT * math.log(each.expected_error)
        for each in estimates
    ]
    return sum(support) / len(support)


def is_usable(box: Box, image: np.ndarray) -> bool:
    """Whether a crop there can show a hand: its centre in the image, its size neither a dot nor far beyond it."""
    height, width = image.shape[:2]
    x, y = box.centre_px
    margin = 0.25 * box.size_px
    inside = -margin <= x <= width + margin and -margin <= y <= height + margin
    return inside and 8.0 <= box.size_px <= 3.0 * max(height, width)
