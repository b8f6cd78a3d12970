"""The viewer: what is shipped is what the sources say, and in a browser it shows the hands that are streamed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import web_workspace

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")

from chromium import CHROMIUM, Page, browsing
from stream_clients import follow, publish, streaming, two_hands

from handmesh.app.player import Pacer, Player
from handmesh.app.stream import publishing as sending
from handmesh.assets import DEMO_CLIP, VIEWER
from handmesh.render.overlay import SIDE_COLOURS
from handmesh.streaming.server import StreamServer
from handmesh.types import Frame, Hand
from handmesh.video.sources import Video

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to look at the page")


class TestShipped:
    def test_is_built_from_these_sources(self, tmp_path) -> None:
        web_workspace.build("viewer", tmp_path)
        built, shipped = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in (tmp_path, VIEWER))
        assert built == shipped, "build the viewer anew: npm ci && npm run build in demo/web"

    def test_is_small_and_complete(self) -> None:
        assert sum(file.stat().st_size for file in VIEWER.iterdir()) < 800_000
        assert "Permission is hereby granted, free of charge" in (VIEWER / "three.LICENSE.txt").read_text()

    def test_loads_nothing_from_elsewhere(self) -> None:
        page, style = (VIEWER / "index.html").read_text(), (VIEWER / "index.css").read_text()
        assert all(link.startswith("./") for link in re.findall(r'(?:src|href)="([^"]*)"', page))
        assert "url(" not in style and "@import" not in style
        assert not re.search(r"import\s*\(|from\s*[\"']https?:", (VIEWER / "viewer.js").read_text())


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browsing() as page:
        yield page


@contextmanager
def publishing(server: StreamServer, hands: list[Hand]) -> Iterator[None]:
    """Frames of the same hands, ten a second."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            publish(server, hands)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def still(page: Page) -> np.ndarray:
    """The image once the page's camera has come to rest."""
    page.wait_for("handmesh.views.size > 0")
    before = None
    for _ in range(60):
        time.sleep(0.3)
        matrix = page.value("handmesh.stage.camera.matrixWorldInverse.toArray()")
        if before is not None and np.allclose(matrix, before, atol=2e-4):
            break
        before = matrix
    return page.image()


def mask(image: np.ndarray, side: str) -> np.ndarray:
    """(H, W) where the image has the hue of a side."""
    towards = np.array(SIDE_COLOURS[side]) - np.mean(SIDE_COLOURS[side])
    chroma = image - image.mean(2, keepdims=True)
    strength = chroma @ (towards / np.linalg.norm(towards))
    along = strength / np.maximum(np.linalg.norm(chroma, axis=2), 1e-6)
    seen = (strength > 20) & (along > 0.9)
    seen[:60], seen[-90:] = False, False  # the page's own lines
    return seen


def projected_px(page: Page, hand: Hand) -> np.ndarray:
    """(V, 2) where the page's camera sees a hand's vertices."""
    view = np.reshape(page.value("handmesh.stage.camera.matrixWorldInverse.toArray()"), (4, 4)).T
    projection = np.reshape(page.value("handmesh.stage.camera.projectionMatrix.toArray()"), (4, 4)).T
    points = np.c_[hand.vertices_m * [1, -1, -1], np.ones(len(hand.vertices_m))] @ (projection @ view).T
    width, height = page.value("[innerWidth, innerHeight]")
    return (points[:, :2] / points[:, 3:] * [0.5, -0.5] + 0.5) * [width, height]


def box(points: np.ndarray) -> np.ndarray:
    """(4,) left, top, right, bottom."""
    return np.concatenate([points.min(0), points.max(0)])


