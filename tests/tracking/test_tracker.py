"""The tracker on scenes of known hands, with networks that answer perfectly, late, wrongly or not at all."""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest
from hand_scenes import CAMERA, SceneDetector, SceneSession, coded_frame, posed_hand
from PIL import Image

from handmesh.assets import ModelFileError, model_path
from handmesh.detection import Detection
from handmesh.files import ImageError
from handmesh.tracking.association import TrackerConfig
from handmesh.tracking.estimator import COMPANION, Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import MIN_SCORE, Box, Camera

DT = 1 / 30


def tracker_of(scene, detector=None, session=None, **options):
    """A tracker with perfect networks for `scene`; `tracker.session` and `.detector` are these networks."""
    session, detector = session or SceneSession(scene), detector or SceneDetector(scene)
    tracker = HandTracker(Estimator(session), detector, **{"smooth": "off", **options})
    tracker.session, tracker.detector = session, detector
    return tracker


def play(tracker, numbers):
    """What `track` gives for the frames of these numbers, 30 a second."""
    return [tracker.track(coded_frame(n), n * DT, CAMERA) for n in numbers]


def seen(results):
    """The ids of the hands that were seen in each frame, without those that are carried on."""
    return [[hand.id for hand in hands if not hand.predicted] for hands in results]


def error_m(hand, truth):
    return max(np.abs(hand.joints_m - truth.joints_m).max(), np.abs(hand.vertices_m - truth.vertices_m).max())


RIGHT, LEFT = posed_hand((0.14, 0.02, 0.5), (0.2, 0.4, 0.3)), posed_hand((-0.15, 0, 0.6), (0.1, 0.2, -0.9), "left")


def both(number):
    return [RIGHT, LEFT]


def waving(number):
    """One right hand that swings quickly from side to side."""
    return [posed_hand((0.15 * math.sin(number * 0.25), 0.02, 0.55), (0, 0, 0.3 * math.sin(number * 0.2)))]


def visible_in(numbers, hands=(RIGHT,)):
    return lambda number: list(hands) if number in numbers else []


# --- one image ---


def test_detect_gives_both_hands_exactly():
    hands = tracker_of(both).detect(coded_frame(0), CAMERA)
    assert [hand.id for hand in hands] == [0, 1]
    by_side = {hand.side: hand for hand in hands}
    assert error_m(by_side["right"], RIGHT) < 1e-3
    assert error_m(by_side["left"], LEFT) < 1e-3
    assert np.abs(by_side["left"].joints_px - LEFT.joints_px).max() < 0.5
    assert by_side["left"].vertices_m.dtype == by_side["left"].joints_px.dtype == np.float32


def test_images_come_as_files_as_pillows_and_in_lists(tmp_path):
    """Files are PNGs, which keep what a coded frame says."""
    tracker, frame = tracker_of(both), coded_frame(0)
    Image.fromarray(frame).save(tmp_path / "hands.png")
    expected = tracker.detect(frame)
    kinds = [str(tmp_path / "hands.png"), tmp_path / "hands.png", Image.fromarray(frame)]
    for hands in (*map(tracker.detect, kinds), *tracker.detect([frame, *kinds])):
        assert [error_m(hand, truth) for hand, truth in zip(hands, expected, strict=True)] == [0, 0]
    assert tracker.detect([]) == []
    assert len(tracker.track(Image.fromarray(frame), 0.0)) == 2
    with pytest.raises(ImageError, match="no image at"):
        tracker.detect([frame, tmp_path / "none.png"])
    with pytest.raises(ValueError, match="got int"):
        tracker.detect([1])


def test_hands_are_shown_ahead_and_followed_as_without():
    """By 40 ms; what is shown is nearer to where the hand then is, and the next frames are none the wiser."""
    plain, ahead = tracker_of(waving), tracker_of(waving)
    shown = [ahead.track(coded_frame(n), n * DT, CAMERA, predict_s=0.04) for n in range(12)]
    assert all(hands[0].id == 0 and not hands[0].predicted for hands in shown)
    followed = play(plain, range(12))
    truth = waving(11 + 0.04 / DT)[0]
    assert error_m(shown[-1][0], truth) < 0.4 * error_m(followed[-1][0], truth)
    assert error_m(ahead.track(coded_frame(12), 12 * DT, CAMERA)[0], play(plain, [12])[0][0]) == 0
    for wrong in (-0.01, 0.3, math.nan, "0"):
        with pytest.raises(ValueError, match="predict_s must"):
            ahead.track(coded_frame(0), 1.0, CAMERA, predict_s=wrong)


