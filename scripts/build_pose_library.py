"""Rebuild handmesh/assets/pose_library.npz: finger angles of poses that people made.

    python scripts/build_pose_library.py POSES.json [--output FILE.npz]

POSES.json is a list of recorded hands `{"src", "hand": "left" | "right", "xyz"}` with joints in millimetres: 21
(wrist, then four of each finger from the thumb on), or WebXR's 25. THIRD_PARTY.md names the recordings behind the
shipped file. The open hand is fitted to each, left hands as their mirror images; fits that stay far off are dropped,
and of poses that are alike one is kept. Takes some minutes on one core.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import POSE_LIBRARY
from handmesh.files import write_npz
from handmesh.hand import anatomy
from handmesh.hand.anatomy import Clearance
from handmesh.hand.fitting import FINGERS, POSITION, SHAPE, KeypointHand, Limits, Posed
from handmesh.hand.model import HandModel

ACCEPT_M, ACCEPT_WORST_M = 0.004, 0.01
"""A fit is kept up to this mean distance of its believed joints, and this of its farthest, at the open hand's size."""
ACCEPT_DEPTH_M = 0.015
"""Of the thumb in the fingers: deeper ones are errors of tracking. The sampler lifts the thumb out of the others."""
ACCEPT_FINGERS_M = 0.006
"""Of the fingers in one another; flesh and the capsules' roughness account for less."""
DISTINCT_DEG = 2.0
"""Of recorded hands whose bones' directions in the palm differ by less, root mean square, one is fitted."""
APART_DEG = 4.0
"""What is kept differs by this from all else that is kept, root mean square over `_FREE`, the angles that matter."""

_WEBXR = [k for k in range(25) if k not in (5, 10, 15, 20)]  # without the fingers' metacarpals
_PRIOR_DEG = np.array([[60.0, 12.0, 5.0], [60.0, 3.0, 3.0], [40.0, 3.0, 3.0]])
_PRIOR_THUMB_DEG = np.array([[30.0, 30.0, 15.0], [40.0, 8.0, 5.0], [50.0, 3.0, 3.0]])
_COUPLED, _COUPLED_DEG = 0.6, 15.0  # the last joint follows the second: they share a tendon
_SHAPE_DEVIATION, _JOINT_M = 1.0, 0.003
_RELIABILITY = {"wrist": 0.3, "thumb1": 0.03}  # of recorded joints whose position is a matter of convention
_RELIABILITY_TIPS = 0.5
_LEAP_PALM, _LEAP_INDEX, _LEAP_TIP = 0.74, 0.88, 0.8
"""A Leap's "wrist" lies in the palm, so far on the way from the wrist to the middle knuckle; its index knuckle so far
on the way to ours; its tips, which are the bones', so far on the way from the last joint to ours."""
_STARTS_DEG = ((0.0, 0.0, 0.0), (65.0, 75.0, 35.0))
"""Flexion of the fingers' three joints from which the search begins."""
_ITERATIONS, _BATCH = 25, 256
_PARAMETERS = 62  # the keypoint hand's 61, and the logarithm of the scale

_FREE = np.zeros((15, 3), bool)
_FREE[:, anatomy.FLEXION] = True
_FREE[anatomy.FINGER_JOINTS[:, 0], anatomy.ABDUCTION] = True
_FREE[anatomy.FINGER_JOINTS[0, 0], anatomy.TWIST] = True


class Fits(NamedTuple):
    """What came of N recorded hands."""

    angles_deg: np.ndarray  # (N, 15, 3)
    error_m: np.ndarray  # (N,) mean distance of the joints that are believed
    worst_m: np.ndarray  # (N,) of the farthest one


