"""A recorded clip as glTF: every hand that was followed is a skin of its own, its joints turned over time.

One shape and one size a hand, the mean and the median over the time it was followed, for a skin cannot
change its bones. Joints turn and the wrist moves linearly between the recorded frames (for rotations glTF
means along the shortest arc). A hand that is away has its wrist scaled to zero, which the specification
names as the way to hide: all joints of the skin are then at one point, and no viewer draws anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.crop import mirror_points_m, mirror_rotations
from handmesh.gltf.document import Document
from handmesh.gltf.hands import SKIN_COLOUR, Colour, add_hand
from handmesh.gltf.rig import NODE_OF_MANO, VIEW_FROM_CAMERA, Rig, build_rig
from handmesh.skinning import SkinnedHand, joint_transforms
from handmesh.structs import Side


class Track(NamedTuple):
    """One hand for as long as it was followed: in T of the clip's frames."""

    name: str
    side: Side
    frames: np.ndarray  # (T,) which of the clip's frames, rising
    poses: np.ndarray  # (T, 16, 3, 3) as `Hand.pose`
    shapes: np.ndarray  # (T, 10)
    joints_m: np.ndarray  # (T, 21, 3) in the camera's frame


def animated_glb(
    tracks: Sequence[Track],
    times_s: np.ndarray,
    hand: SkinnedHand | None = None,
    colours: Mapping[Side, Colour] | None = None,
) -> bytes:
    """A `.glb` that plays the tracks: y up, metres, the camera at the origin looking along -z.

    times_s: (N,) of the clip's frames; the animation begins at 0 with the first. hand: the model that the
    poses belong to, by default the bundled open hand; pose-dependent corrections, which MANO has and the
    open hand has not, are left out. Raises ValueError where there are no tracks, and where the times do
    not rise.
    """
    if not tracks:
        raise ValueError("there is no hand to animate: the clip has none in any frame")
    times = (np.asarray(times_s, np.float64) - times_s[0]).astype(np.float32)
    if not (np.diff(times) > 0).all():
        raise ValueError("the frames' times must rise, each by at least what a float32 of seconds can tell")
    hand, document, roots = hand or SkinnedHand.open_hand(), Document(), []
    animation = _Animation(document)
    for track in tracks:
        fit = fit_rig(track, hand)
        colour = (colours or {}).get(track.side, SKIN_COLOUR)
        nodes = add_hand(document, fit.rig, track.name, colour, prefix=f"{track.name}_")
        roots += nodes.roots
        _animate(animation, nodes.joints, fit, track, times)
    animation.finish()
    return document.glb(roots)


class Fit(NamedTuple):
    """A track's hand as a rig that fits all of its frames."""

    rig: Rig
    scale: float  # metres to a metre of the hand model
    wrists_m: np.ndarray  # (T, 3) in glTF's frame


def fit_rig(track: Track, hand: SkinnedHand) -> Fit:
    """The rig in the track's mean shape and median size, placed where its 21 joints lie on the recorded ones."""
    shape = track.shapes.mean(0, dtype=np.float64)
    rig = build_rig(hand, shape, track.side)
    joints_m = posed_joints(hand, shape, track)
    seen_middle, middle = track.joints_m.mean(1, dtype=np.float64), joints_m.mean(1)
    seen_spread = np.linalg.norm(track.joints_m - seen_middle[:, None], axis=(1, 2))
    scale = float(np.median(seen_spread / np.linalg.norm(joints_m - middle[:, None], axis=(1, 2))))
    wrists_m = seen_middle + scale * (rig.wrist_m - middle)
    return Fit(rig.scaled(scale), scale, wrists_m @ VIEW_FROM_CAMERA)


def posed_joints(hand: SkinnedHand, shape: np.ndarray, track: Track) -> np.ndarray:
    """(T, 21, 3) joints of a hand in (10,) `shape` and the track's poses, in the model's frame, mirrored for a left
    hand: those of `SkinnedHand.posed`, without the mesh and without pose-dependent corrections."""
    rest = hand.rest(shape)
    left = track.side == "left"
    poses = mirror_rotations(track.poses) if left else track.poses
    by_joint = np.asarray(poses, np.float32).swapaxes(0, 1)
    centres_m = np.broadcast_to(rest.joints_m[:, None], by_joint.shape[:3])
    columns = joint_transforms(by_joint, centres_m).transpose(1, 0, 3, 2).reshape(len(poses), -1, 3)
    joints_m = rest.keypoint_shares @ columns
    return mirror_points_m(joints_m) if left else joints_m


class _Animation:
    """The channels of a document's one animation."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._channels: list[dict[str, object]] = []
        self._samplers: list[dict[str, object]] = []

    def clock(self, times_s: np.ndarray) -> int:
        """Key times, which several channels may share."""
        return self._document.add_numbers(times_s, bounds=True)

    def add(
        self, node: int, path: str, clock: int, values: np.ndarray, interpolation: Literal["LINEAR", "STEP"] = "LINEAR"
    ) -> None:
        """Let a node's "translation", "rotation" or "scale" take `values` at the key times."""
        output = self._document.add_numbers(values.astype(np.float32))
        self._channels.append({"sampler": len(self._samplers), "target": {"node": node, "path": path}})
        self._samplers.append({"input": clock, "output": output, "interpolation": interpolation})

    def finish(self) -> None:
        """Put the animation into the document."""
        self._document.add("animations", name="clip", channels=self._channels, samplers=self._samplers)


def _animate(animation: _Animation, joints: list[int], fit: Fit, track: Track, times: np.ndarray) -> None:
    clock = animation.clock(times[track.frames])
    animation.add(joints[0], "translation", clock, fit.wrists_m)
    turns = fit.rig.local_turns(track.poses)
    for number, node in enumerate(NODE_OF_MANO):
        animation.add(joints[node], "rotation", clock, continuous_quaternions(turns[:, number]))
    present = np.zeros(len(times), bool)
    present[track.frames] = True
    if not present.all():
        changes = np.flatnonzero(np.diff(present)) + 1
        keys = np.unique([0, *changes, len(times) - 1])
        scales = np.repeat(present[keys, None], 3, axis=1)
        animation.add(joints[0], "scale", animation.clock(times[keys]), scales, "STEP")


def continuous_quaternions(turns: np.ndarray) -> np.ndarray:
    """(T, 4) xyzw of (T, 3, 3) rotations, each the one of its two signs that is nearer to the one before."""
    quaternions = Rotation.from_matrix(turns).as_quat()
    flips = np.einsum("tq,tq->t", quaternions[1:], quaternions[:-1]) < 0
    quaternions[1:] *= np.where(np.cumsum(flips) % 2, -1.0, 1.0)[:, None]
    return quaternions
