"""Whatever comes in, `track` raises only ValueError for what is documented as wrong, and what it says is finite.

HANDMESH_FUZZ=20 tries twenty times as many examples, other ones each time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hand_scenes import BOX_SCALE, CAMERA, hand_constants, network_outputs, posed_hand
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import model_path
from handmesh.crop import LARGEST_BOX_PX, crop_affine, warp
from handmesh.detection import Detection
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.association import Track
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Estimate, Estimator
from handmesh.tracking.smoothing import HandSmoother
from handmesh.tracking.tracker import HandTracker
from handmesh.types import FARTHEST_CENTRE, LARGEST_PX, LONGEST_FOCAL, SMALLEST_PX, Box, Camera, Hand

EFFORT = int(os.environ.get("HANDMESH_FUZZ", "1"))


def tried(examples: int) -> settings:
    """Settings for so many examples, the same ones each time unless more effort is asked for."""
    phases = [phase for phase in Phase if phase is not Phase.shrink]  # it takes minutes
    slow = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=phases)
    return settings(slow, max_examples=EFFORT * examples, derandomize=EFFORT == 1)


SEEDS = st.integers(0, 2**32 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NEAR_NUMBERS = st.floats(-2000, 2000)
CONTENTS = ("black", "white", "noise", "stripes", "checks", "blobs", "one pixel")


class OddImage(NamedTuple):
    """An image that a failing example names by how it is made."""

    content: str
    height: int
    width: int
    seed: int

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        rng = np.random.default_rng(self.seed)
        y, x = np.mgrid[: self.height, : self.width]
        period = int(rng.integers(1, 40))
        grey = {
            "black": 0 * x,
            "white": 0 * x + 255,
            "noise": rng.integers(0, 256, x.shape),
            "stripes": 255 * ((x + y * int(rng.integers(0, 3))) // period % 2),
            "checks": 255 * ((x // period + y // period) % 2),
            "blobs": 127 + 127 * np.sin(x / period) * np.cos(y / (period + 1)),
            "one pixel": 255 * ((x == self.width // 2) & (y == self.height // 3)),
        }[self.content]
        image = np.repeat(grey[..., None].astype(np.uint8), 3, axis=2)
        image[..., int(rng.integers(0, 3))] //= int(rng.integers(1, 4))
        return image


def images(largest: int = 700) -> st.SearchStrategy[OddImage]:
    """Images that can be tracked, of all contents and sizes."""
    side = st.integers(SMALLEST_PX, largest)
    return st.builds(OddImage, st.sampled_from(CONTENTS), side, side, SEEDS)


@st.composite
def cameras(draw: st.DrawFn, image: OddImage) -> Camera | None:
    """Cameras for an image: usual ones, and all others that pass as valid."""
    width, height = image.width, image.height
    side = max(width, height)
    match draw(st.integers(0, 2)):
        case 0:
            return None
        case 1:
            return Camera.from_fov(width, height, draw(st.floats(1.1, 178.9)))
        case _:
            focal = st.floats(side / LONGEST_FOCAL, side * LONGEST_FOCAL)
            centre = st.floats(-side * FARTHEST_CENTRE, side * FARTHEST_CENTRE)
            return Camera(draw(focal), draw(focal), draw(centre), draw(centre), width, height)


class AnySession:
    """A network that says what no network should: a hand, a hand spoilt in some way, or nonsense."""

    input_size = (64, 64)

    def __init__(self, seed: int) -> None:
        self.metadata = {"format": 1, "kind": "mesh", "box_scale": BOX_SCALE}
        self.constants = hand_constants()
        self._rng = np.random.default_rng(seed)
        self._hand = network_outputs(posed_hand(), Box((320, 240), 300), False, 64, CAMERA)

    def run(self, image_nhwc: np.ndarray) -> dict[str, np.ndarray]:
        assert image_nhwc.shape == (1, 64, 64, 3) and image_nhwc.dtype == np.uint8
        rng, said = self._rng, dict(self._hand)
        rotations = Rotation.random(16, random_state=int(rng.integers(2**31))).as_matrix()
        said["rotations"] = rotations[None].astype(np.float32)
        said["shape"] = rng.normal(0, 10 ** rng.uniform(-2, 1.5), (1, 10)).astype(np.float32)
        moved = rng.normal(0, 10 ** rng.uniform(-6, 0.4 if rng.random() < 0.2 else -1.3), (1, 21, 2))
        said["joints_crop"] = (said["joints_crop"] + moved).astype(np.float32)
        for logit in ("presence", "right"):
            said[logit] = rng.normal(5, 3 if rng.random() < 0.9 else 50, 1).astype(np.float32)
        if rng.random() < 0.2:
            self._spoil(said, str(rng.choice(list(said))))
        return said

    def _spoil(self, said: dict[str, np.ndarray], name: str) -> None:
        """Replace one of the numbers, or all of them."""
        spoilt = np.full_like(said[name], self._rng.normal())
        if self._rng.random() < 0.7:
            spoilt = said[name].copy()
            spoilt.flat[self._rng.integers(spoilt.size)] = self._rng.choice([np.nan, np.inf, -np.inf, 1e30, 1e-30, -9])
        said[name] = spoilt


class AnyDetector:
    """A detector that sees hands wherever it likes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def detect(self, image_rgb: np.ndarray, threshold: float = 0.5) -> list[Detection]:
        return [self._detection(image_rgb) for _ in range(self._rng.integers(0, 5))]

    def _detection(self, image: np.ndarray) -> Detection:
        rng = self._rng
        (x, y), size = rng.uniform(-0.1, 1.1, 2) * image.shape[1::-1], 10 ** rng.uniform(0.5, 2.5)
        if rng.random() < 0.1:
            x, size = rng.choice([np.nan, np.inf, 1e30, 0, 0.01], 2)
        box = Box((float(x), float(y)), float(size), float(rng.uniform(-20, 20)))
        return Detection(box, str(rng.choice(["left", "right"])), float(rng.uniform(0.6, 1)))


