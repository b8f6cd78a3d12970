"""A report says the same in every form, and the images of single cases show what they should."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from handmesh.evaluation.datasets import Mesh
from handmesh.evaluation.metrics import Metric, metric
from handmesh.evaluation.report import Headline, Image, Report, Section, Table, heat_map
from handmesh.evaluation.review import PREDICTED, case_image, tiled
from handmesh.geometry import project
from handmesh.types import Camera


class Page(HTMLParser):
    """Fails where tags do not close in order; keeps texts, marked rows and images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.images: list[np.ndarray] = []
        self.marked = 0
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            kind, data = attributes["src"].split(",")
            assert kind == "data:image/png;base64"
            self.images.append(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB))
        self.marked += attributes.get("class") == "marked"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())


RED = np.full((4, 6, 3), (200, 10, 20), np.uint8)


@pytest.fixture
def report() -> Report:
    table = Table("Errors", ["name", "value, mm"], [["a & b", "1.5"], ["<ours>", "0.5"]], note="smaller", marked=[1])
    return Report(
        title="Title",
        subtitle="under it",
        setting={"machine": "this one", "threads": 2},
        sections=[
            Section("Numbers", [table]),
            Section("Images", (), [Image.of_image("a case", RED, "red")], "a legend"),
        ],
        headline=[Headline("error <of> joints", "5.1", "mm")],
        warnings=["beware"],
        notes=["what it means"],
    )


def test_the_page_is_well_formed_and_says_what_it_is_given(report):
    page = Page(report.html())
    said = {"Title", "under it", "a & b", "<ours>", "error <of> joints", "5.1", "beware", "this one", "2", "a legend"}
    assert said <= set(page.texts) and page.marked == 1
    np.testing.assert_array_equal(page.images[0], RED)


def test_all_forms_are_written_and_refer_to_the_images(report, tmp_path):
    files = {"metrics.json": {"a": float("nan")}, "samples.csv": {"n": np.arange(2)}, "scores.txt": "x: 1\n"}
    paths = report.write(tmp_path / "out", files)
    assert {path.name for path in paths} == {*files, "a case.png", "report.md", "report.html"}
    assert all(path.is_file() for path in paths)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == {"a": None}
    assert [row["n"] for row in csv.DictReader((tmp_path / "out/samples.csv").open())] == ["0", "1"]
    markdown = (tmp_path / "out/report.md").read_text()
    for line in ("# Title", "| a & b | 1.5 |", "| **<ours>** | **0.5** |", "![red](a%20case.png)", "- threads: 2"):
        assert line in markdown.splitlines()


def test_what_is_published_is_printed_and_named(report, tmp_path, capsys):
    report.publish(tmp_path, {"metrics.json": {}})
    printed = capsys.readouterr().out
    assert "<ours>" in printed and "report.md, metrics.json, 1 image" in " ".join(printed.split())
    assert (tmp_path / "metrics.json").is_file() and (tmp_path / "report.html").is_file()


def test_the_screen_shows_tables_in_full_however_narrow_it_is(report):
    console = Console(width=20, file=io.StringIO())
    wide = Table("", [f"a long column {k}" for k in range(9)], [["1"] * 9])
    hidden = Table("hidden", ["x"], [["y"]], on_screen=False)
    Report("", "", report.setting, [Section("", [wide, hidden])]).print(console)
    shown = console.file.getvalue()
    assert "a long column 8" in shown and "hidden" not in shown and "threads: 2" in shown


def test_heat_maps_write_the_numbers_in():
    figure = heat_map(np.array([[[1.0, 2.0]], [[30.0, 44.25]]]), ["row"], ["c", "d"], ["first", "second"], "mm")
    assert isinstance(figure, Figure)
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["1.0", "2.0"], ["30.0", "44.2"]]
    assert Image.of_figure("heat", figure).png.startswith(b"\x89PNG")


def test_a_metric_is_told_with_its_interval():
    assert str(Metric("error", 12.34, 11.0, 13.0, "mm", 5)) == "12.3 (11.0-13.0)"
    assert str(Metric("share", 0.1234, 0.1, 0.2, "", 5)) == "0.123 (0.100-0.200)"
    assert str(metric("nothing", [], "mm")) == "-" and metric("nothing", [], "mm").title == "nothing, mm"


def test_tiles_lie_in_rows_with_their_captions():
    sheet = tiled([(RED, str(k)) for k in range(3)], columns=2, gap=2)
    assert sheet.shape == (2 * (4 + 16) + 2, 2 * 6 + 2, 3)
    assert (sheet[:4, :6] == RED).all() and (sheet[22:26, :6] == RED).all() and (sheet[22:, 8:] == 255).all()


CAMERA = Camera(200.0, 200.0, 63.5, 63.5, 128, 128)
FACES = np.array([[0, 2, 1], [0, 3, 2]], np.int32)


def plate(depth_m: float, thick_m: float = 0.0) -> Mesh:
    """A square of 10 cm in front of the camera; `thick_m` tilts it in depth from left to right."""
    corners = np.array([[-0.05, -0.05, 0], [0.05, -0.05, thick_m], [0.05, 0.05, thick_m], [-0.05, 0.05, 0]])
    joints = np.linspace([-0.05, -0.05, 0], [0.05, 0.05, thick_m], 21)
    return Mesh(joints + [0, 0, depth_m], corners + [0, 0, depth_m])


def blue(example: np.ndarray) -> np.ndarray:
    """Where the predicted mesh is drawn."""
    red, _, azure = np.moveaxis(example.astype(int), -1, 0)
    return azure > red + 20


def test_a_case_shows_the_mesh_over_the_hand_and_from_the_side():
    size, image = 96, np.full((128, 128, 3), 120, np.uint8)
    truth = plate(0.5)
    drawn = case_image(image, CAMERA, truth, truth, FACES, size)
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
    """The prediction reaches 6 cm farther back at the image's right than the truth, which is flat."""
    size, image = 96, np.full((128, 128, 3), 120, np.uint8)
    side = case_image(image, CAMERA, plate(0.5, thick_m=0.06), plate(0.5), FACES, size)[:, 2 * size :]
    columns = np.flatnonzero(blue(side).any(0))
    assert np.ptp(columns) == pytest.approx(0.06 / 0.24 * size, abs=3)
    alone = case_image(image, CAMERA, plate(0.5, thick_m=0.06), None, FACES, size)
    assert (alone[:, :size] == 120).all(), "without labels no joints are drawn"
