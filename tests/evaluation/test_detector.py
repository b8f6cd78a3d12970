"""What a detector finds, and what it takes for hands, by threshold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from test_pipeline import make_hand, write_photos

from handmesh.detection import Detection
from handmesh.evaluation.detector import DetectorOptions, evaluate_detector, false_alarm_table, found_table
from handmesh.types import Box


def test_hands_and_false_alarms_are_counted_from_each_threshold_on(tmp_path):
    """A detector that sees one hand everywhere, its score between two thresholds; 10.png is held out, 0.png is not."""
    hand = make_hand()
    seen = Detection(Box.around(hand.joints_px), "left", 0.42)
    detector = SimpleNamespace(detect=lambda image, threshold: [seen])
    folder = write_photos(tmp_path / "set", {"0.png": [hand], "10.png": [hand]})
    table = found_table(detector, folder)
    assert table.title == "set: 1 hands in 1 images"
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["0.40"] == ("100.0%", "0.0%", "0.0", "0.000", "1.00") and rows["0.45"][0] == "0.0%"
    alarms = dict(false_alarm_table(detector, folder).rows)
    assert alarms["0.40"] == "100.0" and alarms["0.45"] == "0.0"


def test_a_detector_is_measured_on_something():
    with pytest.raises(ValueError, match="no data sets"):
        evaluate_detector(DetectorOptions())
