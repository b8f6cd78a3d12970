"""Rigged and animated hands in three.js, in headless Chromium: its vertices are ours, and it draws a hand."""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import web_workspace
from PIL import Image
from scipy.spatial.transform import Rotation
from test_gltf import HAND, SEAMS, track

from handmesh import skeleton
from handmesh.geometry import mirror_faces
from handmesh.types import Hand
from handmesh.xr.gltf import VIEW_FROM_CAMERA, Track, animated_glb, rigged_glb

PAGE = Path(__file__).parents[1] / "web" / "gltf"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
PATIENCE_S = 120


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page's folder, and takes what the page posts."""

    def __init__(self, *args, results: queue.Queue, **kwargs) -> None:
        self._results = results
        super().__init__(*args, **kwargs)

    def do_POST(self) -> None:
        self._results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Iterator[dict[str, dict]]:
    """What three.js made of the files, by the case's name."""
    web_workspace.require_packages()
    if not CHROMIUM:
        pytest.skip("needs Chromium")
    folder = tmp_path_factory.mktemp("page")
    for name in ("check.html", "check.js"):
        shutil.copy(PAGE / name, folder)
    (folder / "node_modules").symlink_to(web_workspace.NODE_MODULES)
    (folder / "cases.json").write_text(json.dumps(write_cases(folder)))
    posted = _opened(folder)
    assert "error" not in posted, posted["error"]
    images = Path(os.environ.get("HANDMESH_IMAGES", folder))
    for result in posted["results"]:
        data = base64.b64decode(result["image"].split(",")[1])
        (images / f"{result['name']}.png").write_bytes(data)
        result["image"] = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return {result["name"]: result for result in posted["results"]}


def _opened(folder: Path) -> dict:
    """What the page in `folder` posts."""
    posted: queue.Queue = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), results=posted))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/check.html"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", address]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return posted.get(timeout=PATIENCE_S)
    except queue.Empty:
        pytest.fail(f"the page said nothing for {PATIENCE_S} seconds")
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
        server.server_close()


def write_cases(folder: Path) -> list[dict]:
    """The files, and for each what to do with it and where its vertices then are."""
    cases = []
    for side in ("right", "left"):
        recorded, vertices = track(side, np.arange(1), scale=1.05)
        (folder / f"rigged_{side}.glb").write_bytes(rigged_glb(HAND, recorded.shapes[0], side, 1.05))
        expected = in_scene(vertices[0])
        cases.append(
            {"kind": "rigged", "name": side, "file": f"rigged_{side}.glb", "record": record(recorded), **expected}
        )
        (folder / "flat").mkdir(exist_ok=True)
        (folder / "flat" / f"{side}.glb").write_bytes(rigged_glb(HAND, recorded.shapes[0], side, 1.05, flat=True))
        joints = xr_joints(recorded, vertices[0])
        cases.append(
            {"kind": "webxr", "name": f"webxr {side}", "folder": "flat/", "side": side, "joints": joints, **expected}
        )
    return [*cases, animated_case(folder)]


def in_scene(vertices_m: np.ndarray) -> dict[str, list[float]]:
    return {"vertices": (vertices_m[SEAMS.vertex] @ VIEW_FROM_CAMERA).ravel().round(7).tolist()}


def record(recorded: Track) -> dict:
    """The first frame, as a clip's JSON has it."""
    rotations = Rotation.from_matrix(recorded.poses[0]).as_quat().tolist()
    knuckle = recorded.joints_m[0, skeleton.ROOT].tolist()
    return {"joints": skeleton.MANO_JOINTS, "pose_xyzw": rotations, "middle_knuckle_m": knuckle}


def xr_joints(recorded: Track, vertices_m: np.ndarray) -> dict[str, dict]:
    faces = HAND.faces if recorded.side == "right" else mirror_faces(HAND.faces)
    joints_px = np.zeros((21, 2))
    shape = recorded.shapes[0]
    hand = Hand(vertices_m, recorded.joints_m[0], joints_px, recorded.side, 1.0, recorded.poses[0], shape, faces)
    poses = hand.to_webxr()
    named = zip(poses.names, poses.positions_m.tolist(), poses.orientations_xyzw.tolist(), strict=True)
    return {name: {"position": position, "quaternion": quaternion} for name, position, quaternion in named}


def animated_case(folder: Path) -> dict:
    """A left hand in all frames, and a right one in some; the last key, which is drawn, shows both."""
    times, away = np.array([0.0, 0.1, 0.25, 0.3]), np.array([1, 3])
    (left, left_m), (right, right_m) = track("left", np.arange(4), seed=7), track("right", away, seed=8)
    (folder / "animated.glb").write_bytes(animated_glb([left, right], times, HAND))
    keys = [{"time_s": t, "hands": {"left_1_mesh": in_scene(left_m[k])["vertices"]}} for k, t in enumerate(times)]
    for k, frame in enumerate(away):
        keys[frame]["hands"]["right_1_mesh"] = in_scene(right_m[k])["vertices"]
    return {"kind": "animated", "name": "animated", "file": "animated.glb", "keys": keys}


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_rigged_hand_posed_with_recorded_joints_is_ours(results, side):
    assert results[side]["max"] < 0.001


@pytest.mark.parametrize("side", ["left", "right"])
def test_three_js_drives_the_flat_hand_as_it_does_a_headsets(results, side):
    """XR's poses hold the joints that the skin shows, not the centres it turns about: a little less exact."""
    assert results[f"webxr {side}"]["mean"] < 0.001
    assert results[f"webxr {side}"]["max"] < 0.008


def test_an_animated_clip_plays(results):
    assert results["animated"]["meshes"] == ["left_1_mesh", "right_1_mesh"]
    assert results["animated"]["duration_s"] == pytest.approx(0.3)
    assert results["animated"]["max"] < 0.0005


def test_hands_are_drawn(results):
    for name, result in results.items():
        lit = (result["image"].astype(int).max(2) > 90).mean()
        assert 0.02 < lit < 0.7, f"{name}: {lit:.2f} of the image is hand"