def test_hands_need_the_score_that_is_asked_for(monkeypatch):
    """These have one of 0.73."""
    session = Doctored(both, lambda outputs, _: outputs.update(presence=np.array([1.0], np.float32)))
    for least, found in ((0.7, 2), (0.8, 0)):
        tracker = tracker_of(both, session=session, config=TrackerConfig.of_min_score(least))
        assert len(tracker.detect(coded_frame(0), CAMERA)) == found
    assert TrackerConfig.of_min_score(MIN_SCORE) == TrackerConfig()
    with pytest.raises(ValueError, match=r"min_score must lie between 0 and 1, got 1\.1"):
        HandTracker.load("fast", min_score=1.1)


def test_a_tracker_says_in_short_what_it_is():
    with HandTracker.load("fast", num_hands=3) as tracker:
        assert repr(tracker) == "HandTracker(fast on CPU, smooth=low, following 0 of 3 hands)"
    assert repr(tracker).endswith("closed)")
    assert repr(RIGHT) == "Hand(right, id=0, score=1.00, 0.48 m away)"


def test_detect_keeps_no_state():
    tracker = tracker_of(both)
    first = play(tracker, range(3))[-1]
    tracker.detect(coded_frame(0))
    assert [hand.id for hand in play(tracker, [3])[0]] == [hand.id for hand in first]


def test_detect_gives_at_most_num_hands():
    hands = [posed_hand((x, 0, 0.9)) for x in (-0.25, 0, 0.25)]
    assert len(tracker_of(lambda _: hands).detect(coded_frame(0), CAMERA)) == 2
    assert len(tracker_of(lambda _: hands, num_hands=4).detect(coded_frame(0), CAMERA)) == 3


class RedIsRed(SceneDetector):
    """A detector that finds nothing in coded frames of number 0 with red and blue swapped, and counts its calls."""

    tried = 0

    def detect(self, image_rgb, threshold):
        self.tried += 1
        return [] if image_rgb[..., 2].any() else super().detect(image_rgb, threshold)


@pytest.mark.parametrize("call", ["detect", "track"])
def test_red_and_blue_swapped_by_mistake_are_told_once(call):
    tracker = tracker_of(both, RedIsRed(both))
    look = getattr(tracker, call)
    with pytest.warns(UserWarning, match=r"red and blue swapped.*give image\[\.\.\., ::-1\]") as told:
        for _ in range(12):
            assert look(coded_frame(0)[..., ::-1], camera=CAMERA) == []
    assert len(told) == 1 and told[0].filename == __file__ and tracker.detector.tried == 13
    assert len(look(coded_frame(0), camera=CAMERA)) == 2


@pytest.mark.parametrize(("hands", "presence"), [([], 8.0), ([RIGHT], 1.0)])
def test_without_a_sure_hand_in_either_order_nothing_is_said(recwarn, hands, presence):
    """The second is a hand with a score of 0.73."""
    session = Doctored(lambda _: hands, lambda outputs, _: outputs.update(presence=np.array([presence], np.float32)))
    tracker = tracker_of(None, RedIsRed(lambda _: hands), session)
    for _ in range(30):
        assert tracker.detect(coded_frame(0)[..., ::-1], CAMERA) == []
    assert tracker.detector.tried == 32 and not recwarn.list


def test_grey_images_are_not_looked_at_with_red_and_blue_swapped():
    tracker = tracker_of(lambda _: [])
    assert tracker.detect(np.full((48, 64, 3), 90, np.uint8)) == [] and tracker.detector.calls == 1


class Given:
    """A detector that always finds the same."""

    def __init__(self, *detections):
        self.detections, self.calls = list(detections), 0

    def detect(self, image_rgb, threshold):
        self.calls += 1
        return self.detections


def box_of(hand, scale=1.0):
    return Box.around(hand.joints_px, scale)


def test_a_wrong_side_from_the_detector_is_corrected():
    detector = Given(Detection(box_of(RIGHT), "left", 0.9), Detection(box_of(LEFT), "right", 0.8))
    hands = {hand.side: hand for hand in tracker_of(both, detector).detect(coded_frame(0), CAMERA)}
    assert error_m(hands["right"], RIGHT) < 1e-3
    assert error_m(hands["left"], LEFT) < 1e-3


@pytest.mark.parametrize(
    ("right_in_net", "side_score", "expected", "looks"),
    [(2.0, 0.99, "right", 2), (-1.0, 0.99, "right", 4), (-1.0, 0.6, "left", 4), (8.0, 0.6, "right", 2)],
)
def test_both_networks_decide_whose_hand_it_is(right_in_net, side_score, expected, looks):
    """The mesh network leans by `right_in_net` towards what the detector says, in every pass; the detector's odds count
    three quarters of that."""
    session = SceneSession(lambda _: [RIGHT])
    run = session.run

    def unsure(image):
        outputs = run(image)
        return outputs | {"right": np.sign(outputs["right"]) * np.float32(right_in_net)}

    session.run = unsure
    detector = Given(Detection(box_of(RIGHT), "right", 0.9, side_score))
    tracker = HandTracker(Estimator(session), detector)
    (hand,) = tracker.detect(coded_frame(0), CAMERA)
    assert hand.side == expected
    assert session.runs == 2 * looks, (
        "either doubts, so both sides are looked at, turned as well where that says little"
    )


