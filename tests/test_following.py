"""Where to look next, and which of two tracks is the hand's."""

from __future__ import annotations

import numpy as np
import pytest
from hand_scenes import CAMERA, posed_hand

from handmesh.runtime.estimator import Estimate
from handmesh.runtime.following import Track, nearest_track, overlap, same_hand, without_duplicates
from handmesh.runtime.smoothing import HandSmoother
from handmesh.structs import Box

DT = 1 / 30


def estimate_at(x_m=0.0, side="right", agreement=1.0):
    hand = posed_hand((x_m, 0, 0.5), side=side)
    return Estimate(hand, Box.around(hand.joints_px), hand.score, agreement)


def track_at(x_m=0.0, smooth="low", **changes):
    return Track.begin(0, HandSmoother(smooth), estimate_at(x_m, **changes), CAMERA, 0.0)


def test_the_next_box_moves_on():
    track = track_at(0.0)
    step = np.subtract(estimate_at(0.02).box.centre_px, track.estimate.box.centre_px)
    track.update(estimate_at(0.02), CAMERA, DT)
    for frames in (1, 2):
        ahead = np.subtract(track.box_at((1 + frames) * DT).centre_px, track.estimate.box.centre_px)
        assert ahead == pytest.approx(frames * step)


def test_the_next_box_moves_half_a_side_at_most():
    track = track_at(-0.2)
    track.update(estimate_at(0.2), CAMERA, DT)
    ahead = np.subtract(track.box_at(2 * DT).centre_px, track.estimate.box.centre_px)
    assert np.linalg.norm(ahead) == pytest.approx(0.5 * track.estimate.box.size_px)


@pytest.mark.parametrize("time_s", [DT, 0.0, -1.0, 100.0])
def test_the_next_box_stays_when_time_does_not_pass_or_jumps(time_s):
    track = track_at(0.0)
    track.update(estimate_at(0.02), CAMERA, DT)
    assert track.box_at(time_s) == track.estimate.box


def test_a_hand_that_changes_its_side_starts_anew():
    track = track_at(0.0)
    track.update(estimate_at(0.02), CAMERA, DT)
    assert np.abs(track.hand.joints_m - track.estimate.hand.joints_m).max() > 1e-5
    track.update(estimate_at(0.03, side="left"), CAMERA, 2 * DT)
    assert np.array_equal(track.velocity_px_s, [0, 0])
    assert np.abs(track.hand.joints_m - track.estimate.hand.joints_m).max() < 1e-6


def test_same_hand():
    assert same_hand(estimate_at(0.0), estimate_at(0.01))
    as_left = estimate_at(0.0, side="left")  # its joints lie elsewhere, its box does not
    assert same_hand(estimate_at(0.0), as_left._replace(box=estimate_at(0.01).box))
    assert not same_hand(estimate_at(0.0), estimate_at(0.08))


def test_one_track_is_left_for_each_hand():
    steady, jumped, doubted, missed = track_at(), track_at(), track_at(agreement=0.1), track_at()
    jumped.surprise, missed.misses, other = 0.4, 1, track_at(0.2)
    for worse in (jumped, doubted, missed):
        assert without_duplicates([worse, other, steady]) == [other, steady]


def test_the_nearest_missed_track_of_the_same_side():
    near, far, left = track_at(0.03), track_at(0.06), track_at(0.0, side="left")
    found = estimate_at(0.01)
    assert nearest_track([far, left, near], found, DT) is near
    assert nearest_track([left], found, DT) is None
    assert nearest_track([track_at(0.25)], found, DT) is None
    assert nearest_track([], found, DT) is None


def test_overlap_of_boxes():
    assert overlap(Box((5, 5), 2), Box((5, 5), 2)) == 1
    assert overlap(Box((5, 5), 2), Box((6, 5), 2)) == pytest.approx(1 / 3)
    assert overlap(Box((5, 5), 4), Box((5, 5), 2)) == pytest.approx(1 / 4)
    assert overlap(Box((5, 5), 2), Box((8, 5), 2)) == 0