def check(hands: list[Hand], num_hands: int) -> None:
    """All that a hand says is finite, and no hand comes twice."""
    assert len(hands) <= num_hands and len({hand.id for hand in hands}) == len(hands)
    for hand in hands:
        for name in (
            "vertices_m",
            "joints_m",
            "joints_px",
            "pose",
            "shape",
            "joints_uncertainty_px",
            "joints_uncertainty_m",
        ):
            assert np.isfinite(getattr(hand, name)).all(), name
        assert hand.contact is None or ((hand.contact >= 0).all() and (hand.contact <= 1).all())
        assert 0 <= hand.score <= 1 and math.isfinite(hand.visible_s) and hand.visible_s >= 0
        assert (hand.joints_m[:, 2] > 0).all() and 0 < hand.size_m < 50


@cache
def real_tracker() -> HandTracker:
    """The bundled network and detector."""
    return HandTracker.load("fast", threads=1, smooth="high")


@cache
def real_estimator() -> Estimator:
    """The bundled network."""
    return Estimator(open_session(model_path("fast"), "mesh", threads=1))


@tried(25)
@given(st.data(), SEEDS, st.sampled_from(["off", "low", "high"]), st.sampled_from([None, 0.19]))
def test_any_network_on_any_frames_at_any_times_through_any_camera(data, seed, smooth, hand_size_m):
    with HandTracker(Estimator(AnySession(seed)), AnyDetector(seed), 2, smooth, hand_size_m=hand_size_m) as tracker:
        tracker.side_by_side = False  # what the network says depends on the order in which it is asked
        black = np.zeros((64, 64, 3), np.uint8)
        check(tracker.detect(black), 2)
        for time_s in data.draw(st.lists(st.none() | NUMBERS | NEAR_NUMBERS, min_size=1, max_size=4)):
            image = data.draw(images(largest=120))
            frame, camera = image.pixels(), data.draw(cameras(image))
            for k in range(6):  # some frames in a row, so that hands are followed
                step_s = data.draw(st.sampled_from([1 / 30, 1e-12, 0.0]))
                check(tracker.track(frame, None if time_s is None else time_s + k * step_s, camera), 2)


@tried(15)
@given(st.data(), images(), NUMBERS | NEAR_NUMBERS)
def test_the_bundled_networks_on_any_frame(data, image, time_s):
    tracker, frame = real_tracker(), image.pixels()
    check(tracker.track(frame, time_s, data.draw(cameras(image))), 2)
    check(tracker.track(frame[::-1], time_s + 0.03), 2)


