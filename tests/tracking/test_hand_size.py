"""The size of the user's hand from seconds of holding it at a known distance, with all that goes wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from posed_hand import posed_hand

from handmesh import skeleton
from handmesh.tracking.hand_size import HandSizeCalibration, HandSizeError, checked_hand_size
from handmesh.types import Camera, Hand

CAMERA = Camera.from_fov(640, 480)
OPEN = posed_hand(CAMERA, (0, 0, 0))
TRUE_M = OPEN.size_m
MIDDLE_TIP = skeleton.KEYPOINTS.index("middle4")


def seen(factor: float = 1.0, distance_m: float = 0.5, **changes: object) -> Hand:
    """The open hand with its root at a distance, as a tracker sees it that takes it for `factor` times its size."""
    away_m = np.float32([0.02, 0.01, distance_m - OPEN.joints_m[skeleton.ROOT, 2]])
    return replace(replace(OPEN, joints_m=OPEN.joints_m + away_m).scaled(factor), **changes)


def measure(
    frames: Callable[[int], Sequence[Hand]], count: int = 200, calibration: HandSizeCalibration | None = None
) -> HandSizeCalibration:
    """A calibration after `count` frames at 30 FPS."""
    calibration = calibration or HandSizeCalibration(0.5)
    for k in range(count):
        calibration.add(frames(k), k / 30)
    return calibration


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_whatever_size_the_tracker_believes_the_true_one_comes_out(factor):
    done = measure(lambda _: [seen(factor)])
    assert done.size_m == pytest.approx(TRUE_M, rel=1e-4) and done.deviation_m == pytest.approx(0, abs=1e-5)
    assert not done.problem and f"hand size {TRUE_M:.3f} m" in done.describe()


def test_a_hand_held_elsewhere_than_said_is_wrong_by_as_much():
    assert measure(lambda _: [seen(distance_m=0.55)]).size_m == pytest.approx(TRUE_M * 0.5 / 0.55, rel=1e-4)


def test_it_takes_its_seconds_and_then_rests():
    calibration = HandSizeCalibration(0.5, seconds=2.0)
    progress = [calibration.add([seen()], k / 30) for k in range(90)]
    assert progress[0] == 0 and progress[30] == pytest.approx(0.5) and progress[-1] == 1
    assert progress == sorted(progress) and sum(p < 1 for p in progress) == pytest.approx(60, abs=1)
    size_m = calibration.size_m
    assert calibration.add([seen(2.0, distance_m=0.9)], 4.0) == 1.0 and calibration.size_m == size_m


def test_nothing_is_given_before_the_end():
    half = measure(lambda _: [seen()], count=60)
    assert half.size_m is None and half.deviation_m is None and half.problem == "" and 0 < half.progress < 1
    with pytest.raises(HandSizeError, match="not done yet"):
        half.describe()


def test_noise_and_wild_frames_are_outvoted():
    rng = np.random.default_rng(0)
    noise = 1 + 0.03 * rng.normal(size=200)
    noise[::5] = 2.5
    done = measure(lambda k: [seen(distance_m=0.5 * noise[k])])
    assert done.size_m == pytest.approx(TRUE_M, rel=0.02)
    assert 0.015 * TRUE_M < done.deviation_m < 0.06 * TRUE_M


def fist() -> Hand:
    """A hand of the same bones whose fingertip has come back to the wrist."""
    hand = seen()
    joints_m = hand.joints_m.copy()
    chain = [skeleton.KEYPOINTS.index(f"middle{k}") for k in (2, 3, 4)]
    root = joints_m[skeleton.ROOT]
    joints_m[chain] = root + (root - joints_m[chain])
    return replace(hand, joints_m=joints_m)


@lru_cache
def towards_camera() -> Hand:
    root_m = posed_hand(CAMERA, (0, 0, 0), rotation_deg=(70, 0, 0)).joints_m[skeleton.ROOT, 2]
    return posed_hand(CAMERA, (0, 0, 0.5 - root_m), rotation_deg=(70, 0, 0))


USELESS = {
    "none": (lambda: [], "hold one open hand 0.50 m from the camera"),
    "two": (lambda: [seen(), seen(id=1)], "one hand only"),
    "doubtful": (lambda: [seen(score=0.3)], "not seen well"),
    "carried on": (lambda: [seen(predicted=True)], "not seen well"),
    "closed": (lambda: [fist()], "open the hand"),
    "turned": (lambda: [towards_camera()], "face the camera"),
}


@pytest.mark.parametrize("case", USELESS)
def test_useless_frames_take_no_time_and_say_what_to_do(case):
    hands, hint = USELESS[case]
    calibration = measure(lambda _: hands(), count=300)
    assert calibration.progress == 0 and calibration.size_m is None and hint in calibration.hint
    assert measure(lambda k: [seen()] if k < 10 or k > 40 else hands(), count=300).size_m == pytest.approx(
        TRUE_M, rel=1e-4
    )


def test_gaps_and_clocks_that_run_backwards_count_for_nothing():
    calibration = HandSizeCalibration(0.5)
    assert calibration.add([seen()], 0.0) == 0
    assert calibration.add([seen()], 100.0) <= 0.25 / 5
    assert calibration.add([seen()], 50.0) <= 0.25 / 5


def test_of_two_ids_the_one_in_view_longest_counts():
    """Another hand comes by, nearer than it should."""
    done = measure(lambda k: [seen(distance_m=0.25, id=7)] if k < 60 else [seen(id=3)], count=260)
    assert done.size_m == pytest.approx(TRUE_M, rel=1e-4)


def test_sizes_that_no_hand_has_are_a_problem():
    done = measure(lambda _: [seen()], calibration=HandSizeCalibration(1.5))
    assert done.size_m is None and "outside 0.12 to 0.26 m" in done.problem and "1.50 m from the camera" in done.problem
    with pytest.raises(HandSizeError, match="field of view"):
        done.describe()


def test_a_hand_that_is_not_held_still_is_a_problem():
    done = measure(lambda k: [seen(distance_m=0.5 + 0.1 * np.sin(k / 10))])
    assert done.size_m is None and "hold the hand still" in done.problem


def test_limits():
    assert checked_hand_size(0.18) == 0.18
    with pytest.raises(HandSizeError, match="got 18 m; give it in metres"):
        checked_hand_size(18)
    for size_m in (0.05, -0.2, float("nan"), float("inf")):
        with pytest.raises(HandSizeError, match=r"0\.12 to 0\.26 m"):
            checked_hand_size(size_m)
    for distance_m in (0.0, -1.0, 50, float("nan")):
        with pytest.raises(HandSizeError, match="the distance in metres"):
            HandSizeCalibration(distance_m)
    with pytest.raises(HandSizeError, match="some seconds"):
        HandSizeCalibration(0.5, seconds=0)
