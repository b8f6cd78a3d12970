"""What is counted of gestures read of rendered hands, and that these hands are what they are said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gesture_hands import hand_doing, pinching

from handmesh.evaluation.gestures import (
    BOX,
    DRAWN,
    OTHER,
    SIZE_PX,
    TRACKER,
    TRUTH,
    WAYS,
    Answer,
    Case,
    GesturesOptions,
    HandSource,
    RenderedHand,
    distance_table,
    evidence_table,
    found_table,
    fractions,
    sheet,
)
from handmesh.gestures import GestureReader
from handmesh.synthetic.config import Sources
from handmesh.types import Hand


@pytest.fixture(scope="module")
def source() -> HandSource:
    """With one skin, which is painted quickly."""
    return HandSource(3, Sources(painted_skins=1))


def read(hand: Hand | RenderedHand | None) -> Answer:
    """As `Reader` answers."""
    return Answer(hand, None if hand is None else GestureReader().read([hand])[0])


def case(drawn: str, true: Hand, tracked: Hand | None) -> Case:
    """Whose joints with a given box are the true ones."""
    answers = dict(zip(WAYS, map(read, (true, true, tracked)), strict=True))
    return Case(drawn, answers, np.zeros((144, 144, 3), np.uint8))


@pytest.mark.parametrize("drawn", [*DRAWN, OTHER])
def test_hands_are_what_they_are_drawn_as(source: HandSource, drawn: str):
    """Their true joints say so; left and right in turn, inside the image; thumbs up are up there."""
    for index in (0, 1):
        hand = source.draw(drawn, index)
        assert hand.side == ("left" if index else "right")
        assert hand.image.shape == (SIZE_PX, SIZE_PX, 3)
        assert (hand.joints_px > 0).all() and (hand.joints_px < SIZE_PX).all()
        reading = read(hand).reading
        assert reading.gesture == drawn if drawn != OTHER else not reading.pinches


def test_equal_numbers_draw_equal_hands(source: HandSource):
    first, again, other = (source.draw("point", index) for index in (1, 1, 3))
    assert (first.image == again.image).all() and (first.image != other.image).any()


def test_a_left_hand_shows_its_joints_where_they_are(source: HandSource):
    """The mean over its joints differs more from the ground than that over their mirror images does."""
    for index in (1, 3, 5):
        hand = source.draw("open", index)
        x, y = hand.joints_px.astype(int).T
        skin = hand.image[y, x].astype(float)
        mirrored = hand.image[y, SIZE_PX - 1 - x].astype(float)
        assert np.median(np.abs(skin - np.median(skin, 0))) <= np.median(np.abs(mirrored - np.median(skin, 0)))


def test_lost_hands_are_no_gestures_and_no_false_pinches():
    rng = np.random.default_rng(0)
    pinch, opened = pinching(0, 0), hand_doing("open", rng)
    cases = [case("pinch", pinch, pinch), case("pinch", pinch, None), case("pinch", pinch, opened)]
    cases += [case("open", opened, opened), case("open", opened, None)]
    cases += [case(OTHER, opened, None), case(OTHER, opened, pinch)]
    assert fractions(cases, TRACKER) == {"pinch": pytest.approx(1 / 3), "open": 0.5, "false pinches": 0.5}
    assert fractions(cases, TRUTH) == {"pinch": 1.0, "open": 1.0, "false pinches": 0.0}
    rows = {row[0]: row[1:] for row in found_table(cases).rows}
    assert rows["pinch"] == ("3", "100.0%", "100.0%", "33.3%", "33.3%")
    assert sheet(cases, wrong=True) is not None and sheet(cases[:1], wrong=True) is None


def test_distances_are_those_of_a_hand_of_its_true_length():
    """A tracker that sees all at half the size tells the same distance; one that opens the hand tells more."""
    pinch = pinching(2, 4)
    rows = []
    for tracked in (replace(pinch, joints_m=pinch.joints_m / 2), hand_doing("open", np.random.default_rng(0)), None):
        true, _, of_tracker = distance_table([case("pinch", pinch, tracked)]).rows
        rows.append((true, of_tracker))
    assert rows[0][0][1:] == rows[0][1][1:]
    assert float(rows[1][1][3]) > 30 and rows[1][1][5] == "0.0%"
    assert rows[2][1][1:] == ("0", "-", "-", "-", "-")


def test_each_kind_of_evidence_is_counted_by_itself():
    """A pinch whose joints are apart is found by contact, a touch that is told wrongly is a false one."""
    pinch, opened = pinching(0, 0), hand_doing("open", np.random.default_rng(0))
    sure, none = np.float32([0.999, 0, 0, 0]), np.zeros(4, np.float32)
    told = [("pinch", pinch, sure), ("pinch", pinch, none), ("pinch", opened, sure), ("pinch", None, none)]
    told += [(OTHER, opened, none), (OTHER, opened, np.float32([0, 0, 0.7, 0]))]
    cases = []
    for drawn, hand, contact in told:
        seen = hand and replace(hand, contact=contact)
        answers = dict(zip(WAYS, map(read, (pinch, pinch, seen)), strict=True))
        cases.append(
            Case(drawn, answers | {BOX: read(replace(pinch, contact=sure))}, np.zeros((144, 144, 3), np.uint8))
        )
    rows = {row[0]: row[1:] for row in evidence_table(cases).rows}
    assert rows["the distance alone"][2:] == ("50.0%", "0.0%")
    assert rows["contact alone, likelier than not"][2:] == ("50.0%", "50.0%")
    assert rows["both, as they are read"][0] == "100.0%"
    silent = evidence_table([case("pinch", pinch, pinch), case(OTHER, opened, opened)])
    assert silent.rows[0][1:] == ("100.0%", "0.0%", "100.0%", "0.0%")
    assert {cell for row in silent.rows[1:] for cell in row[1:]} == {"-"} and "does not tell contact" in silent.note


def test_at_least_one_hand_is_asked_for():
    with pytest.raises(ValueError, match="--others must be at least 1, got 0"):
        GesturesOptions(output=Path(), others=0)