@pytest.mark.parametrize(
    ("straight", "turned", "expected"), [(-0.5, 2.0, "right"), (-0.5, 0.1, "left"), (-3.0, 9.0, "left")]
)
def test_looks_at_turned_boxes_decide_where_there_is_doubt(straight, turned, expected):
    """The network leans by `straight` towards the detector's side in the first four looks, then by `turned`."""
    session = SceneSession(lambda _: [RIGHT])
    run = session.run

    def leaning(image):
        outputs = run(image)
        lean = straight if session.runs <= 4 else turned
        return outputs | {"right": np.sign(outputs["right"]) * np.float32(lean)}

    session.run = leaning
    tracker = HandTracker(Estimator(session), Given(Detection(box_of(RIGHT), "right", 0.9, 0.5)))
    (hand,) = tracker.detect(coded_frame(0), CAMERA)
    assert hand.side == expected


@pytest.mark.parametrize(("worse", "expected"), [(1.0, "left"), (2.0, "right"), (0.5, "left")])
def test_the_side_as_which_its_joints_fit_better_speaks_for_itself(worse, expected):
    """Both networks lean a little to the left; the errors that are expected there are `worse` times as large."""

    def change(outputs, run):
        if outputs["right"] < 0:  # shown as if it were a left one
            outputs["spread"] = outputs["spread"] * np.float32(worse)
        outputs["right"] = np.sign(outputs["right"]) * np.float32(-0.3)

    session = Doctored(lambda _: [RIGHT], change)
    tracker = HandTracker(Estimator(session), Given(Detection(box_of(RIGHT), "right", 0.9, 0.6)))
    (hand,) = tracker.detect(coded_frame(0), CAMERA)
    assert hand.side == expected


ANOTHER = posed_hand((-0.15, 0, 0.6), (0.1, 0.2, -0.9), "left", seed=1)


def pair_of(doubt, scene, hand=ANOTHER):
    """A session whose network sees the side of `hand` wrongly, by `doubt` times what it sees others rightly by."""

    def change(outputs, run):
        if np.allclose(outputs["shape"], hand.shape):
            outputs["right"] *= -doubt

    return Doctored(scene, change)


@pytest.mark.parametrize(("doubt", "sides"), [(0.3, ["right", "left"]), (1.0, ["right", "right"])])
def test_two_hands_in_an_image_are_of_opposite_sides_unless_much_speaks_against_it(doubt, sides):
    hands = [RIGHT, ANOTHER]
    detector = Given(*(Detection(box_of(hand), "right", 0.9, 0.9) for hand in hands))
    found = tracker_of(None, detector, pair_of(doubt, lambda _: hands)).detect(coded_frame(0), CAMERA)
    assert [hand.side for hand in found] == sides
    assert error_m(found[0], RIGHT) < 1e-3 and (error_m(found[1], ANOTHER) < 1e-3) == (sides[1] == "left")


@pytest.mark.parametrize(("doubt", "sides"), [(0.3, ["left", "right"]), (1.0, ["right", "right"])])
def test_a_followed_hand_changes_its_side_for_a_surer_one_of_that_side(doubt, sides):
    """It keeps its id."""

    def scene(number):
        return [ANOTHER] if number < 5 else [ANOTHER, RIGHT]

    results = play(tracker_of(scene, session=pair_of(doubt, scene)), range(12))
    assert [hand.side for hand in results[4]] == ["right"]
    assert [(hand.id, hand.side) for hand in results[-1]] == list(enumerate(sides))


@pytest.mark.parametrize(("doubt", "side"), [(0.3, "left"), (1.0, "right")])
def test_a_hand_beside_one_of_the_other_side_needs_more_to_change_its_own(doubt, side):
    scene = visible_in(range(100), [RIGHT, ANOTHER])
    session = pair_of(0.0, scene)
    session.change = lambda outputs, run: pair_of(doubt, scene).change(outputs, run) if run > 20 else None
    results = play(tracker_of(scene, session=session), range(40))
    assert [hand.side for hand in results[5]] == ["right", "left"]
    assert [hand.side for hand in results[-1]] == ["right", side]


FAR, AS_RIGHT = (
    posed_hand((-0.15, 0, z), (0.1, 0.2, -0.9), side, seed=1) for z, side in ((1.6, "left"), (0.6, "right"))
)


