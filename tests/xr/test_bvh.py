"""A followed hand as BVH, read by a reader of this test's own that knows nothing of hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gltf_reader import Glb
from scipy.spatial.transform import Rotation
from test_gltf import HAND, track

from handmesh.xr import WEBXR_JOINTS
from handmesh.xr.bvh import bvh_of
from handmesh.xr.gltf import animated_glb

TIMES_S = 5.0 + np.arange(7) / 30


class Bvh:
    """A skeleton with its motion."""

    def __init__(self, text: str) -> None:
        self.names, self.parents, self.offsets, self.channels = [], [], [], []
        hierarchy, motion = text.split("MOTION")
        open_joints: list[int] = []
        for line in hierarchy.splitlines():
            word, *rest = line.split()
            if word in ("ROOT", "JOINT", "End"):
                self.names.append(rest[0])
                self.parents.append(open_joints[-1] if open_joints else -1)
                self.channels.append([])
            elif word == "{":
                open_joints.append(len(self.names) - 1)
            elif word == "}":
                open_joints.pop()
            elif word == "OFFSET":
                self.offsets.append([float(number) for number in rest])
            elif word == "CHANNELS":
                assert int(rest[0]) == len(rest) - 1
                self.channels[-1] = rest[1:]
        lines = motion.strip().splitlines()
        assert lines[0] == f"Frames: {len(lines) - 2}"
        self.frame_s = float(lines[1].removeprefix("Frame Time:"))
        self.frames = np.array([[float(number) for number in line.split()] for line in lines[2:]])
        assert self.frames.shape[1] == sum(map(len, self.channels))

    def positions(self, frame: int) -> np.ndarray:
        """(J, 3) where all joints and end sites are."""
        values, turns, places = iter(self.frames[frame].tolist()), [], []
        for parent, offset, channels in zip(self.parents, self.offsets, self.channels, strict=True):
            local, move = Rotation.identity(), np.array(offset)
            for channel in channels:
                axis, kind, value = channel[0].lower(), channel[1:], next(values)
                if kind == "position":
                    move["xyz".index(axis)] += value
                else:
                    local = local * Rotation.from_euler(axis, value, degrees=True)
            turn, place = (turns[parent], places[parent]) if parent >= 0 else (Rotation.identity(), np.zeros(3))
            places.append(place + turn.apply(move))
            turns.append(turn * local)
        return np.array(places)


@pytest.mark.parametrize("side", ["left", "right"])
def test_joints_are_those_of_the_animated_gltf(side):
    recorded, _ = track(side, np.arange(7), scale=0.95)
    bvh, glb = Bvh(bvh_of(recorded, TIMES_S, 30.0, HAND)), Glb(animated_glb([recorded], TIMES_S, HAND))
    assert bvh.frame_s == pytest.approx(1 / 30, abs=1e-6) and len(bvh.frames) == 7
    named = [k for k, name in enumerate(bvh.names) if name != "Site"]
    assert [bvh.names[k] for k in named] == [name for name in WEBXR_JOINTS if not name.endswith("tip")]
    assert bvh.names.count("Site") == 5
    nodes = [glb.node(f"{side}_1_{name}") for name in WEBXR_JOINTS]
    for frame in range(7):
        glb.play(frame / 30)
        assert np.abs(bvh.positions(frame) - glb.globals()[nodes, :3, 3]).max() < 1e-5


def test_a_frame_that_is_missing_is_between_its_neighbours_and_angles_do_not_jump():
    recorded, _ = track("right", np.array([0, 1, 3]))
    angles = np.array([2.0, 3.0, 5.0])  # past half a turn about the camera's axis
    recorded.poses[:, 0] = Rotation.from_rotvec(angles[:, None] * [0, 0, 1.0]).as_matrix()
    bvh = Bvh(bvh_of(recorded, TIMES_S, 30.0, HAND))
    assert len(bvh.frames) == 4
    assert np.allclose(bvh.positions(2)[0], (bvh.positions(1)[0] + bvh.positions(3)[0]) / 2, atol=2e-5)
    assert np.abs(np.diff(bvh.frames[:, 3:], axis=0)).max() < 90


def test_one_frame_is_a_clip_too(tmp_path: Path):
    recorded, _ = track("left", np.array([2]))
    assert len(Bvh(bvh_of(recorded, TIMES_S, 30.0, HAND)).frames) == 1
