"""The metrics of followed hands are right on tracks made by hand, and a filmed sequence goes through all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hand_scenes import CAMERA, posed_hand
from rich.progress import Progress
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.evaluation import sequences
from handmesh.evaluation.metrics import acceleration_error, lag_s, rms_about_mean
from handmesh.evaluation.sequences import SEQUENCES, Truth
from handmesh.evaluation.tracking import TrackingOptions, follow, match, pooled, run_tracking, score
from handmesh.geometry import project
from handmesh.synthetic.sequences import HandState, Keyframes, Room, Trajectory, eased_between, with_noise
from handmesh.video.sources import Video

FRAME_S = 1 / 30
RIGHT, LEFT = posed_hand(), posed_hand((0.0, 0.02, 0.6), side="left", seed=1)


def moved(hand, shift_m, id=0, **changes):
    """`hand` elsewhere."""
    joints = hand.joints_m + np.asarray(shift_m)
    return replace(hand, joints_m=joints, joints_px=project(joints, CAMERA), id=id, **changes)


def truth_of(*tracks, seen=None, inside=None):
    """The truth of hands that are in these places, each a list by frame."""
    joints_m, joints_px = (
        np.stack([[getattr(hand, name) for hand in track] for track in tracks], axis=1)
        for name in ("joints_m", "joints_px")
    )
    ones = np.ones(joints_m.shape[:2])
    seen, inside = ones if seen is None else seen, ones if inside is None else inside
    sides = tuple(track[0].side for track in tracks)
    return Truth(np.arange(len(joints_m)) * FRAME_S, sides, joints_m, joints_px, inside, seen)


def scores_of(truth, said):
    return score(*match(truth, said))


def swing(count=90, hertz=1.0, late_frames=0.0):
    """Positions of a hand that swings 20 cm to either side, as it was so many frames ago."""
    phase = 2 * np.pi * hertz * (np.arange(count) - late_frames) * FRAME_S
    return np.stack([0.2 * np.sin(phase), 0.02 * np.cos(phase), 0.05 * np.sin(phase)], axis=1)


@pytest.mark.parametrize("late", [1.5, 0.0, -0.7, 3.2])
def test_lag_is_found_between_frames(late):
    times, true = np.arange(90) * FRAME_S, swing()
    said = 0.9 * swing(late_frames=late) + np.array([0.01, 0, 0.1])  # too small and beside it: neither is lag
    assert lag_s(times, said, true, 0.01) / FRAME_S == pytest.approx(late, abs=0.01)
    noisy = said + np.random.default_rng(0).normal(0, 0.002, said.shape)
    noisy[20:23] = np.nan
    assert lag_s(times, noisy, true, 0.01) / FRAME_S == pytest.approx(late, abs=0.05)


def test_what_does_not_move_has_no_lag():
    times, true = np.arange(90) * FRAME_S, 0.001 * swing()
    assert np.isnan(lag_s(times, true, true, 0.01))
    lost = np.full_like(true, np.nan)
    assert np.isnan(lag_s(times, lost, swing(), 0.01))


def test_a_track_that_is_unlike_the_true_one_has_no_lag():
    times, true = np.arange(90) * FRAME_S, swing()
    assert np.isnan(lag_s(times, true[:, [1, 0, 2]], true, 0.01))
    assert np.isnan(lag_s(times, swing(late_frames=8), true, 0.01))  # beyond the limits


def test_a_late_hand_is_late_in_the_image_and_in_space():
    truth = truth_of([moved(RIGHT, position) for position in swing()])
    late = scores_of(truth, [[moved(RIGHT, position)] for position in swing(late_frames=1.5)])
    assert late.lag_image_ms == pytest.approx(1500 * FRAME_S, abs=0.5)
    assert late.lag_position_ms == pytest.approx(1500 * FRAME_S, abs=0.5)
    assert np.isnan(late.lag_form_ms)  # fingers and rotation are still
    assert np.isnan(late.jitter_mm)


@pytest.mark.parametrize(("factor", "percent"), [(1.3, 30.0), (1.0, 0.0), (0.8, -20.0)])
def test_a_hand_that_swings_too_far_overshoots(factor, percent):
    truth = truth_of([moved(RIGHT, position) for position in swing()])
    said = [[moved(RIGHT, factor * position + (0.01, 0, 0))] for position in swing()]
    said[40] = [moved(RIGHT, (0.25, 0, 0))]  # a single mistake
    assert scores_of(truth, said).overshoot_percent == pytest.approx(percent, abs=1.5)
    assert np.isnan(scores_of(truth_of([RIGHT] * 90), [[RIGHT]] * 90).overshoot_percent)


def test_what_a_display_shows_later_is_compared_with_the_truth_of_then():
    """A hand that is told as it will be in 50 ms is in time for a display that shows it so late."""
    truth = truth_of([moved(RIGHT, position) for position in swing()])
    foretold = [[moved(RIGHT, position)] for position in swing(late_frames=-0.05 / FRAME_S)]
    seen = [[moved(RIGHT, position)] for position in swing()]
    later = truth.later(0.05)
    assert scores_of(later, foretold).lag_image_ms == pytest.approx(0, abs=0.5)
    assert scores_of(later, foretold).error_px < 0.1
    assert scores_of(later, seen).lag_image_ms == pytest.approx(50, abs=0.5)
    assert scores_of(later, foretold).visible == 88  # of the last two frames nothing is known
    for wrong in ({"display_ms": 300}, {"predict_ms": -1}):
        with pytest.raises(ValueError, match="must lie between 0 and 250"):
            TrackingOptions(**wrong).check()


def test_jitter_is_the_rms_about_the_mean():
    truth = truth_of([RIGHT] * 90)
    shifts = [(0.001 * (-1) ** k, 0, 0) for k in range(90)]
    means = scores_of(truth, [[moved(RIGHT, shift)] for shift in shifts])
    assert means.jitter_mm == pytest.approx(1, abs=1e-3)
    assert means.jitter_about_root_mm == pytest.approx(0, abs=1e-3)
    depth = RIGHT.joints_m[:, 2]
    assert means.jitter_px == pytest.approx(np.sqrt(np.mean((0.001 * CAMERA.fx / depth) ** 2)), rel=1e-3)
    noise = np.random.default_rng(0).normal(0, 0.002, (4000, 21, 3))
    assert rms_about_mean(noise) == pytest.approx(0.002 * np.sqrt(3), rel=0.01)
    fingers = moved(RIGHT, (0, 0, 0))
    fingers.joints_m[4] += 0.021
    means = scores_of(truth, [[fingers if k % 2 else RIGHT] for k in range(90)])
    assert means.jitter_about_root_mm == pytest.approx(1e3 * 0.0105 * np.sqrt(3 / 21), rel=1e-3)


def test_acceleration_error():
    time = np.arange(30)[:, None, None]
    true = np.broadcast_to(0.001 * time**2 * np.array([1.0, 0, 0]), (30, 21, 3))
    assert acceleration_error(true, true) == 0
    assert acceleration_error(true + 0.5, true) == pytest.approx(0)
    assert acceleration_error(0 * true, true) == pytest.approx(0.002)  # twice the factor of the square
    zigzag = true + 0.003 * (-1.0) ** time
    assert acceleration_error(zigzag, true) == pytest.approx(4 * 0.003 * np.sqrt(3))
    zigzag[10] = np.nan
    assert acceleration_error(zigzag, true) == pytest.approx(4 * 0.003 * np.sqrt(3))
    assert np.isnan(acceleration_error(np.full_like(true, np.nan), true))


def test_swapped_ids_count_as_such():
    positions = np.linspace(-0.2, 0.2, 40)
    tracks = [[moved(RIGHT, (x, 0, 0)) for x in positions], [moved(LEFT, (-x, 0, 0)) for x in positions]]
    kept = [[replace(a, id=0), replace(b, id=1)] for a, b in zip(*tracks, strict=True)]
    assert scores_of(truth_of(*tracks), kept).id_switches == 0
    swapped = [hands if k < 20 else [replace(hand, id=1 - hand.id) for hand in hands] for k, hands in enumerate(kept)]
    assert scores_of(truth_of(*tracks), swapped).id_switches == 2
    shuffled = [hands[::-1] if k % 2 else hands for k, hands in enumerate(kept)]
    assert scores_of(truth_of(*tracks), shuffled).id_switches == 0


def test_lost_frames_are_counted_while_the_hand_is_visible():
    said = [[] if k in (10, 11, 12, 30) else [RIGHT] for k in range(50)]
    counts = scores_of(truth_of([RIGHT] * 50), said)
    assert (counts.visible, counts.lost, counts.found, counts.id_switches) == (50, 4, 46, 0)
    seen = np.ones((50, 1))
    seen[10:13] = 0.3  # hidden behind the other hand
    scores = scores_of(truth_of([RIGHT] * 50, seen=seen), said)
    assert (scores.visible, scores.lost) == (47, 1)
    assert scores.lost_percent == pytest.approx(100 / 47)
    new = [[moved(RIGHT, (0, 0, 0), id=0 if k < 12 else 1)] if hands else [] for k, hands in enumerate(said)]
    assert scores_of(truth_of([RIGHT] * 50, seen=seen), new).id_switches == 1


def test_hands_that_are_not_there_and_hands_in_the_wrong_place():
    ghost = moved(RIGHT, (0.2, 0.05, 0), id=1)
    scores = scores_of(truth_of([RIGHT] * 50), [[RIGHT, ghost] if k < 5 else [RIGHT] for k in range(50)])
    assert (scores.false_positives, scores.lost, scores.false_percent) == (5, 0, 10)
    scores = scores_of(truth_of([RIGHT] * 50), [[ghost]] * 50)
    assert (scores.false_positives, scores.lost) == (50, 50)
    assert np.isnan(scores.error_px)


def test_sides():
    said = [[replace(RIGHT, side="left" if k in (20, 21) else "right")] for k in range(50)]
    counts = scores_of(truth_of([RIGHT] * 50), said)
    assert (counts.side_swaps, counts.wrong_side) == (2, 2)


def test_ids_and_sides_of_a_hand_that_is_hardly_visible_do_not_count_but_those_after_it_do():
    seen = np.ones((50, 1))
    seen[20:24] = 0.3
    said = [[moved(RIGHT, (0, 0, 0), id=1, side="left") if k in (21, 22) else RIGHT] for k in range(50)]
    counts = scores_of(truth_of([RIGHT] * 50, seen=seen), said)
    assert (counts.id_switches, counts.side_swaps, counts.wrong_side, counts.found) == (0, 0, 0, 50)
    astray = [[moved(RIGHT, (0.03, 0, 0.1))] if seen[k] < 0.5 else hands for k, hands in enumerate(said)]
    assert scores_of(truth_of([RIGHT] * 50, seen=seen), astray).error_px == pytest.approx(0, abs=1e-6)
    said[24:] = [[moved(RIGHT, (0, 0, 0), id=1)]] * 26
    assert scores_of(truth_of([RIGHT] * 50, seen=seen), said).id_switches == 1


def test_a_return_is_timed_and_may_bring_a_new_id():
    inside = np.ones((60, 1))
    inside[20:40] = 0
    truth = truth_of([RIGHT] * 60, inside=inside, seen=inside)
    back = [(0.02, 0, 0), (0.005, 0, 0)]  # a step of 15 mm in the second frame after it is seen again
    said = [[RIGHT]] * 20 + [[]] * 23 + [[moved(RIGHT, shift, id=1)] for shift in back + [back[-1]] * 15]
    scores = scores_of(truth, said)
    assert (scores.returns, scores.id_switches, scores.lost) == (1, 0, 3)
    assert scores.return_frames == 3
    assert scores.return_jump_mm == pytest.approx(15, abs=1e-3)
    gone = scores_of(truth, said[:40] + [[]] * 20)
    assert (gone.never_returned, gone.lost) == (1, 20)
    assert np.isnan(gone.return_frames)


def test_depth_and_accuracy():
    depths = np.linspace(-0.1, 0.3, 40)
    true = [moved(RIGHT, (0, 0, depth)) for depth in depths]
    larger = [[replace(hand, joints_m=1.1 * hand.joints_m)] for hand in true]  # looks the same in the image
    means = scores_of(truth_of(true), larger)
    root = np.array([hand.joints_m[skeleton.ROOT, 2] for hand in true])
    assert means.depth_percent == pytest.approx(10)
    assert means.depth_mm == pytest.approx(100 * root.mean())
    assert means.depth_scaled_mm == pytest.approx(0, abs=1e-3)
    assert means.depth_factor == pytest.approx(1 / 1.1)
    assert means.error_px == pytest.approx(0, abs=1e-6)
    assert means.pa_mpjpe_mm == pytest.approx(0, abs=1e-3)


def test_pooling_sums_counts_and_skips_what_was_not_measured():
    truth = truth_of([RIGHT] * 50)
    jittery = [[moved(RIGHT, (0.002 * (-1) ** k, 0, 0))] for k in range(50)]
    both = pooled([scores_of(truth, jittery), scores_of(truth, [[]] * 50)])
    assert (both.frames, both.visible, both.lost) == (100, 100, 50)
    assert both.jitter_mm == pytest.approx(2, abs=1e-3)


def test_as_many_frames_as_the_truth_has():
    with pytest.raises(ValueError, match="50 frames, got 3"):
        match(truth_of([RIGHT] * 50), [[RIGHT]] * 3)


def test_sequences_are_chosen_by_the_beginning_of_their_names():
    assert TrackingOptions().chosen() == list(SEQUENCES)
    assert TrackingOptions(sequences=("still", "fast")).chosen() == ["still", "fast wave"]
    assert TrackingOptions(sequences=("still,",)).chosen() == ["still, near", "still, far"]
    with pytest.raises(ValueError, match="unknown sequence 'jump'; choose from still, still, near"):
        TrackingOptions(sequences=("jump",)).check()
    with pytest.raises(ValueError, match="--num-hands must be at least 1"):
        TrackingOptions(num_hands=0).check()


@pytest.fixture(scope="module")
def room() -> Room:
    return Room(3, CAMERA.width, CAMERA.height)


@pytest.mark.parametrize("name", SEQUENCES)
def test_scripts_keep_to_what_hands_can_do(room, name):
    script = SEQUENCES[name].script(np.random.default_rng(0))
    times = np.arange(0, script.seconds, 1 / 15)
    hands = [room.hands(script.trajectories, float(time), CAMERA) for time in times]
    for k in range(len(script.trajectories)):
        inside, seen = (np.array([getattr(one[k], what) for one in hands]) for what in ("inside", "seen"))
        steps = np.linalg.norm(np.diff([one[k].joints_m[skeleton.ROOT] for one in hands], axis=0), axis=-1)
        assert inside[0] > 0.95, "a hand begins in the image"
        assert seen[0] > 0.95
        assert (seen <= inside + 0.02).all()
        assert steps.max() * 15 < 2.2, "metres a second"
        leaves = "leave" in name and script.trajectories[k].side == "right"
        assert (inside.min() == 0) == leaves
        assert (seen.min() < 0.3) == (leaves or (name == "crossing" and k == 1))


def test_left_hands_are_filmed_as_left_hands(room):
    state = HandState(np.zeros((15, 3)), Rotation.identity(), np.array([-0.1, 0.1, 0.5]))
    right, left = room.hands([Trajectory(side, lambda time_s: state) for side in ("right", "left")], 0.0, CAMERA)
    np.testing.assert_allclose(left.joints_m, right.joints_m * [-1, 1, 1], atol=1e-6)
    assert right.joints_px[0, 0] < CAMERA.cx < left.joints_px[0, 0]
    assert right.seen == right.inside == 1


def test_keys_are_passed_at_rest():
    keyframes = Keyframes(
        np.array([1.0, 2.0, 4.0]), np.arange(3)[:, None, None] * np.ones((3, 15, 3)), Rotation.identity(3)
    )
    assert [float(keyframes.at(time)[0][0, 0]) for time in (0.0, 1.0, 1.5, 2.0, 3.0, 9.0)] == [0, 0, 0.5, 1, 1.5, 2]
    near = eased_between(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.01)
    assert near < 0.001


def test_noise_is_a_sensors_own_and_the_same_each_time():
    grey = np.full((200, 200, 3), 120, np.uint8)
    noisy, again, other = (with_noise(grey, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(noisy, again)
    assert (noisy != other).any()
    assert noisy.std() == pytest.approx(np.sqrt(1.2**2 + 0.02 * 120 + 1 / 12), rel=0.05)
    assert with_noise(np.zeros_like(grey), [1]).std() < noisy.std()


def test_a_hand_that_stays_looks_the_same_while_the_other_leaves(room):
    trajectories = SEQUENCES["one of two leaves"].script(np.random.default_rng(0)).trajectories
    early, late = (room.render_scene(trajectories, time_s, CAMERA).astype(int) for time_s in (0.5, 2.5))
    middle = CAMERA.width // 2
    assert np.abs(early - late)[:, :middle].max() > 50
    np.testing.assert_array_equal(early[:, middle:], late[:, middle:])


def test_the_nearer_hand_hides_the_other(room):
    def at(depth_m):
        return lambda time_s: HandState(np.zeros((15, 3)), Rotation.identity(), np.array([0, 0.15 * depth_m, depth_m]))

    near, far = Trajectory("right", at(0.4)), Trajectory("left", at(0.8))
    both, alone = room.render_scene([near, far], 0.0, CAMERA), room.render_scene([near], 0.0, CAMERA)
    np.testing.assert_array_equal(both, room.render_scene([far, near], 0.0, CAMERA))
    truth = room.hands([near, far], 0.0, CAMERA)
    assert truth[0].seen == 1
    assert truth[1].seen < 0.5
    palm = truth[0].joints_px[[0, 5, 17]].mean(0).astype(int)
    np.testing.assert_array_equal(both[palm[1], palm[0]], alone[palm[1], palm[0]])


def test_a_moving_hand_is_blurred(room):
    def at(time_s):
        return HandState(np.zeros((15, 3)), Rotation.identity(), np.array([2.0 * time_s, 0.1, 0.5]))

    sharp, blurred = (room.render_scene([Trajectory("right", at)], 0.0, CAMERA, exposure) for exposure in (0.0, 0.01))
    steepest = [np.abs(np.diff(image.astype(int), axis=1)).max() for image in (sharp, blurred)]
    assert steepest[1] < 0.5 * steepest[0]


@pytest.fixture(scope="module")
def still() -> sequences.RenderedSequence:
    return sequences.render_scene("still, far", 0, Progress(disable=True), limit=2)


def test_a_still_hand_differs_by_noise_alone(still):
    first, second = (frame.image_rgb.astype(int) for frame in still.frames())
    np.testing.assert_array_equal(still.pngs[0], still.pngs[1])
    assert 0.5 < np.abs(first - second).mean() < 4
    np.testing.assert_array_equal(first, next(still.frames()).image_rgb)
    speed = still.speed()
    assert (speed.fastest_px_s, speed.fastest_cm_s, speed.frames) == (0, 0, 2)
    assert speed.nearest_m == pytest.approx(1.1, abs=0.1)


class Told:
    """Stands in for a tracker: sees nothing, notes what it is told."""

    def __init__(self):
        self.times_s, self.hand_size_m = [], 0.17

    def reset(self):
        self.times_s = []

    def track(self, frame_rgb, time_s, camera, predict_s):
        assert predict_s == 0.03
        assert frame_rgb.shape == (camera.height, camera.width, 3)
        self.times_s.append(time_s)
        return []


def test_the_tracker_is_told_times_and_if_asked_the_hand_size(still):
    tracker, bar = Told(), Progress(disable=True)
    assert follow({"low": tracker}, still, TrackingOptions(hand_size="true", predict_ms=30), bar) == {"low": [[], []]}
    assert tracker.times_s == [0, pytest.approx(FRAME_S)]
    joints = still.truth.joints_m[0, 0]
    names = ["wrist", "middle1", "middle2", "middle3", "middle4"]
    chain = joints[[skeleton.KEYPOINTS.index(name) for name in names]]
    assert tracker.hand_size_m == pytest.approx(sum(np.linalg.norm(b - a) for a, b in pairwise(chain)))
    follow({"low": tracker}, still, TrackingOptions(predict_ms=30), bar)
    assert tracker.hand_size_m is None


def test_the_whole_of_it(tmp_path, monkeypatch, capsys):
    nearer = SEQUENCES["still, far"]._replace(script=sequences.still((0.05, 0.09, 0.9), 1.2))
    monkeypatch.setitem(SEQUENCES, "still, far", nearer)
    asked = {"model": "fast", "sequences": ("still, far",), "num_hands": 1, "frames": tmp_path / "frames"}
    run_tracking(TrackingOptions(**asked, smooth=("off", "high"), output=tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "tracking.json").read_text())
    off, high = written["sequences"]
    assert (off["smooth"], high["smooth"]) == ("off", "high")
    assert off["lost"] == high["lost"] == off["id_switches"] == 0
    assert off["frames"] == 36
    assert 0 < high["jitter_px"] < off["jitter_px"] < 5
    assert off["pa_mpjpe_mm"] < 20
    assert off["lag_image_ms"] is None  # it does not move
    assert len(written["targets"]) == 8
    assert all(target["met"] for target in written["targets"])
    assert (tmp_path / "out" / "tracking.png").stat().st_size > 5000
    assert "still, far" in capsys.readouterr().out

    monkeypatch.setattr(Room, "render_scene", lambda *_: pytest.fail("rendered again"))
    again = TrackingOptions(**asked, smooth=("off",), draw=tmp_path / "drawn", output=tmp_path / "again")
    assert run_tracking(again).scores("off").pa_mpjpe_mm == pytest.approx(off["pa_mpjpe_mm"], abs=1e-6)
    assert sum(1 for _ in Video(tmp_path / "drawn" / "still-far-off.mp4")) == 36
