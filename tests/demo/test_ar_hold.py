"""The example that puts a ring between thumb and index finger."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.app import webcam
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project, unproject
from handmesh.hand import anatomy
from handmesh.hand.lbs import SkinnedHand
from handmesh.hand.poses import default_sampler
from handmesh.types import Camera, Frame, Hand, Side, SourceError
from handmesh.video.sinks import VideoRecorder

DEMO = Path(__file__).parents[2] / "demo"
CAMERA = Camera.from_fov(320, 240)
SKY = np.full((240, 320, 3), (90, 120, 200), np.uint8)
PALM, THUMB = 0, [skeleton.MANO_JOINTS.index(f"thumb{k}") for k in (1, 2, 3)]
TIE_M = 1e-4  # nearer to each other, either of two surfaces may be seen


@pytest.fixture(scope="module")
def ar_hold() -> ModuleType:
    """The example as a module, with the modules beside it."""
    sys.path.insert(0, str(DEMO))
    spec = importlib.util.spec_from_file_location("ar_hold", DEMO / "ar_hold.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ar_hold"] = module  # where dataclasses look their own module up
    spec.loader.exec_module(module)
    sys.path.remove(str(DEMO))
    return module


def pinching_hand(row: int = 0, side: Side = "right", rotation_deg: tuple = (0, 15, 0), pinch: bool = True) -> Hand:
    """Before the camera, palm towards it, the pads of thumb and index finger in touch; or open."""
    sampler, model = default_sampler(), SkinnedHand.open_hand()
    angles = sampler.gesture_deg("open", np.random.default_rng(0))
    if pinch:
        angles[anatomy.FINGER_JOINTS[:2]] = sampler.pinches[0][row]
    rotation = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)
    pose = np.concatenate([rotation[None], anatomy.rotations_from_angles(angles, sampler.frames)])
    vertices, joints = model.posed(pose, model.rest(np.zeros(10)))
    faces, position = model.faces, (0, 0.06, 0.3)
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
        faces = mirror_faces(faces)
    vertices, joints = vertices + position, joints + position
    return Hand(vertices, joints, project(joints, CAMERA), side, 1.0, pose, np.zeros(10), faces)


def first_hits(points_px: np.ndarray, vertices_m: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) faces that the pixels' rays meet first (-1: none) and their z: a slow twin of the z-buffer.

    Source: Moeller and Trumbore, Fast, minimum storage ray/triangle intersection (1997).
    """
    rays = unproject(points_px, np.ones(len(points_px)), CAMERA)[:, None]
    a, b, c = (vertices_m[faces[:, k]].astype(np.float64) for k in range(3))
    p = np.cross(rays, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / ((b - a) * p).sum(-1)
        u = -(a * p).sum(-1) * scale
        q = np.cross(-a, b - a)
        v = (rays * q).sum(-1) * scale
        z = ((c - a) * q).sum(-1) * scale
    z = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (z > 0), z, np.inf)
    nearest = z.min(1)
    return np.where(np.isfinite(nearest), z.argmin(1), -1), nearest