@tried(30)
@given(st.data(), images(200), SEEDS, st.sampled_from(["left", "right"]))
def test_any_box_for_the_estimator(data, image, seed, side):
    near = st.floats(-LARGEST_BOX_PX, LARGEST_BOX_PX)
    centre = data.draw(st.tuples(near, near) | st.tuples(NEAR_NUMBERS, NEAR_NUMBERS))
    size = data.draw(st.floats(1e-3, LARGEST_BOX_PX) | st.floats(1, 1000))
    box = Box(centre, size / BOX_SCALE, data.draw(NUMBERS | st.floats(-10, 10)))
    camera = Camera.from_fov(image.width, image.height)
    for estimator in (Estimator(AnySession(seed)), real_estimator()):
        try:
            estimate = estimator.estimate(image.pixels(), camera, box, side)
        except ValueError as error:
            scale = float(estimator.session.metadata["box_scale"])
            assert "a box needs" in str(error) and not 1e-3 <= box.scaled(scale).size_px <= LARGEST_BOX_PX
        else:
            check([] if estimate is None else [estimate.hand], 1)


@tried(60)
@given(st.tuples(st.floats(), st.floats()), st.floats(), st.floats(allow_nan=False, allow_infinity=False))
def test_boxes_that_are_none_are_refused(centre_px, size_px, angle_rad):
    sound = 1e-3 <= size_px <= LARGEST_BOX_PX and all(abs(x) <= LARGEST_BOX_PX for x in centre_px)
    image = np.zeros((20, 30, 3), np.uint8)
    with nullcontext() if sound else pytest.raises(ValueError, match="a box needs"):
        assert warp(image, crop_affine(Box(centre_px, size_px, angle_rad), 16), 16).shape == (16, 16, 3)


WRONG_SHAPES = st.lists(st.integers(0, 40), max_size=4).map(tuple).filter(lambda s: len(s) != 3 or s[2] != 3)
WRONG_TYPES = st.sampled_from(["float32", "float64", "int64", "uint16", "bool", "complex64", "object", "U3"])


def not_images() -> st.SearchStrategy[object]:
    """Arrays of another shape, kind or size, and what is no array."""
    return (
        st.builds(np.zeros, WRONG_SHAPES, st.just("uint8"))
        | st.builds(np.zeros, st.just((48, 64, 3)), WRONG_TYPES)
        | st.builds(np.zeros, st.sampled_from([(15, 64, 3), (64, 2, 3), (LARGEST_PX + 1, 16, 3)]), st.just("uint8"))
        | st.none()
        | st.text(max_size=3)
        | st.lists(st.integers(0, 255), min_size=1, max_size=5)
    )


@tried(60)
@given(not_images())
def test_what_is_no_image_is_refused_in_one_line(image):
    tracker = HandTracker(Estimator(AnySession(0)), AnyDetector(0))
    for look in (tracker.track, tracker.detect):
        with pytest.raises(ValueError, match=r"expected an image|no image at") as caught:
            look(image)
        assert "\n" not in str(caught.value)


def wrong_cameras(width: int, height: int) -> Iterator[Camera]:
    """Cameras with one number that none can have."""
    good = {"fx": 100.0, "fy": 100.0, "cx": 32.0, "cy": 24.0, "width": width, "height": height}
    for name, values in {
        "fx": (0, -1, math.nan, math.inf, 1e-9, 1e12),
        "fy": (0, -1, math.nan, math.inf),
        "cx": (math.nan, math.inf, 1e12),
        "cy": (-math.inf, -1e12),
        "width": (0, width + 1),
        "height": (0, height - 1),
    }.items():
        for value in values:
            yield Camera(**{**good, name: value})


def test_wrong_cameras_and_times_are_refused():
    tracker, frame = HandTracker(Estimator(AnySession(0)), AnyDetector(0)), np.zeros((48, 64, 3), np.uint8)
    for camera in wrong_cameras(64, 48):
        with pytest.raises(ValueError, match="camera"):
            tracker.track(frame, 0.0, camera)
    for time_s in (math.nan, math.inf, -math.inf, "now", [1], 1j):
        with pytest.raises(ValueError, match="time_s must be"):
            tracker.track(frame, time_s)


@pytest.mark.parametrize("apart_s", [1e-12, 1 / 30])
def test_a_hand_that_is_carried_on_is_not_flung_away(apart_s):
    box, smoother = Box((320, 240), 200), HandSmoother("off", SkinnedHand.open_hand())
    before, after = (Estimate(posed_hand((x, 0, 0.5)), box, 1.0, 1.0) for x in (0, 5))
    track = Track.begin(0, smoother, before, CAMERA, 0.0)
    track.update(after, CAMERA, apart_s)
    carried = track.predicted(CAMERA, apart_s + 1 / 30)
    assert np.linalg.norm(carried.joints_m[skeleton.ROOT] - after.hand.joints_m[skeleton.ROOT]) < 0.51
    assert np.abs(track.velocity_m_s).max() <= 5001