@pytest.mark.parametrize(
    ("hands", "found"),
    [([RIGHT, ANOTHER], 2), ([ANOTHER, RIGHT], 2), ([ANOTHER], 0), ([RIGHT, AS_RIGHT], 1), ([RIGHT, FAR], 1)],
)
def test_a_hand_that_is_unsure_is_found_beside_a_sure_one_of_the_other_side_and_like_size(hands, found):
    def change(outputs, run):
        if np.allclose(outputs["shape"], ANOTHER.shape):
            outputs["presence"] = np.array([-0.2], np.float32)

    seen = tracker_of(lambda _: hands, session=Doctored(lambda _: hands, change)).detect(coded_frame(0), CAMERA)
    assert len(seen) == found
    if found == 2:
        assert [hand.side for hand in seen] == ["right", "left"]
        assert seen[1].score == pytest.approx(1 / (1 + math.exp(0.2 - COMPANION)), abs=1e-4)


def test_several_detections_of_one_hand_give_one_hand():
    shifted = Box((box_of(RIGHT).centre_px[0] + 60, box_of(RIGHT).centre_px[1]), 150)
    boxes = [box_of(RIGHT), box_of(RIGHT, 1.3), shifted]
    detector = Given(*(Detection(box, side, 0.9) for box in boxes for side in ("right", "left")))
    tracker = tracker_of(both, detector, num_hands=5)
    assert len(tracker.detect(coded_frame(0), CAMERA)) == 1
    assert tracker.session.runs == 2 + 2 + 4  # first box, shifted box, again with both sides


def test_a_detection_that_is_no_hand_is_dropped():
    detector = Given(Detection(Box((60, 60), 80), "right", 0.9), Detection(box_of(RIGHT), "right", 0.8))
    tracker = tracker_of(both, detector)
    hands = tracker.detect(coded_frame(0), CAMERA)
    assert len(hands) == 1
    assert error_m(hands[0], RIGHT) < 1e-3
    assert tracker.session.runs == 1 + 2  # for nothing, two estimates of the hand


@pytest.mark.parametrize("size", [0.0, -3.0, 1e-9, math.inf, math.nan, 1e9])
def test_useless_boxes_from_the_detector_do_no_harm(size):
    assert tracker_of(both, Given(Detection(Box((60, 60), size), "right", 0.9))).detect(coded_frame(0)) == []


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_passes_are_estimates_of_a_new_hand(passes):
    tracker = tracker_of(visible_in([0]), passes=passes)
    before = tracker.session.runs
    tracker.detect(coded_frame(0))
    assert tracker.session.runs - before == passes


def test_without_a_camera_a_usual_one_is_assumed():
    assert error_m(tracker_of(both).detect(coded_frame(0))[0], RIGHT) < 1e-3


# --- a video ---


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_waving_hand_keeps_its_id_and_place(side):
    def scene(number):
        position = (0.15 * math.sin(number * 0.25), 0.02, 0.55)
        return [posed_hand(position, (0, 0, 0.3 * math.sin(number * 0.2)), side)]

    for number, hands in enumerate(play(tracker_of(scene), range(60))):
        assert [hand.id for hand in hands] == [0]
        assert error_m(hands[0], scene(number)[0]) < 1e-3


def test_hands_that_cross_at_a_distance_keep_their_ids():
    def scene(number):
        x = 0.16 * math.cos(number / 40 * math.pi)
        return [posed_hand((x, -0.11, 0.7)), posed_hand((-x, 0.11, 0.7), side="left")]

    for number, hands in enumerate(play(tracker_of(scene), range(41))):
        assert [hand.id for hand in hands] == [0, 1]
        assert all(error_m(hand, truth) < 2e-3 for hand, truth in zip(hands, scene(number), strict=True))


def test_the_whole_frame_is_searched_only_when_hands_are_missing():
    tracker = tracker_of(both)
    play(tracker, range(20))
    assert tracker.detector.calls == 1
    tracker = tracker_of(visible_in(range(100)))  # one of two
    play(tracker, range(21))
    tracker.close()  # the last search may still be under way
    assert tracker.detector.calls == 7
    tracker = tracker_of(visible_in([]))
    play(tracker, range(10))
    assert tracker.detector.calls == 12  # of two frames also with red and blue swapped
    tracker = tracker_of(visible_in(range(100)), num_hands=1)
    play(tracker, range(21))
    assert tracker.detector.calls == 1


def test_a_second_hand_is_found_while_the_first_is_followed():
    results = play(tracker_of(lambda n: [RIGHT, LEFT] if n >= 3 else [RIGHT]), range(12))
    assert [hand.id for hand in results[-1]] == [0, 1]
    assert all(hands[0].id == 0 and error_m(hands[0], RIGHT) < 1e-3 for hands in results)