def carriers(hand: Hand) -> np.ndarray:
    """(F,) the joint, in MANO's order, that carries each face."""
    return SkinnedHand.open_hand().weights[hand.faces].sum(1).argmax(1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("rotation_deg", [(0, 35, 0), (-10, 25, -10)])
def test_the_thumb_hides_the_ring_and_the_ring_the_palm(ar_hold, side: Side, rotation_deg: tuple):
    """Against rays through pixels about the ring: it is seen where it is nearest, and the image everywhere else."""
    hand = pinching_hand(row=128, side=side, rotation_deg=rotation_deg)
    ring_m = ar_hold.held_ring_m(hand)
    image = ar_hold.composed(SKY, [hand], [ring_m], CAMERA)
    changed = (image != SKY).any(-1)
    ring_px = project(ring_m, CAMERA)
    low, high = ring_px.min(0) - 2, ring_px.max(0) + 2
    points_px = np.random.default_rng(0).integers(low, high, (600, 2))
    ring_face, ring_z = first_hits(points_px, ring_m, ar_hold.RING.faces)
    hand_face, hand_z = first_hits(points_px, hand.vertices_m, hand.faces)

    seen, hidden = ring_z < hand_z - TIE_M, hand_z < ring_z - TIE_M
    behind = (ring_face >= 0) & hidden
    joint = np.where(hand_face >= 0, carriers(hand)[hand_face], -1)
    assert (behind & np.isin(joint, THUMB)).sum() > 10, "the thumb hides some of it"
    assert (seen & (joint == PALM)).sum() > 50, "it hides some of the palm"
    at = changed[points_px[:, 1], points_px[:, 0]]
    assert at[seen].mean() > 0.99  # an outline can pass between a pixel's centre and its neighbour's
    assert at[~seen & ~(ring_face >= 0)].mean() < 0.01
    assert at[behind].mean() < 0.01

    columns, rows = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    outside = (columns < low[0]) | (columns > high[0]) | (rows < low[1]) | (rows > high[1])
    assert not changed[outside].any(), "nothing of the hand's mesh is seen"


@pytest.mark.parametrize("row", [0, 40, 80, 120])
def test_the_ring_lies_between_the_pads(ar_hold, row: int):
    """Its band is at the pinch, the thumb on one side of it and the index finger on the other."""
    hand = pinching_hand(row)
    ring_m = ar_hold.held_ring_m(hand)
    middle = ring_m.mean(0)
    axes = np.linalg.svd(ring_m - middle)[2]
    thumb, index = (middle_of_last_bone_m(hand, finger) for finger in ("thumb", "index"))
    assert ((thumb - middle) @ axes[2]) * ((index - middle) @ axes[2]) < 0
    assert np.linalg.norm(ring_m - (thumb + index) / 2, axis=-1).min() < 0.012
    assert np.linalg.norm(middle - hand.joints_m[0]) < np.linalg.norm((thumb + index) / 2 - hand.joints_m[0])
    assert np.ptp(ring_m @ axes[0]) == pytest.approx(0.043, abs=1e-3)


def middle_of_last_bone_m(hand: Hand, finger: str) -> np.ndarray:
    """Of a finger by its name."""
    return hand.joints_m[[skeleton.KEYPOINTS.index(f"{finger}{k}") for k in (3, 4)]].mean(0)


def test_the_nearer_of_two_rings_is_seen(ar_hold):
    """Whichever is drawn first."""
    near = ar_hold.RING.vertices + (0, 0, 0.2)
    far = ar_hold.RING.vertices * (1, 1, -1) + (0.012, 0, 0.4)
    alone = ar_hold.composed(SKY, [], [near], CAMERA)
    seen = (alone != SKY).any(-1)
    inner = cv2.erode(seen.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    for rings in ([near, far], [far, near]):
        both = ar_hold.composed(SKY, [], rings, CAMERA)
        np.testing.assert_array_equal(both[inner], alone[inner])
        assert ((both != SKY).any(-1) & ~seen).sum() > 50


class OneHand:
    """A tracker that sees what it was given."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand

    def __enter__(self) -> OneHand:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def track(self, frame_rgb: np.ndarray, time_s: float, camera: Camera) -> list[Hand]:
        return [self.hand]


@pytest.mark.parametrize("pinch", [True, False])
def test_a_ring_appears_while_a_hand_pinches(ar_hold, tmp_path, monkeypatch, pinch: bool):
    hand = pinching_hand(pinch=pinch)
    monkeypatch.setattr(ar_hold.Options, "load", lambda options: OneHand(hand))
    source, written = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), SKY[..., ::-1])
    assert ar_hold.main(["--source", str(source), "--output", str(written), "--no-window"]) == 0
    golden = np.abs(cv2.imread(str(written)).astype(int) - SKY[..., ::-1]).max(-1) > 40
    assert golden.sum() > 100 if pinch else not golden.any()


def test_without_a_camera_the_bundled_clip_is_played(ar_hold, tmp_path, monkeypatch, capsys):
    def no_camera(index: int) -> None:
        raise SourceError(f"camera {index} cannot be opened")

    clip = tmp_path / "clip.mp4"
    recorder = VideoRecorder(clip)
    recorder.write(Frame("0", 0.0, SKY), SKY)
    recorder.close()
    monkeypatch.setattr(webcam, "CameraFeed", no_camera)
    monkeypatch.setattr(webcam, "DEMO_CLIP", clip)
    monkeypatch.setattr(ar_hold.Options, "load", lambda options: OneHand(pinching_hand()))
    assert ar_hold.main(["--output", str(tmp_path / "out.mp4"), "--no-window"]) == 0
    assert "playing the bundled clip" in capsys.readouterr().err and (tmp_path / "out.mp4").exists()


def test_a_place_to_show_the_ring_is_needed(ar_hold, capsys):
    assert ar_hold.main(["--no-window"]) == 1
    assert "--output" in capsys.readouterr().err
