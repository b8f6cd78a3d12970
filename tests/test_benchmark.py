"""The report adds up, and the drawn frames show a hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hand_scenes import coded_frame, posed_hand
from test_tracker import tracker_of

from handmesh.runtime.benchmark import drawn_frames, machine, measure_latency, recorded_frames


def test_frames_are_counted_by_what_they_cost():
    tracker = tracker_of(lambda number: [posed_hand()])
    report = measure_latency(tracker, (coded_frame(n) for n in range(30)), warm_up=10)
    assert report.following.frames == 16
    assert report.searching.frames == 4  # one of two hands in view: a search every fifth frame
    assert report.hands_per_frame == 1
    assert report.following.stages_ms["detect"] == (0, 0)
    median, high = report.following.stages_ms["total"]
    assert 0 < median <= high
    assert report.peak_memory_mb > 10


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="more than 10 frames"):
        measure_latency(tracker_of(lambda number: []), [coded_frame(0)] * 10)


def test_drawn_frames_show_a_moving_hand():
    first, *_, last = drawn_frames(20, (160, 120))
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    assert np.abs(first.astype(int) - last).max() > 50


def test_recorded_frames_are_resized(tmp_path):
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), coded_frame(7, 100, 80))
    frames = list(recorded_frames(str(tmp_path), 2))
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 2
    assert frames[0][0, 0, 0] == 7  # OpenCV wrote blue, green, red


def test_a_source_that_is_not_there():
    with pytest.raises(ValueError, match="no file or folder at nowhere"):
        next(recorded_frames("nowhere.mp4", 5))


def test_machine_is_one_line():
    assert "Python" in machine()
    assert "\n" not in machine()
