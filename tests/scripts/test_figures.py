"""The scripts that make the docs' figures count rightly, and touch of a page only what is theirs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the generator is part of the train extra")

import draw_failures
import make_clip
from posed_hand import posed_hand

from handmesh.data.photos import LabelledHand
from handmesh.evaluation.datasets import Example, match
from handmesh.types import Camera


def test_the_table_alone_is_replaced():
    page = f"before\n{draw_failures.BEGIN}\nold\n{draw_failures.END}\nafter\n"
    assert draw_failures.with_table(page, "| new |", "these weights") == (
        f"before\n{draw_failures.BEGIN}\n| new |\n\nMeasured with these weights.\n{draw_failures.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="to put the table between"):
        draw_failures.with_table("no table here", "| new |", "these weights")


def test_both_hands_of_the_clip_are_before_the_camera():
    for scene in make_clip.SCENES:
        right, left = make_clip.cast(scene)
        assert (right.side, left.side) == ("right", "left")
        for time_s in np.linspace(0, make_clip.SCENE_FRAMES / make_clip.FPS, 5):
            assert 0.3 < right.at(time_s).wrist_m[2] < 0.8 and right.at(time_s).fingers_deg.shape == (15, 3)


def test_what_is_found_and_what_is_not_is_counted():
    camera = Camera.from_fov(384, 384)
    hands = [posed_hand(camera, (x, 0.0, 0.6), side=side) for side, x in (("right", -0.15), ("left", 0.15))]
    labels = [LabelledHand(hand.side, 1.0, hand.joints_px, hand.joints_m) for hand in hands]
    example = Example("pair", lambda: np.zeros((384, 384, 3), np.uint8), labels)
    both, one = (
        draw_failures.Row(draw_failures.KINDS[0], [(example, match(said, labels))]) for said in (hands, hands[:1])
    )
    assert both.cells() == ["100 % of 2", "100 %", "0.000", "0"]
    assert one.cells() == ["50 % of 2", "100 %", "0.000", "0"]
    picture = draw_failures.drawn(one)
    assert picture.shape[1] == draw_failures.SHOWN * draw_failures.TILE and picture.dtype == np.uint8