class Retargeter:
    """Finds finger angles, shape, scale and position of the open hand that explain recorded joints.

    Levenberg and Marquardt's method, as `handmesh.hand.fitting`'s, for joints in space.
    """

    def __init__(self, hand: KeypointHand, points: np.ndarray) -> None:
        """points: (21, 21) of which joints the recorded points are what mixture."""
        self.hand, self.points = hand, points
        self.limits = Limits(*np.radians(anatomy.limits_deg()))
        reliability = [
            _RELIABILITY.get(name, _RELIABILITY_TIPS if name in skeleton.TIPS else 1.0) for name in skeleton.KEYPOINTS
        ]
        self.reliability = np.array(reliability)
        deviation = np.empty((15, 3))
        deviation[anatomy.FINGER_JOINTS] = np.stack([_PRIOR_THUMB_DEG, *[_PRIOR_DEG] * 4])
        self._prior = np.zeros(_PARAMETERS)
        self._prior[FINGERS], self._prior[SHAPE] = np.radians(deviation).ravel() ** -2, _SHAPE_DEVIATION**-2

    def fit(self, joints_m: np.ndarray) -> Fits:
        """joints_m: (N, 21, 3) of right hands, in keypoint order."""
        found = [self._best(joints_m[first : first + _BATCH]) for first in range(0, len(joints_m), _BATCH)]
        return Fits(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _best(self, target: np.ndarray) -> Fits:
        best, least = None, np.full(len(target), np.inf)
        for start in _STARTS_DEG:
            (posed, log_scale), cost = self._search(target, *self._start(target, start))
            off = self._off(target, posed, log_scale)[0] / np.exp(log_scale)[:, None, None]
            away = np.linalg.norm(off, axis=-1)
            sure = self.reliability >= _RELIABILITY_TIPS
            found = Fits(np.degrees(posed.angles), away[:, sure].mean(1), away[:, sure].max(1))
            better = cost < least
            least = np.where(better, cost, least)
            keep = [better.reshape(-1, *[1] * (a.ndim - 1)) for a in found]
            best = found if best is None else Fits(*map(np.where, keep, found, best))
        return best

    def _start(self, target: np.ndarray, flexion_deg: tuple[float, ...]) -> tuple[Posed, np.ndarray]:
        """The palm turned and scaled as the recorded one."""
        palm = [skeleton.KEYPOINTS.index(f"{finger}1") for finger in skeleton.FINGERS[1:]] + [skeleton.WRIST]
        count, own = len(target), (self.points @ self.hand.rest_joints_m)[palm]
        angles = np.zeros((count, 15, 3))
        angles[:, anatomy.FINGER_JOINTS[1:], anatomy.FLEXION] = np.radians(flexion_deg)
        own_mean, means = own.mean(0), target[:, palm].mean(1)
        pairs = [(points - mean, own - own_mean) for points, mean in zip(target[:, palm], means, strict=True)]
        rotations = np.stack([Rotation.align_vectors(*pair)[0].as_matrix() for pair in pairs])
        scale = np.array([np.linalg.norm(there) / np.linalg.norm(here) for there, here in pairs])
        position = means - scale[:, None] * (rotations @ own_mean)
        return Posed(rotations, angles.clip(*self.limits), np.zeros((count, 10)), position), np.log(scale)

    def _search(self, target: np.ndarray, posed: Posed, log_scale: np.ndarray) -> tuple[tuple, np.ndarray]:
        damping, cost = np.full(len(target), 1e-2), self._cost(target, posed, log_scale)
        for _ in range(_ITERATIONS):
            step = self._step(target, posed, log_scale, damping)
            moved, moved_scale = self.limits.moved(posed, step), log_scale + step[:, -1].clip(-0.2, 0.2)
            new_cost = self._cost(target, moved, moved_scale)
            better = new_cost < cost
            posed, cost = moved.take(better, posed), np.where(better, new_cost, cost)
            log_scale = np.where(better, moved_scale, log_scale)
            damping = np.where(better, damping / 3, damping * 4).clip(1e-7, 1e6)
        return (posed, log_scale), cost

    def _off(self, target: np.ndarray, posed: Posed, log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 21, 3) from the recorded joints to the fitted ones, and these about their position."""
        joints = self.hand.joints_m(posed._replace(position_m=np.zeros_like(posed.position_m)))
        own = np.exp(log_scale)[:, None, None] * (self.points @ joints)
        return own + posed.position_m[:, None] - target, own

    def _coupled(self, posed: Posed) -> np.ndarray:
        """(N, 4) by how many deviations the fingers' last joints are off what their second suggest."""
        flexion = posed.angles[:, anatomy.FINGER_JOINTS[1:], anatomy.FLEXION]
        return (flexion[..., 2] - _COUPLED * flexion[..., 1]) / np.radians(_COUPLED_DEG)

    def _cost(self, target: np.ndarray, posed: Posed, log_scale: np.ndarray) -> np.ndarray:
        off = (self._off(target, posed, log_scale)[0] ** 2).sum(-1) @ self.reliability / _JOINT_M**2
        prior = self._parameters(posed) ** 2 @ self._prior
        return off + prior + (self._coupled(posed) ** 2).sum(1)

    def _parameters(self, posed: Posed) -> np.ndarray:
        """(N, 62); those that have no prior are 0."""
        values = np.zeros((len(posed.root), _PARAMETERS))
        values[:, FINGERS], values[:, SHAPE] = posed.angles.reshape(-1, 45), posed.shape
        return values

    def _step(self, target: np.ndarray, posed: Posed, log_scale: np.ndarray, damping: np.ndarray) -> np.ndarray:
        """(N, 62) the damped Gauss-Newton step; angles at a limit that would go beyond it stay."""
        slopes = np.zeros((*target.shape, _PARAMETERS))
        by_joint = self.hand.joints_and_slopes(posed)[1] * np.exp(log_scale)[:, None, None, None]
        slopes[..., :61] = np.tensordot(by_joint, self.points, ((1,), (1,))).transpose(0, 3, 1, 2)
        slopes[..., POSITION] = np.eye(3)
        off, slopes[..., -1] = self._off(target, posed, log_scale)
        weight = np.sqrt(self.reliability)[:, None] / _JOINT_M
        slopes = (slopes * weight[..., None]).reshape(len(target), -1, _PARAMETERS)
        off = (off * weight).reshape(len(target), -1, 1)
        coupling = _coupling_slopes()
        normal = slopes.transpose(0, 2, 1) @ slopes + np.diag(self._prior) + coupling.T @ coupling
        gradient = (slopes.transpose(0, 2, 1) @ off)[..., 0] + self._parameters(posed) * self._prior
        gradient += self._coupled(posed) @ coupling
        held = self.limits.held(posed, gradient)
        normal[held[:, :, None] | held[:, None, :]] = 0.0
        diagonal = np.einsum("bii->bi", normal)
        diagonal += damping[:, None] * diagonal + held
        return -np.linalg.solve(normal, np.where(held, 0.0, gradient)[..., None])[..., 0]


def _coupling_slopes() -> np.ndarray:
    """(4, 62) derivatives of `Retargeter._coupled`."""
    slopes = np.zeros((4, _PARAMETERS))
    for row, (_, second, last) in enumerate(anatomy.FINGER_JOINTS[1:]):
        slopes[row, FINGERS.start + 3 * last] = 1 / np.radians(_COUPLED_DEG)
        slopes[row, FINGERS.start + 3 * second] = -_COUPLED / np.radians(_COUPLED_DEG)
    return slopes


def recorded_points(joints: int) -> np.ndarray:
    """(21, 21) what a device records, as mixtures of the keypoints: of a Leap, which gives 21, or of WebXR's 25."""
    points = np.eye(21)
    if joints == 21:
        index, middle = (skeleton.KEYPOINTS.index(name) for name in ("index1", "middle1"))
        points[skeleton.WRIST, [skeleton.WRIST, middle]] = 1 - _LEAP_PALM, _LEAP_PALM
        points[index, [skeleton.WRIST, index]] = 1 - _LEAP_INDEX, _LEAP_INDEX
        for tip in skeleton.KEYPOINT_TIPS:
            points[tip, [tip - 1, tip]] = 1 - _LEAP_TIP, _LEAP_TIP
    return points


def recorded_joints_m(hand: dict) -> np.ndarray:
    """(21, 3) metres, keypoint order, of a right hand: a left one is mirrored."""
    xyz = np.array(hand["xyz"], np.float64) / 1000
    if len(xyz) not in (21, 25):
        raise ValueError(f"{hand['src']}: expected 21 or 25 joints, got {len(xyz)}")
    xyz = xyz[_WEBXR] if len(xyz) == 25 else xyz
    return xyz * [-1, 1, 1] if hand["hand"] == "left" else xyz


def distinct(joints_m: np.ndarray) -> np.ndarray:
    """The rows of (N, 21, 3) hands whose bones stand in the palm otherwise than all rows before: few of a film."""
    fingers = joints_m[:, 1:].reshape(-1, 5, 4, 3)
    bones = np.diff(fingers, axis=2).reshape(-1, 15, 3)
    across, along = fingers[:, 1, 0] - fingers[:, 4, 0], fingers[:, 2, 0] - joints_m[:, skeleton.WRIST]
    up = np.cross(across, along)
    frames = np.stack([across, np.cross(up, across), up], axis=2)
    frames, bones = (part / np.linalg.norm(part, axis=axis, keepdims=True) for part, axis in ((frames, 1), (bones, 2)))
    return apart((bones @ frames).reshape(len(bones), -1), np.radians(DISTINCT_DEG) / np.sqrt(3), np.arange(len(bones)))


def apart(values: np.ndarray, least: float, order: np.ndarray) -> np.ndarray:
    """The rows of (N, D) values, taken in `order`, that differ from all taken before by `least`, root mean square."""
    nearest, kept = np.full(len(values), np.inf), []
    for row in order:
        if nearest[row] >= least:
            kept.append(row)
            nearest = np.minimum(nearest, np.sqrt(((values - values[row]) ** 2).mean(1)))
    return np.array(kept)


def depths_m(angles_deg: np.ndarray, rest_joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) metres by which the thumbs of (N, 15, 3) angles run into their hands, and their fingers into one another."""
    clearance, hands = Clearance(rest_joints_m), angles_deg[:, anatomy.FINGER_JOINTS]
    thumbs = np.array([clearance.depth(hand[None])[0] for hand in hands])
    return thumbs, np.array([clearance.fingers_depth(hand) for hand in hands])


def build(hands: list[dict]) -> tuple[np.ndarray, list[str]]:
    """(N, 15, 3) whole degrees, int8, of the poses that are kept, and the recordings they come from."""
    hand, fits, sources = KeypointHand(HandModel.load()), [], []
    for count in sorted({len(hand["xyz"]) for hand in hands}, reverse=True):
        recorded = [pose for pose in hands if len(pose["xyz"]) == count]
        joints_m = np.stack([recorded_joints_m(pose) for pose in recorded])
        rows = distinct(joints_m)
        fits.append(Retargeter(hand, recorded_points(count)).fit(joints_m[rows]))
        sources += [recorded[row]["src"] for row in rows]
    fit = Fits(*(np.concatenate(parts) for parts in zip(*fits, strict=True)))
    print(f"{len(hands)} hands, {len(sources)} distinct ones, fits off by {fit.error_m.mean() * 1e3:.2f} mm on average")
    good = (fit.error_m <= ACCEPT_M) & (fit.worst_m <= ACCEPT_WORST_M)
    thumb_m, fingers_m = depths_m(fit.angles_deg, hand.rest_joints_m)
    free = (thumb_m <= ACCEPT_DEPTH_M) & (fingers_m <= ACCEPT_FINGERS_M)
    print(f"{good.sum()} fits are near enough, in {(good & free).sum()} of these no finger runs through another")
    rows = np.flatnonzero(good & free)[np.argsort(fit.error_m[good & free], kind="stable")]
    rows = rows[apart(fit.angles_deg[rows][:, _FREE], APART_DEG, np.arange(len(rows)))]
    print(f"{len(rows)} are kept, off by {fit.error_m[rows].mean() * 1e3:.2f} mm on average")
    return np.round(fit.angles_deg[rows]).astype(np.int8), [sources[row] for row in rows]


def main(poses: tyro.conf.Positional[Path], output: Path = POSE_LIBRARY) -> None:
    """Fit the recorded hands of `poses` and write the library."""
    angles_deg, sources = build(json.loads(poses.read_text()))
    for source, count in sorted(Counter(sources).items()):
        print(f"{count:6} {source}")
    write_npz(output, compressed=True, angles_deg=angles_deg)  # its zip entries carry no time of day
    print(f"{output}: {len(angles_deg)} poses, {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
