"""Where to look next, and which of two tracks is the hand's."""

from __future__ import annotations

import numpy as np
import pytest
from hand_scenes import CAMERA, posed_hand

from handmesh.geometry import NEAREST_M, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.tracking.association import Track, deduplicate, is_covered, overlap, same_hand, track_of
from handmesh.tracking.estimator import Estimate
from handmesh.tracking.smoothing import HandSmoother
from handmesh.types import Box

DT = 1 / 30


def estimate_at(x_m=0.0, side="right", handedness_probability=1.0):
    hand = posed_hand((x_m, 0, 0.5), side=side)
    return Estimate(hand, Box.around(hand.joints_px), hand.score, handedness_probability)


def track_at(x_m=0.0, smooth="low", **changes):
    return Track.begin(0, HandSmoother(smooth, SkinnedHand.open_hand()), estimate_at(x_m, **changes), CAMERA, 0.0)


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
    steady, jumped, doubted, other = (track_at(x) for x in (0.0, -0.05, 0.0, 0.2))
    seen = {track: track.estimate for track in (steady, other)}
    for worse in ({jumped: steady.estimate}, {doubted: estimate_at(handedness_probability=0.1)}):
        assert set(deduplicate({**worse, **seen}, DT)) == {steady, other}


def test_a_missed_hand_is_carried_on_with_its_motion():
    track = track_at(0.0, smooth="off")
    track.update(estimate_at(0.02), CAMERA, DT)
    track.misses += 1
    ahead = track.predicted(CAMERA, 2 * DT)
    assert ahead.predicted and not track.hand.predicted
    assert ahead.joints_m - track.hand.joints_m == pytest.approx(np.tile([0.02, 0, 0], (21, 1)), abs=1e-6)
    assert ahead.vertices_m - track.hand.vertices_m == pytest.approx(0 * ahead.vertices_m + [0.02, 0, 0], abs=1e-6)
    assert np.allclose(ahead.joints_px, project(ahead.joints_m, CAMERA), atol=1e-3)


def test_a_carried_hand_stays_in_front_of_the_camera():
    track = track_at(0.0, smooth="off")
    track.velocity_m_s = np.array([0.0, 0.0, -100.0])
    assert track.predicted(CAMERA, DT).joints_m[:, 2].min() == pytest.approx(NEAREST_M, abs=1e-6)


def test_the_nearest_missed_track_of_the_same_side():
    near, far, left = track_at(0.03), track_at(0.06), track_at(0.0, side="left")
    away = track_at(0.25)
    for track in (near, far, left, away):
        track.misses = 1
    found = estimate_at(0.01)
    assert track_of([far, left, near], found, DT) is near
    assert track_of([left], found, DT) is None
    assert track_of([away], found, DT) is None
    assert track_of([away], found, 0.9) is not None  # it may have come so far meanwhile
    assert track_of([], found, DT) is None


def test_an_unsure_track_of_either_side_has_got_the_hand_about_it_wrong():
    found = estimate_at(0.02)
    for side in ("left", "right"):
        assert track_of([track_at(0.0, side=side)], found, DT) is not None
        assert track_of([track_at(0.15, side=side)], found, DT) is None


def test_overlap_of_boxes():
    assert overlap(Box((5, 5), 2), Box((5, 5), 2)) == 1
    assert overlap(Box((5, 5), 2), Box((6, 5), 2)) == pytest.approx(1 / 3)
    assert overlap(Box((5, 5), 4), Box((5, 5), 2)) == pytest.approx(1 / 4)
    assert overlap(Box((5, 5), 2), Box((8, 5), 2)) == 0


def test_boxes_that_a_hand_covers():
    """A box is covered by what is larger, not the other way round; hands side by side leave one another room."""
    hands = [estimate_at(0.0)._replace(box=Box((50, 50), 40)), estimate_at(0.3)._replace(box=Box((150, 50), 40))]
    for box, covered in [
        (Box((50, 50), 16), True),
        (Box((150, 65), 16), True),
        (Box((50, 50), 70), False),
        (Box((68, 50), 40), True),
        (Box((72, 50), 40), False),
        (Box((100, 50), 40), False),
    ]:
        assert is_covered(box, hands) == covered, box
    assert not is_covered(Box((50, 50), 16), [])
