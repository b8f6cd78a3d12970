"""One box in one picture to one hand: crop, network, lifting, and the question which side it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from handmesh.crop import mirror_faces, warp
from handmesh.detection import Detection
from handmesh.runtime.alignment import ALIGN, Alignment
from handmesh.runtime.backend import ModelFileError, Session
from handmesh.runtime.confidence import Confidence
from handmesh.runtime.lifting import Crop, lift, picture_joints_px, probability
from handmesh.runtime.stopwatch import Stopwatch
from handmesh.skinning import SkinnedHand
from handmesh.structs import Box, Camera, Hand, Side

SURE_AGREEMENT, SURE_SIDE = 0.95, 0.8
"""Below this agreement of the mesh network, or this surety of the detector, the other side of a newly found hand is
tried as well: where palm and back look alike the detector is often wrong, and the network agrees too easily."""

HOPELESS = 0.02
"""Below this presence a second look is not worth its time: nothing like a hand is near."""


def _hand_of(constants: Mapping[str, np.ndarray]) -> SkinnedHand:
    """The parametric hand that stands in the network's file."""
    fields = {name.removeprefix("hand_"): value for name, value in constants.items()}
    return SkinnedHand(**fields)


class Estimate(NamedTuple):
    """What the mesh network makes of a box."""

    hand: Hand  # its score is the chance of a hand that is followed
    box: Box  # turned and tight around the joints that the network saw in the picture
    presence: float  # 0..1, what the network says of a hand in the crop
    agreement: float  # 0..1, that the hand is of the side it was taken for

    @property
    def trust(self) -> float:
        """0..1, that there is a hand and that it is of this side."""
        return self.presence * self.agreement

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
        self.hand.rest(np.zeros(self.hand.shapedirs.shape[2]))  # what it computes once, it computes now
        self._alignment = Alignment(self.hand) if ALIGN else None
        self._faces: dict[Side, np.ndarray] = {"right": self.hand.faces, "left": mirror_faces(self.hand.faces)}

    def estimate(self, image: np.ndarray, camera: Camera, box: Box, side: Side, mesh: bool = True) -> Estimate | None:
        """The hand of `side` in `box` (tight around its joints); None where the numbers are no hand.

        image: (H, W, 3) uint8 RGB, the picture of `camera`. mesh: as for `lift`.
        """
        crop = Crop(box.scaled(self._box_scale), side, self.session.input_size[0])
        with self.stopwatch.stage("crop"):
            pixels = warp(image, crop.affine, crop.size)
        with self.stopwatch.stage("network"):
            outputs = self.session.run(pixels[None])
        with self.stopwatch.stage("lift"):
            hand = lift(outputs, crop, camera, self._faces[side], self._alignment, mesh)
            if hand is None:
                return None
            box = Box.around(picture_joints_px(outputs, crop))
        estimate = Estimate(hand, box, hand.score, probability(outputs["right"]))
        return estimate.scored(self.confidence.followed(presence=estimate.presence, agreement=estimate.agreement))

    def estimate_afresh(
        self, image: np.ndarray, camera: Camera, detection: Detection, passes: int = 2
    ) -> Estimate | None:
        """The hand in a box whose place and side are only roughly known, as a detector gives them.

        Where detector or network may be wrong about the side, the other one is tried as well and both decide.
        Each further pass looks again at a box around the joints of the pass before.
        """
        estimate = self.estimate(image, camera, detection.box, detection.side)
        if estimate is None or estimate.presence < HOPELESS:
            return estimate
        if estimate.agreement < SURE_AGREEMENT or detection.side_score < SURE_SIDE:
            estimate = self.better_side(image, camera, detection.box, estimate, detection.side_score)
        for _ in range(passes - 1):
            if estimate is None or not is_usable(estimate.box, image):
                break
            estimate = self.estimate(image, camera, estimate.box, estimate.hand.side)
        return estimate

    def found(self, image: np.ndarray, camera: Camera, detection: Detection, passes: int = 2) -> Estimate | None:
        """The hand where a detector saw one; its score weighs both networks' opinions."""
        estimate = self.estimate_afresh(image, camera, detection, passes)
        if estimate is None:
            return None
        chances = {"presence": estimate.presence, "agreement": estimate.agreement}
        return estimate.scored(self.confidence.found(detector=detection.score, **chances))

    def better_side(
        self, image: np.ndarray, camera: Camera, box: Box, estimate: Estimate, side_score: float = 0.5
    ) -> Estimate:
        """`estimate`, or that of the other side in the same box where that one is likelier.

        side_score: 0..1, what somebody else gives for the side of `estimate`.
        """
        other = self.estimate(image, camera, box, "left" if estimate.hand.side == "right" else "right")
        if other is not None and other.trust * (1 - side_score) > estimate.trust * side_score:
            return other
        return estimate


def is_usable(box: Box, image: np.ndarray) -> bool:
    """Whether a crop there can show a hand: its centre in the picture, its size neither a dot nor far beyond it."""
    height, width = image.shape[:2]
    x, y = box.centre_px
    margin = 0.25 * box.size_px
    inside = -margin <= x <= width + margin and -margin <= y <= height + margin
    return inside and 8.0 <= box.size_px <= 3.0 * max(height, width)