@pytest.mark.parametrize("side", ["left", "right"])
def test_fingers_that_are_taken_for_a_hand_begin_none_beside_theirs(side):
    fingers = posed_hand((0.42, 0.0, 1.5), (0.2, 0.4, 0.3), side, seed=1)  # a third as large, within the other's box
    results = play(tracker_of(lambda n: [RIGHT, fingers] if n >= 3 else [RIGHT]), range(12))
    assert seen(results) == [[0]] * 12
    assert len(tracker_of(lambda _: [RIGHT, fingers]).detect(coded_frame(0), CAMERA)) == 1
    beside = posed_hand((-0.42, 0.0, 1.5), (0.2, 0.4, 0.3), side, seed=1)
    assert len(tracker_of(lambda _: [RIGHT, beside]).detect(coded_frame(0), CAMERA)) == 2


def test_a_hand_whose_fingers_were_followed_takes_their_place():
    """From frame 3 on the detector sees all of it; a hand of the other side would be one behind it."""
    for side, ids in (("right", [0]), ("left", [0, 1])):
        fingers = posed_hand((0.42, 0.0, 1.5), (0.2, 0.4, 0.3), side, seed=1)
        results = play(tracker_of(lambda n, part=fingers: [part, RIGHT] if n >= 3 else [part]), range(12))
        assert seen(results)[-1] == ids
        assert error_m(results[-1][-1], RIGHT) < 1e-3
    together = tracker_of(lambda _: [posed_hand((0.42, 0.0, 1.5), (0.2, 0.4, 0.3), seed=1), RIGHT])
    (hand,) = together.detect(coded_frame(0), CAMERA)
    assert error_m(hand, RIGHT) < 1e-3


def test_a_lost_hand_comes_back_with_a_new_id():
    results = play(tracker_of(visible_in([*range(10), *range(45, 55)])), range(55))
    assert seen(results) == [[0]] * 10 + [[]] * 35 + [[1]] * 10


def test_a_hand_that_is_hidden_for_less_than_a_second_keeps_its_id():
    results = play(tracker_of(visible_in([*range(10), *range(30, 40)])), range(40))
    assert seen(results) == [[0]] * 10 + [[]] * 20 + [[0]] * 10


def test_a_hand_that_is_missed_is_carried_on_for_two_frames():
    results = play(tracker_of(visible_in([*range(10), *range(15, 20)])), range(20))
    assert [[hand.id for hand in hands] for hands in results] == [[0]] * 12 + [[]] * 3 + [[0]] * 5
    assert [hand.predicted for hands in results[8:12] for hand in hands] == [False, False, True, True]
    assert error_m(results[11][0], RIGHT) < 1e-3


def test_a_hand_that_jumps_is_found_again_in_the_same_frame():
    there = posed_hand((-0.15, 0.0, 0.6))
    results = play(tracker_of(lambda n: [RIGHT] if n < 5 else [there]), range(10))
    assert all(len(hands) == 1 for hands in results)
    assert error_m(results[5][0], there) < 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_track_that_slides_onto_another_hand_ends(side):
    """A hand vanishes near another one, so that its crop shows the other one."""
    stays, vanishes = posed_hand((0.058, -0.058, 0.5)), posed_hand((0, 0, 0.5), side=side)
    tracker = tracker_of(lambda n: [vanishes, stays] if n < 5 else [stays])
    results = play(tracker, range(12))
    assert [hand.id for hand in results[4]] == [0, 1]
    for hands in results[5:]:
        assert seen([hands]) == [[1]]
        assert error_m(hands[-1], stays) < 1e-3
    assert all(len(hands) == 1 for hands in results[7:])  # the other is carried on no longer


def test_two_hands_that_are_missed_together_come_back_as_themselves():
    pair = [posed_hand((0.08, 0, 0.9)), posed_hand((-0.08, 0, 0.9))]
    results = play(tracker_of(lambda n: [] if n in (5, 6) else pair[:: 1 if n < 5 else -1]), range(12))
    assert seen(results[5:7]) == [[], []]
    for hands in results[:5] + results[7:]:
        assert [hand.id for hand in hands] == [0, 1]
        assert all(error_m(hand, truth) < 3e-3 for hand, truth in zip(hands, pair, strict=True))


def test_a_missed_track_is_taken_up_by_one_hand_only():
    scenes = {4: [], 5: [posed_hand((0.1, 0, 0.9)), posed_hand((-0.1, 0, 0.9))]}
    results = play(tracker_of(lambda n: scenes.get(n, [posed_hand((0, 0, 0.9))])), range(6))
    assert seen(results)[5] == [0, 1]


