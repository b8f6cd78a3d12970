"""What labelled samples are like, and mistakes in them that a training would learn from without a word.

Samples of any source are looked at together: what is wrong in most of them is a convention, not noise. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from handmesh import skeleton
from handmesh.data.samples import HandSample
from handmesh.geometry import project, solve_translation
from handmesh.types import Box

# Statistics: one number or a few for each source.


class Statistics(NamedTuple):
    """Medians over a source's samples; None where its labels do not say."""

    finger_mm: tuple[float, ...] | None  # from the knuckle to the tip along the bones: thumb to little finger
    hand_mm: float | None  # from the wrist to the middle fingertip along the bones
    reprojection_px: float | None  # from joints_m seen by the camera to joints_px, mean over the joints
    right: float | None  # fraction of the hands


def statistics(samples: Sequence[HandSample]) -> Statistics:
    """Of the samples that show a hand. Sizes are of exact labels alone: weak ones are up to scale."""
    hands = _whole(samples)
    measured = [sample.joints_m for sample in hands if sample.joints_m is not None and not sample.weak_3d]
    return Statistics(
        tuple(1000 * np.median([_finger_lengths_m(joints) for joints in measured], axis=0)) if measured else None,
        1000 * float(np.median([_hand_length_m(joints) for joints in measured])) if measured else None,
        _median(_reprojection_px(sample) for sample in hands if sample.camera and sample.joints_m is not None),
        _mean(sample.side == "right" for sample in hands if sample.side_known),
    )


def _whole(samples: Sequence[HandSample]) -> list[HandSample]:
    """Those that show a hand all of whose joints are labelled in the image."""
    hands = [sample for sample in samples if sample.joints_px is not None and np.isfinite(sample.joints_px).all()]
    return [sample if _is_finite(sample.joints_m) else sample._replace(joints_m=None) for sample in hands]


def _is_finite(points: np.ndarray | None) -> bool:
    return points is not None and bool(np.isfinite(points).all())