class Stoppable(Video):
    """A video that ends when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.over = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        return takewhile(lambda _: not self.over.is_set(), super().__iter__())


@needs_chromium
class TestInBrowser:
    def test_both_hands_are_where_they_should_be(self, page) -> None:
        page.complaints.clear()
        with streaming(token="a b") as (server, _), publishing(server, two_hands()):
            page.open(server.url)
            page.wait_for("document.getElementById('state').dataset.state === 'live'")
            image = still(page)
            for hand in two_hands():
                seen = np.argwhere(mask(image, hand.side))[:, ::-1]
                np.testing.assert_allclose(box(seen), box(projected_px(page, hand)), atol=4)
            page.wait_for("Number(document.getElementById('fps').value) > 0")
            assert 0 < float(page.value("document.getElementById('latency').value")) < 5000
        assert page.complaints == []

    def test_rig_looks_like_the_mesh(self, page) -> None:
        with streaming() as (server, _), publishing(server, two_hands()):
            page.open(server.url)
            page.wait_for("document.getElementById('state').dataset.state === 'live'")
            mesh = still(page)
            page.value("document.getElementById('rig').click()")
            page.wait_for("handmesh.connection.format === 'json' && handmesh.views.size === 2")
            rig = still(page)
            assert page.value("[...handmesh.views.values()].every((view) => view.rig.visible && !view.surface.visible)")
            names = page.value("[...handmesh.views.values()][0].rig.skeleton.bones.map((bone) => bone.name)")
        assert names[0] == "wrist" and names[-1] == "pinky-finger-tip"
        for side in ("left", "right"):
            shown, expected = mask(rig, side), mask(mesh, side)
            assert (shown & expected).sum() / (shown | expected).sum() > 0.85, side

    def test_joints_and_axes(self, page) -> None:
        with streaming() as (server, _), publishing(server, two_hands()):
            page.open(f"{server.url}?show=joints,axes", 390, 844)
            page.wait_for("document.getElementById('state').dataset.state === 'live'")
            still(page)
            assert page.value("[...handmesh.views.values()].every((view) => view.joints.visible && view.axes.visible)")
            assert page.value("document.documentElement.scrollWidth") == 390
            bottom = page.value("document.querySelector('.switches').getBoundingClientRect().bottom")
            assert bottom <= 844

    def test_says_which_hands_it_sees(self, page) -> None:
        """By name and colour; and says so where there are none."""
        seen = "['left', 'right'].map((side) => document.getElementById(side).dataset.seen).join(' ')"
        hint = "document.getElementById('hint')"
        with streaming() as (server, _):
            page.open(server.url)
            right, left = ([hand] for hand in two_hands())
            for hands, expected in ((right, "false true"), (left, "true false"), ([], "false false")):
                with publishing(server, hands):
                    page.wait_for(f"{seen} === '{expected}' && handmesh.connection.frames > 0")
                    if not hands:
                        page.wait_for(f"!{hint}.hidden && {hint}.textContent.startsWith('No hand in view')")
        for side, colour in SIDE_COLOURS.items():
            shown = page.value(f"getComputedStyle(document.getElementById('{side}'), '::before').backgroundColor")
            np.testing.assert_allclose([int(n) for n in re.findall(r"\d+", shown)], 255 * np.array(colour), atol=2)

    def test_a_full_stream_is_not_a_missing_one(self, page) -> None:
        with streaming(max_clients=1) as (server, _), publishing(server, two_hands()):
            with follow(server):
                page.open(server.url)
                page.wait_for("document.getElementById('state').dataset.state === 'full'")
                assert "--max-clients" in page.value("document.getElementById('hint').textContent")
            page.wait_for("document.getElementById('state').dataset.state === 'live'")

    def test_comes_back_by_itself(self, page) -> None:
        with streaming() as (server, _), publishing(server, two_hands()):
            page.open(server.url)
            page.wait_for("document.getElementById('state').dataset.state === 'live'")
            port = server.port
        page.wait_for("document.getElementById('state').dataset.state === 'lost'")
        assert page.value("handmesh.views.size") == 0
        with streaming(port=port) as (server, _), publishing(server, two_hands()):
            page.wait_for("document.getElementById('state').dataset.state === 'live'")

    def test_bundled_clip(self, page) -> None:
        from handmesh.tracking.tracker import HandTracker

        with streaming() as (server, _), HandTracker.load(num_hands=2, threads=1) as tracker:
            clip = Stoppable(DEMO_CLIP)
            page.open(server.url)
            player = Player(tracker, clip, pacer=Pacer.of(clip))
            thread = threading.Thread(target=player.play, args=(sending(player, server),))
            thread.start()
            try:
                page.wait_for("handmesh.views.size > 0")
                image = page.image()
            finally:
                clip.over.set()
                thread.join()
        assert sum(mask(image, side).sum() for side in ("left", "right")) > 3000
