"""The report adds up, and the drawn frames show a hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hand_scenes import SceneDetector, SceneSession, coded_frame, posed_hand

from handmesh.benchmark.latency import (
    FRAME_S,
    TrackerCandidate,
    drawn_frames,
    taken_frames,
)
from handmesh.benchmark.sizes import BoxCandidate, measure_latency
from handmesh.machine import machine
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker


class Listed(SceneSession):
    """A perfect network that notes its name whenever it runs."""

    def __init__(self, scene, name, runs):
        super().__init__(scene)
        self.name, self.all_runs = name, runs

    def run(self, image_nhwc):
        self.all_runs.append(self.name)
        return super().run(image_nhwc)


def candidate_of(scene, name="only", runs=None):
    estimator = Estimator(Listed(scene, name, [] if runs is None else runs))
    return estimator, HandTracker(estimator, SceneDetector(scene), smooth="off")


def one_hand(number):
    return [posed_hand()]


def test_frames_are_counted_by_what_they_cost():
    frames = (coded_frame(n) for n in range(30))
    report = measure_latency({"only": candidate_of(one_hand)}, frames, warm_up=10)["only"]
    assert (report.look.frames, report.following.frames) == (20, 13)
    assert report.searching.frames == 7  # one of two hands in view: a search every third frame
    assert report.hands_per_frame == 1
    assert report.following.median("detect") == report.look.median("smooth") == 0
    for group in (report.look, report.following, report.searching):
        parts = sum(group.median(stage) for stage in ("crop", "network", "lift"))
        assert 0 < parts < 1.2 * group.median(), "medians of parts need not add up to less than that of the whole"
        assert group.median() <= group.stages_ms["track"].p90
        assert group.median("processor") > 0


def test_the_stages_of_a_call_are_parts_of_its_total():
    estimator, tracker = candidate_of(one_hand)
    for n in range(12):
        for candidate in (BoxCandidate(estimator), TrackerCandidate(tracker, drawn=False)):
            stages = candidate.see(coded_frame(n), n * FRAME_S).stages_ms
            assert 0 < sum(stages[stage] for stage in ("crop", "network", "lift")) < stages["track"]


def test_networks_take_turns():
    runs = []
    candidates = {name: candidate_of(one_hand, name, runs) for name in ("fast", "balanced")}
    runs.clear()
    reports = measure_latency(candidates, [coded_frame(n) for n in range(25)], warm_up=0)
    assert [report.look.frames for report in reports.values()] == [25, 25]
    rotations = [name for name, before in zip(runs, [None, *runs], strict=False) if name != before]
    assert rotations == ["fast", "balanced"] * 3


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="expected 11 or more"):
        measure_latency({"only": candidate_of(one_hand)}, [coded_frame(0)] * 10)


def test_drawn_frames_show_a_moving_hand():
    first, *_, last = drawn_frames(20, (160, 120))
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    assert np.abs(first.astype(int) - last).max() > 50


def test_recorded_frames_are_resized(tmp_path):
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), coded_frame(7, 100, 80))
    frames = [taken.image_rgb for taken in taken_frames(str(tmp_path), 2)]
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 2
    assert frames[0][0, 0, 0] == 7  # OpenCV wrote blue, green, red


def test_a_source_that_is_not_there():
    with pytest.raises(ValueError, match="no file or folder at nowhere"):
        next(taken_frames("nowhere.mp4", 5))


def test_machine_is_one_line():
    assert "Python" in machine()
    assert "\n" not in machine()