class Doctored(SceneSession):
    """A mesh network whose answers are changed by `change(outputs, run)`."""

    def __init__(self, scene, change):
        super().__init__(scene)
        self.change = change

    def run(self, image_nhwc):
        outputs = super().run(image_nhwc)
        self.change(outputs, self.runs)
        return outputs


def with_logits(name, logits):
    """A session whose hand has this logit in each frame: found with the first, then followed."""
    scene, state = visible_in(range(1000)), iter(logits)

    def change(outputs, run):
        if outputs["presence"][0] > 0:
            outputs[name] = np.array([next(state)], np.float32)

    return scene, Doctored(scene, change)


def test_a_score_that_dips_is_followed_but_not_found_afresh():
    weak = math.log(0.35 / 0.65)
    scene, session = with_logits("presence", [3.0, weak, weak, 3.0])
    results = play(tracker_of(scene, session=session, passes=1, num_hands=1), range(4))
    assert [[hand.id for hand in hands] for hands in results] == [[0]] * 4
    assert results[1][0].score == pytest.approx(0.35, abs=0.01)
    scene, session = with_logits("presence", [weak] * 4)
    assert play(tracker_of(scene, session=session, passes=1, num_hands=1), range(4)) == [[], [], [], []]


@pytest.mark.parametrize("num_hands", [1, 2])
@pytest.mark.parametrize(("ghost_score", "held"), [(0.5, False), (0.95, True)])
def test_an_unsure_hand_is_put_where_the_detector_sees_it(ghost_score, held, num_hands):
    """From frame 4 on the hand is elsewhere, and what is followed is something that looks a little like one."""
    ghost, there = posed_hand((0.01, 0.0, 0.5), seed=5), posed_hand((0.055, 0.0, 0.5))

    def change(outputs, run):
        if np.allclose(outputs["shape"][0], ghost.shape):
            outputs["presence"] = np.array([math.log(ghost_score / (1 - ghost_score))], np.float32)

    session = Doctored(lambda n: [RIGHT_HERE] if n < 4 else [ghost, there], change)
    tracker = tracker_of(lambda n: [RIGHT_HERE] if n < 4 else [there], session=session, passes=1, num_hands=num_hands)
    results = play(tracker, range(10))
    assert all(hands[0].id == 0 for hands in results), "the hand stays itself"
    assert error_m(results[4][0], ghost) < 1e-3
    assert error_m(results[-1][0], ghost if held else there) < 1e-3
    assert all(len(hands) == 1 for hands in results), "where one hand is, no other one is seen"


RIGHT_HERE = posed_hand((0.0, 0.0, 0.5))


def test_the_side_survives_some_doubt_but_not_much():
    def doubtful(frames):
        scene = visible_in(range(1000))

        def change(outputs, run):
            if 5 < run <= 5 + frames:  # while it lasts, the network sees a left hand
                outputs["right"] *= -1

        return play(tracker_of(scene, session=Doctored(scene, change), num_hands=1), range(30))

    assert {hand.side for hands in doubtful(4) for hand in hands} == {"right"}
    results = doubtful(1000)
    assert results[0][0].side == "right"
    assert results[-1][0].side == "left"
    assert {hand.id for hands in results for hand in hands} == {0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e20])
def test_numbers_that_are_none_never_come_out(value):
    def change(outputs, run):
        if run % 3 == 0:
            outputs["joints_m"] = np.full((1, 21, 3), value, np.float32)

    results = play(tracker_of(waving, session=Doctored(waving, change), smooth="low"), range(30))
    hands = [hand for hands in results for hand in hands]
    assert len(hands) >= 15
    assert all(is_finite(hand) for hand in hands)


def is_finite(hand):
    fields = (hand.vertices_m, hand.joints_m, hand.joints_px, hand.pose, hand.shape, hand.score)
    return all(np.isfinite(field).all() for field in fields)


class Nonsense(SceneSession):
    """A mesh network that makes hands up."""

    rng = np.random.default_rng(0)

    def run(self, image_nhwc):
        outputs = dict(self.nothing)
        for name, size in (("joints_m", 0.5), ("joints_crop", 0.7), ("vertices_m", 0.5), ("shape", 50.0)):
            outputs[name] = self.rng.uniform(-size, size, outputs[name].shape).astype(np.float32)
        for name in ("presence", "right"):
            outputs[name] = self.rng.normal(1, 4, 1).astype(np.float32)
        return outputs


