"""What reports are put together from: charts, tables, pages and the pictures of single cases."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from handmesh.evaluation import html as html_module
from handmesh.evaluation.html import Series, line_chart, ticks
from handmesh.evaluation.sheets import PREDICTED, Posed, case_picture
from handmesh.geometry import project
from handmesh.types import Camera


def points_of(path: str) -> np.ndarray:
    return np.array([pair.split() for pair in re.findall(r"[ML]([\d. -]+)", path)], float)


def test_a_line_lies_where_its_numbers_say():
    x = np.array([0.0, 10.0, 20.0, 50.0])
    chart = ElementTree.fromstring(
        line_chart([Series("a & b", x, np.array([0.0, 50.0, np.nan, 100.0]))], "mm", "%", (0, 100), (400, 300))
    )
    line = next(path for path in chart.iter("path") if path.get("fill") == "none")
    drawn = points_of(line.get("d"))
    assert line.get("d").count("M") == 2, "a gap where there is no number"
    np.testing.assert_allclose((drawn[1] - drawn[0]) / (drawn[2] - drawn[0]), [10 / 50, 0.5], atol=0.01)
    assert drawn[2, 1] < drawn[0, 1], "up is more"
    texts = [text.text for text in chart.iter("text")]
    assert {"0", "50", "100", "mm", "%", "a & b"} <= set(texts)


def test_the_first_line_lies_on_top_and_a_legend_can_be_left_out():
    series = [Series(name, np.arange(3.0), np.arange(3.0)) for name in ("first", "second")]
    chart = ElementTree.fromstring(line_chart(series, "x", "y", legend=False))
    assert [title.text for title in chart.iter("title")] == ["second", "first"]
    assert "first" not in [text.text for text in chart.iter("text")]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0, 100), [0, 20, 40, 60, 80, 100]), ((0, 5), [0, 1, 2, 3, 4, 5]), ((0.0, 0.07), [0, 0.02, 0.04, 0.06])],
)
def test_ticks_are_round(limits, expected):
    np.testing.assert_allclose(ticks(*limits), expected, atol=1e-12)


class Tags(HTMLParser):
    """Fails where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_well_formed_and_says_what_it_is_given():
    blocks = [
        html_module.cards([("error <of> joints", "5.1", "mm")]),
        html_module.section("A & B", html_module.table(["name", "value"], [["a", "1"], ["b", "2"]], ours=[1])),
        html_module.heat_table(["r"], ["c", "d"], np.array([[1.0, np.nan]])),
        html_module.facts({"crop": "x"}),
        html_module.row(
            html_module.paragraph("text", "note"), html_module.picture(np.zeros((4, 4, 3), np.uint8), "a picture")
        ),
        html_module.strips({"fog": np.zeros((4, 8, 3), np.uint8)}),
        html_module.tiles([]),
    ]
    html = html_module.page("Title", "under it", *blocks)
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "error &lt;of&gt; joints" in html and "A &amp; B" in html and html.count('<tr class="ours">') == 1
    assert html.count("data:image/jpeg;base64,") == 2


def test_heat_is_darker_for_more():
    html = html_module.heat_table(["r"], list("abc"), np.array([[1.0, 2.0, 9.0]]), limits=(1.0, 3.0))
    colours = [tuple(map(int, found)) for found in re.findall(r"rgb\((\d+),(\d+),(\d+)\)", html)]
    assert sum(colours[0]) > sum(colours[1]) > sum(colours[2]) and colours[2] == (226, 120, 80)


CAMERA = Camera(200.0, 200.0, 63.5, 63.5, 128, 128)
FACES = np.array([[0, 2, 1], [0, 3, 2]], np.int32)


def plate(depth_m: float, thick_m: float = 0.0) -> Posed:
    """A square of 10 cm in front of the camera; `thick_m` tilts it in depth from left to right."""
    corners = np.array([[-0.05, -0.05, 0], [0.05, -0.05, thick_m], [0.05, 0.05, thick_m], [-0.05, 0.05, 0]])
    joints = np.linspace([-0.05, -0.05, 0], [0.05, 0.05, thick_m], 21)
    return Posed(joints + [0, 0, depth_m], corners + [0, 0, depth_m])


def blue(picture: np.ndarray) -> np.ndarray:
    """Where the predicted mesh is drawn."""
    red, _, azure = np.moveaxis(picture.astype(int), -1, 0)
    return azure > red + 20


def test_a_case_shows_the_mesh_over_the_hand_and_from_the_side():
    size, image = 96, np.full((128, 128, 3), 120, np.uint8)
    truth = plate(0.5)
    drawn = case_picture(image, CAMERA, truth, truth, FACES, size)
    labelled, mesh, side = np.split(drawn, 3, axis=1)
    assert not blue(labelled)[:8].any() and (labelled != 120).any()
    height_px = (
        np.ptp(project(truth.joints_m, CAMERA)[:, 1])
        * size
        / (1.6 * np.ptp(project(truth.joints_m, CAMERA), axis=0).max())
    )
    rows = np.flatnonzero(blue(mesh).any(1))
    assert len(rows) == pytest.approx(height_px, abs=2) and rows.mean() == pytest.approx((size - 1) / 2, abs=1)
    assert PREDICTED[2] > PREDICTED[0]
    assert (side != 248).any(-1).sum() < 3 * size, "a flat plate is a line from the side"


def test_from_the_side_depth_runs_to_the_right():
    """The prediction reaches 6 cm farther back at the picture's right than the truth, which is flat."""
    size, image = 96, np.full((128, 128, 3), 120, np.uint8)
    side = case_picture(image, CAMERA, plate(0.5, thick_m=0.06), plate(0.5), FACES, size)[:, 2 * size :]
    columns = np.flatnonzero(blue(side).any(0))
    assert np.ptp(columns) == pytest.approx(0.06 / 0.24 * size, abs=3)
    alone = case_picture(image, CAMERA, plate(0.5, thick_m=0.06), None, FACES, size)
    assert (alone[:, :size] == 120).all(), "without labels no joints are drawn"