_CHAINS = [[skeleton.KEYPOINTS.index(f"{finger}{k}") for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS]


def _finger_lengths_m(joints_m: np.ndarray) -> np.ndarray:
    """(5,) from the first joint of each finger to its tip along the bones."""
    return np.array([_length(joints_m[chain]) for chain in _CHAINS])


def _hand_length_m(joints_m: np.ndarray) -> float:
    return _length(joints_m[list(skeleton.MIDDLE_CHAIN)])


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _reprojection_px(sample: HandSample, flip: tuple[int, int] = (1, 1)) -> float:
    """Mean distance of the labelled joints from those in space, drawn by the camera after a flip of its axes x and y.

    Joints that are not placed before the camera are placed where they fit best.
    """
    joints = sample.joints_m.astype(np.float64) * (*flip, 1)
    if joints[:, 2].min() < _LEAST_DEPTH_M:
        joints = joints - joints[skeleton.ROOT]
        joints = joints + solve_translation(joints, sample.joints_px, sample.camera)
    return float(np.linalg.norm(project(joints, sample.camera) - sample.joints_px, axis=1).mean())


_LEAST_DEPTH_M = 0.02


# Mistakes, each with what speaks for it and what to do.


class Mistake(NamedTuple):
    """Something that is wrong with most of a source's samples."""

    what: str  # of `KINDS`
    found: str
    remedy: str


UNITS, CAMERA, SIDES, BOXES = "wrong units", "mirrored camera", "swapped left and right", "shifted boxes"
KINDS = (UNITS, CAMERA, SIDES, BOXES)

HAND_M = (0.10, 0.30)
"""Lengths from wrist to middle fingertip between which the median over a source is believed."""

LEAST_AGREEING = 0.5
"""Fraction of the hands whose shape in space is of their side, below which the sides are taken for swapped."""

MOST_OFF, MOST_SYSTEMATIC = 0.5, 0.2
"""Of the side of the joints' tight box: how far boxes may lie from it, one by one and in the mean."""

MOST_REPROJECTION = 0.15
"""Of the same side: above this mean error joints in space and in the image do not belong together."""

LEAST_ON_HAND, LEAST_GAIN = 0.9, 0.1
"""Fraction of joints on the hand's mask below which they are looked for elsewhere, and what must be gained there."""


def mistakes(samples: Sequence[HandSample]) -> list[Mistake]:
    """What is wrong with the samples of one source; empty where nothing is."""
    hands = _whole(samples)
    if not hands:
        return []
    mirrored = _mirrored_camera(hands)
    checks: list[Callable[[list[HandSample]], Mistake | None]] = [_units, _shifted_boxes]
    checks += [_off_the_hand] if not mirrored else []
    checks += [_swapped_sides] if not mirrored else []  # a mirror makes a left hand of a right one
    return [found for found in (mirrored, *(check(hands) for check in checks)) if found]


def _units(hands: list[HandSample]) -> Mistake | None:
    """Metres that are millimetres or something else, in joints or vertices."""
    lengths = [_hand_length_m(s.joints_m) for s in hands if s.joints_m is not None and not s.weak_3d]
    if not lengths:
        return None
    median = float(np.median(lengths))
    if not HAND_M[0] <= median <= HAND_M[1]:  # true for what is no number, too
        found = f"hands of joints_m are {median:.3g} m from the wrist to the middle fingertip, not 0.12 to 0.26 m"
        return Mistake(UNITS, found + _named_unit(median / 0.18), "give joints_m in metres")
    spreads = [
        s.vertices_m.std(0).max() / s.joints_m.std(0).max()
        for s in hands
        if s.vertices_m is not None and s.joints_m is not None
    ]
    if spreads and not 1 / 3 < (ratio := float(np.median(spreads))) < 3:
        found = f"the meshes of vertices_m are {ratio:.3g} times as large as the hands of joints_m"
        return Mistake(UNITS, found + _named_unit(ratio), "give vertices_m in metres")
    return None


def _named_unit(factor: float) -> str:
    names = {3: "millimetres", 2: "centimetres", 1: "decimetres"}
    power = int(np.round(np.log10(factor))) if np.isfinite(factor) and factor > 0 else 0
    return f": they are in {names[power]}" if power in names else ""


_FLIPS = {(-1, 1): "left and right", (1, -1): "up and down", (-1, -1): "both ways"}


def _mirrored_camera(hands: list[HandSample]) -> Mistake | None:
    """A camera whose axis x or y points the other way, by joints_px and, where there are masks, by the image."""
    remedy = "the camera's frame is x right, y down, z forward, and fx and fy are positive"
    known = [sample for sample in hands if sample.camera and sample.joints_m is not None]
    if known and np.median([_relative(s, _reprojection_px(s)) for s in known]) > MOST_REPROJECTION:
        errors = {flip: np.median([_relative(s, _reprojection_px(s, flip)) for s in known]) for flip in _FLIPS}
        best = min(errors, key=errors.get)
        if errors[best] < MOST_REPROJECTION / 3:
            found = f"joints_m agree with joints_px only where the camera is mirrored {_FLIPS[best]}"
            return Mistake(CAMERA, found, remedy)
    masked = [sample for sample in known if sample.mask is not None]
    on_hand = _mean(_on_mask(sample, sample.joints_px) for sample in masked)
    if on_hand is None or on_hand >= LEAST_ON_HAND:
        return None
    gains = {flip: np.mean([_on_mask(s, _flipped_px(s, flip)) for s in masked]) - on_hand for flip in _FLIPS}
    best = max(gains, key=gains.get)
    there = on_hand + gains[best]
    if gains[best] < LEAST_GAIN or there < LEAST_ON_HAND:
        return None
    found = f"{_percent(on_hand)} of the joints lie on the hand's mask, mirrored {_FLIPS[best]} {_percent(there)}"
    return Mistake(CAMERA, found, remedy)


def _flipped_px(sample: HandSample, flip: tuple[int, int]) -> np.ndarray:
    """joints_px as a camera with its axes the other way round has them."""
    centre = np.array([sample.camera.cx, sample.camera.cy])
    return (sample.joints_px - centre) * flip + centre


def _off_the_hand(hands: list[HandSample]) -> Mistake | None:
    """Joints, and the boxes around them, beside the mask of the hand, all in the same direction."""
    masked = [sample for sample in hands if sample.mask is not None and sample.mask.any()]
    on_hand = _mean(_on_mask(sample, sample.joints_px) for sample in masked)
    if on_hand is None or on_hand >= LEAST_ON_HAND:
        return None
    shift = np.median([_middle(sample.mask) - _middle_of(sample.joints_px) for sample in masked], axis=0)
    there = float(np.mean([_on_mask(sample, sample.joints_px + shift) for sample in masked]))
    if there - on_hand < LEAST_GAIN:
        return None
    x, y = shift
    found = f"{_percent(on_hand)} of the joints lie on the hand's mask, {_percent(there)} moved by {x:.0f}, {y:.0f} px"
    return Mistake(BOXES, found, "joints_px and boxes must be in pixels of the image as it is read, its centre in K")


def _shifted_boxes(hands: list[HandSample]) -> Mistake | None:
    """Boxes that do not lie around their joints."""
    offsets = []
    for sample in hands:
        tight = Box.around(sample.joints_px, rotation=False)
        offsets.append((np.array(sample.box.centre_px) - tight.centre_px) / tight.size_px)
    systematic, off = np.median(offsets, axis=0), float(np.median(np.linalg.norm(offsets, axis=1)))
    if np.linalg.norm(systematic) <= MOST_SYSTEMATIC and off <= MOST_OFF:
        return None
    x, y = systematic
    found = f"boxes lie {off:.2f} of their size from their joints, in the mean by {x:.2f}, {y:.2f}"
    return Mistake(BOXES, found, "a box is centred on its joints, in pixels of the same image")


def _swapped_sides(hands: list[HandSample]) -> Mistake | None:
    """Sides that are not those of the hands' shape in space."""
    agreeing = _mean(
        (handedness(s.joints_m) > 0) == (s.side == "right")
        for s in hands
        if s.side_known and s.joints_m is not None and _is_bent(s)
    )
    if agreeing is None or agreeing >= LEAST_AGREEING:
        return None
    found = f"by joints_m, {_percent(1 - agreeing)} of the hands are of the other side than their label"
    return Mistake(SIDES, found, "side is the subject's own hand in an unmirrored image; look at the picture")


def handedness(joints_m: np.ndarray) -> float:
    """How much (21, 3) joints, in axes x right, y down, z forward, are a right hand's: below 0 for a left one's.

    Fingers bend towards the palm, and the thumb stands before it. Where the palm faces follows from the knuckles for a
    hand of known side. In hands' lengths: near 0 for a flat hand, whose joints do not tell.
    """
    wrist, index, little = (joints_m[skeleton.KEYPOINTS.index(name)] for name in ("wrist", "index1", "little1"))
    normal = np.cross(index - wrist, little - wrist)
    palm = normal / max(float(np.linalg.norm(normal)), 1e-12)
    bent = [joints_m[chain[1:]].mean(0) - joints_m[chain[0]] for chain in _CHAINS[1:]]
    thumb = joints_m[_CHAINS[0][2:]].mean(0) - wrist
    return float(np.sum([*bent, thumb], axis=0) @ palm) / max(_hand_length_m(joints_m), 1e-12)


_LEAST_BENT = 0.05


def _is_bent(sample: HandSample) -> bool:
    return abs(handedness(sample.joints_m)) > _LEAST_BENT


def _relative(sample: HandSample, error_px: float) -> float:
    return error_px / max(Box.around(sample.joints_px, rotation=False).size_px, 1e-6)


def _on_mask(sample: HandSample, joints_px: np.ndarray) -> float:
    """Fraction of the joints inside the image that lie on its mask or close to it."""
    height, width = sample.mask.shape
    margin = max(1, round(0.02 * Box.around(sample.joints_px, rotation=False).size_px))
    wide = cv2.dilate(sample.mask, np.ones((2 * margin + 1,) * 2, np.uint8)) > 127
    columns, rows = np.round(joints_px).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return float(wide[rows[inside], columns[inside]].mean()) if inside.any() else 0.0


def _middle(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return _middle_of(np.stack([columns, rows], axis=1))


def _middle_of(points: np.ndarray) -> np.ndarray:
    """(2,) the middle of the box around (N, 2) points."""
    return (points.max(0) + points.min(0)) / 2


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.median(found)) if found else None


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None