def test_nonsense_from_the_network_stays_finite():
    tracker = tracker_of(both, session=Nonsense(both), smooth="low")
    times = np.cumsum(Nonsense.rng.choice([DT, 0.0, -5.0, 3.0, 1e-9], 200))
    results = [tracker.track(coded_frame(n), float(times[n]), CAMERA) for n in range(200)]
    hands = [hand for hands in results for hand in hands]
    assert len(hands) > 50
    assert all(is_finite(hand) for hand in hands)


def test_smoothing_is_on_by_default_and_starts_anew_when_time_jumps():
    moved = posed_hand((0.15, 0.02, 0.5), (0.2, 0.4, 0.3))
    for gap, is_smoothed in ((DT, True), (5.0, False), (0.0, False), (-1.0, False)):
        tracker = tracker_of(lambda n: [moved if n else RIGHT], smooth="low")
        tracker.track(coded_frame(0), 10.0)
        (hand,) = tracker.track(coded_frame(1), 10.0 + gap)
        assert hand.id == 0
        assert (error_m(hand, moved) > 1.5e-3) == is_smoothed


def test_motion_is_predicted():
    """A hand that moves by half its own size each frame is followed without a search."""

    def scene(number):
        x_px = 60 + 6 * number**2 if number < 6 else 66 * number - 120  # speeds up, then stays quick
        return [posed_hand(((x_px - CAMERA.cx) / CAMERA.fx * 0.9, 0, 0.9))]

    tracker = tracker_of(scene, num_hands=1)
    assert all([hand.id for hand in hands] == [0] for hands in play(tracker, range(11)))
    assert tracker.detector.calls == 1


def test_a_hand_that_leaves_the_image_is_lost():
    def scene(number):
        return [posed_hand((0.02 * number, 0, 0.5))]

    results = play(tracker_of(scene), range(40))
    assert len(results[10]) == 1
    assert results[-1] == []


def test_a_frame_of_another_size_starts_a_new_video():
    tracker = tracker_of(both)
    assert [hand.id for hand in play(tracker, range(3))[-1]] == [0, 1]
    tracker.session.camera = Camera.from_fov(320, 240)
    small = tracker.track(coded_frame(3, 320, 240), 3 * DT)
    assert all(hand.id >= 2 for hand in small)


def test_reset_plays_the_same_again():
    tracker = tracker_of(waving, smooth="low")
    first = play(tracker, range(10))
    assert [hand.id for hand in play(tracker, [10])[0]] == [0]
    tracker.reset()
    for a, b in zip(first, play(tracker, range(10)), strict=True):
        assert a[0].id == b[0].id
        assert np.array_equal(a[0].vertices_m, b[0].vertices_m)


def test_timings_of_the_last_call():
    tracker = tracker_of(visible_in(range(10)), num_hands=1)
    play(tracker, [0])
    found = tracker.timings_ms
    assert list(found) == ["detect", "crop", "network", "lift", "smooth", "total"]
    assert all(ms > 0 for ms in found.values())
    assert sum(found.values()) - found["total"] <= found["total"]
    play(tracker, [1])
    assert tracker.timings_ms["detect"] == 0
    assert tracker.timings_ms["network"] > 0


# --- bad input ---

FRAME = coded_frame(0)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "NumPy array"),
        ([[1, 2], [3, 4]], "NumPy array"),
        (FRAME[..., 0], "grey"),
        (FRAME[..., :1], "grey"),
        (np.dstack([FRAME, FRAME[..., :1]]), "alpha"),
        (FRAME[None], "one image"),
        (FRAME.transpose(2, 0, 1), "colour last"),
        (FRAME.astype(np.float32) / 255, "0..255"),
        (FRAME.astype(np.uint16) * 257, "0..255"),
        (FRAME[:0], "16 to"),
        (FRAME[:, :0], "16 to"),
        (FRAME[:15], "16 to"),
        (np.zeros((16, 40000, 3), np.uint8), "to 32766 pixels"),
    ],
)
@pytest.mark.parametrize("call", ["detect", "track"])
def test_other_images_are_refused(call, frame, message):
    with pytest.raises(ValueError, match=message) as caught:
        getattr(tracker_of(both), call)(frame)
    assert "\n" not in str(caught.value)


def test_a_refused_frame_changes_nothing():
    tracker = tracker_of(both)
    play(tracker, range(2))
    with pytest.raises(ValueError, match="grey"):
        tracker.track(FRAME[..., 0], 2 * DT)
    assert [hand.id for hand in play(tracker, [3])[0]] == [0, 1]


def test_views_are_welcome():
    reversed_twice = np.ascontiguousarray(FRAME[..., ::-1])[..., ::-1]
    assert len(tracker_of(both).detect(reversed_twice)) == 2


@pytest.mark.parametrize("time_s", [math.nan, math.inf, "now", [1.0], 10**400])
def test_times_are_finite(time_s):
    with pytest.raises(ValueError, match="time_s must be"):
        tracker_of(both).track(FRAME, time_s)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (Camera.from_fov(320, 240), "320x240"),
        (Camera(0.0, 500.0, 320, 240, 640, 480), "focal lengths"),
        (Camera(500.0, math.nan, 320, 240, 640, 480), "focal lengths"),
        (Camera(500.0, 500.0, math.inf, 240, 640, 480), "focal lengths"),
    ],
)
def test_cameras_fit_their_images(camera, message):
    with pytest.raises(ValueError, match=message):
        tracker_of(both).track(FRAME, 0.0, camera)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_hands": 0}, "num_hands"), ({"passes": 0}, "passes"), ({"smooth": "medium"}, "off, low, high")],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        tracker_of(both, **options)


def test_load_names_the_choices():
    with pytest.raises(ValueError, match="unknown backend 'tensorrt'; known are onnxruntime"):
        HandTracker.load(backend="tensorrt")
    with pytest.raises(ModelFileError, match="no model file at nowhere"):
        HandTracker.load("nowhere/mine.onnx")
    with pytest.raises(ModelFileError, match=r"unknown model 'balancd'; bundled are: .*balanced"):
        HandTracker.load("balancd")


def test_another_detector_can_be_loaded():
    """A mesh network in its place is refused: what is given is what is opened."""
    with pytest.raises(ModelFileError, match="holds a 'mesh' network where a 'detector' network is expected"):
        HandTracker.load("fast", threads=1, detector=model_path("fast"))


# --- threads, processes, the end ---


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")


def seen_in_a_fork(tracker, number):
    """The ids that a forked process sees in this frame."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=lambda: answers.put(seen(play(tracker, [number]))), daemon=True)
    child.start()
    try:
        return answers.get(timeout=30)
    finally:
        child.kill()
        child.join()


@forks
def test_a_forked_process_follows_hands_with_threads_of_its_own():
    with tracker_of(both) as tracker:
        tracker.side_by_side = True
        play(tracker, range(3))
        assert seen_in_a_fork(tracker, 3) == seen(play(tracker, [3])) == [[0, 1]]


@forks
def test_a_forked_process_waits_for_no_search_of_its_parent():
    begun, released = threading.Event(), threading.Event()

    class Held(SceneDetector):
        def detect(self, image_rgb, threshold):
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                released.wait(60)
            return super().detect(image_rgb, threshold)

    hands = [RIGHT]
    with tracker_of(lambda _: hands, Held(lambda _: hands)) as tracker:
        numbers = iter(range(100))
        while not begun.is_set():
            play(tracker, [next(numbers)])
            begun.wait(0.1)
        number = next(numbers)
        assert seen_in_a_fork(tracker, number) == [[0]]
        released.set()
        assert seen(play(tracker, [number])) == [[0]]


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_tracker_cannot_be_copied_and_says_so_in_a_line(take):
    with pytest.raises(TypeError, match=r"^a HandTracker cannot be pickled or copied: load one .*$"):
        take(tracker_of(both))


def test_a_closed_tracker_says_so():
    with tracker_of(both) as tracker:
        play(tracker, range(2))
    uses = [tracker.reset, tracker.__enter__, lambda: tracker.detect(coded_frame(0)), lambda: play(tracker, [2])]
    for use in uses:
        with pytest.raises(ValueError, match=r"^the tracker is closed: load another one$"):
            use()
    tracker.close()


@pytest.mark.parametrize("name", ["num_hands", "passes"])
@pytest.mark.parametrize("value", [1.5, 0, -1, None, "2", 10**400])
def test_counts_that_are_none_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*$"):
        tracker_of(both, **{name: value})


@pytest.mark.parametrize("value", [10**400, "0.18", 1j])
def test_hand_sizes_that_are_no_numbers_are_refused_at_once(value):
    with pytest.raises(ValueError, match=r"^a hand's size in metres must be a number, got"):
        tracker_of(both, hand_size_m=value)


@pytest.mark.parametrize("value", [10**400, "now", 1j])
def test_times_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"^time_s must be a number, got"):
        tracker_of(both).track(coded_frame(0), value)


@pytest.mark.parametrize("smooth", ["silky", None, ["low"], 10**400])
def test_unknown_smoothing_is_refused_at_once(smooth):
    with pytest.raises(ValueError, match="unknown smoothing"):
        tracker_of(both, smooth=smooth)


@pytest.mark.parametrize("name", ["model", "detector"])
@pytest.mark.parametrize("value", [None, 7, ["fast"]])
def test_a_network_is_named_by_words(name, value):
    with pytest.raises(ModelFileError, match=f"a {name} is a name or a path, got a {type(value).__name__}"):
        HandTracker.load(**{name: value})
