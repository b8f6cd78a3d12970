"""The npm package, as a fresh project gets it from its tarball: example, types, what bundlers drop, adapters."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import web_workspace
from hand_scenes import posed_hand
from scipy.spatial.transform import Rotation
from test_web_browser import ALONE, NO_GESTURE, PATIENCE_S, keep
from web_workspace import NODE_MODULES, WEB, serving

import handmesh
from handmesh.assets import DEMO_CLIP
from handmesh.video.sources import Video

chromium = pytest.importorskip("chromium", reason="needs websockets: pip install 'handmesh[stream]'")

EXAMPLE = re.search(r"```html\n(.*?)```", (WEB / "src" / "package" / "README.md").read_text(), re.DOTALL)[1]
ADAPTERS = Path(__file__).parent / "adapters"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that has installed the tarball, without a network; three.js and IWER lie beside it."""
    web_workspace.require_packages()
    folder = tmp_path_factory.mktemp("package")
    web_workspace.run("node", "write_package.mjs", folder)
    (tarball,) = folder.glob("handmesh-*.tgz")
    project = tmp_path_factory.mktemp("project")
    (project / "package.json").write_text('{"name": "fresh", "version": "1.0.0", "type": "module", "private": true}')
    command = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", str(tarball)]
    subprocess.run(command, cwd=project, check=True)
    for name in ("three", "iwer", "@webxr-input-profiles", "@types"):
        (project / "node_modules" / name).symlink_to(NODE_MODULES / name)
    for path in ADAPTERS.iterdir():
        (project / path.name).symlink_to(path)
    return project


def test_the_package_is_whole_and_needs_nothing(project):
    package = json.loads((project / "node_modules" / "handmesh" / "package.json").read_text())
    version = tomllib.loads((WEB.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert package["version"] == version and "dependencies" not in package
    for entry in package["exports"].values():
        assert all((project / "node_modules" / "handmesh" / path).is_file() for path in entry.values())


def test_the_example_is_short_and_runs_without_a_bundler(project, tmp_path):
    assert len(EXAMPLE.splitlines()) <= 15
    (project / "example.html").write_text(EXAMPLE)
    with (tmp_path / "camera.mjpeg").open("wb") as file:
        for frame in islice(Video(DEMO_CLIP), 30):
            file.write(cv2.imencode(".jpg", frame.image_rgb[..., ::-1])[1].tobytes())
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", NO_GESTURE)
    camera = f"--use-file-for-fake-video-capture={file.name}"
    with serving(project) as site, chromium.browsing(ALONE, camera, *flags) as page:
        page.open(f"{site.address}example.html")
        tips = "document.getElementById('tips').textContent"
        page.wait_for(f"{tips}.includes('left index') && {tips}.includes('right index')", PATIENCE_S)
        assert re.fullmatch(r"(\w+ index: (-?\d\.\d{3},?){3}\n?)+", str(page.value(tips)))
        errors = [text for text in page.complaints if "favicon" not in text and '"level": "warning"' not in text]
        assert errors == []  # that there is no WebGPU is a warning


def test_types_are_checked_and_catch_mistakes(project):
    (project / "typed.ts").write_text(
        "import { Engine, toWebXR, type Hand } from 'handmesh';\n"
        "import { CameraHands } from 'handmesh/iwer';\n"
        "import { HandSpace } from 'handmesh/three';\n"
        "const engine = await Engine.start({ model: 'fast', numHands: 1 });\n"
        "for await (const { hands } of engine.follow(document.querySelector('video')!)) {\n"
        "  const radii: Float32Array[] = hands.map((hand: Hand) => toWebXR(hand).radiiM);\n"
        "  new HandSpace('left').update(hands), radii;\n"
        "}\n"
        "// @ts-expect-error\n"
        "await Engine.start({ model: 'huge' });\n"
        "// @ts-expect-error\n"
        "new HandSpace('middle'), CameraHands;\n"
    )
    strict = (
        "--strict --noEmit --target es2022 --module esnext --moduleResolution bundler --lib es2023,dom,dom.iterable"
    )
    web_workspace.npx("tsc", "--ignoreConfig", *strict.split(), project / "typed.ts")


@pytest.mark.parametrize(("code", "has_engine"), [("cameraFromFov(640, 480)", False), ("Engine.start()", True)])
def test_bundlers_take_what_is_used(project, tmp_path, code, has_engine):
    """A camera needs no worker; an engine gets its worker, networks and runtime along."""
    name = code.partition("(")[0].partition(".")[0]
    page = project / f"{name}.html"
    page.write_text(f"<script type='module'>import {{ {name} }} from 'handmesh'; console.log({code});</script>")
    (project / "vite.config.js").write_text(
        f"export default {{ build: {{ rollupOptions: {{ input: '{page}' }} }}, worker: {{ format: 'es' }} }};"
    )
    web_workspace.npx("vite", "build", project, "--outDir", tmp_path, "--logLevel", "error")
    (entry,) = (tmp_path / "assets").glob(f"{name}-*.js")
    files = {path.suffix for path in (tmp_path / "assets").iterdir()}
    assert ("Worker(" in entry.read_text()) == has_engine
    assert {".onnx", ".wasm"} <= files if has_engine else entry.stat().st_size < 2000


HANDS = [
    posed_hand((-0.09, -0.02, 0.42), (0.2, 0.5, 0.1), "right", seed=1),
    posed_hand((0.09, 0.01, 0.45), (-0.1, -0.4, 0.2), "left", seed=2),
]


def pinching(hand: handmesh.Hand) -> handmesh.Hand:
    """The same hand, its thumb's tip moved to the index finger's: for what reads the tips alone."""
    joints = hand.joints_m.copy()
    joints[handmesh.Joint.THUMB_TIP] = joints[handmesh.Joint.INDEX_TIP]
    return replace(hand, joints_m=joints)


def given(hands: list[handmesh.Hand]) -> str:
    """Hands as the page's script takes them."""
    names = {"jointsM": "joints_m", "verticesM": "vertices_m", "pose": "pose"}
    arrays = [{name: np.ravel(getattr(hand, source)).tolist() for name, source in names.items()} for hand in hands]
    return json.dumps([{**each, "side": hand.side, "score": 0.9} for each, hand in zip(arrays, hands, strict=True)])


@pytest.fixture(scope="module")
def maker(project):
    """A page with three.js, IWER and the adapters."""
    if not chromium.CHROMIUM:
        pytest.skip("needs Chromium")
    if not (NODE_MODULES / "@webxr-input-profiles").is_dir():
        pytest.skip("needs the WebXR input profiles: `npm ci` in demo/web")
    with serving(project) as site, chromium.browsing(ALONE) as page:
        page.open(f"{site.address}index.html", width=960, height=640)
        page.wait_for("window.isLoaded", PATIENCE_S)
        yield page
        assert page.complaints == []


def test_threes_hand_models_take_the_poses(maker):
    """Each bone of both `generic-hand` models lies where `to_webxr` has the joint, and all are hidden without hands."""
    maker.value(f"void withThree({given(HANDS)}).then((answer) => (window.three = answer))")
    maker.wait_for("window.three", PATIENCE_S)
    keep(maker.image(), "adapter_three.png")
    answer = maker.value("window.three")
    for hand in HANDS:
        poses = hand.to_webxr()
        places = [answer["places"][hand.side][name] for name in poses.names]
        np.testing.assert_allclose(places, poses.positions_m, atol=1e-5)
    assert answer["isHidden"]
    assert (np.ptp(maker.image().reshape(-1, 3), axis=0) > 60).all()


def test_a_webxr_page_sees_the_hands_of_a_quest(maker):
    """Ahead of the head as the user has them, both sides, with radii; a pinch selects; without hands there are none."""
    hands = [pinching(HANDS[0]), HANDS[1]]
    maker.value(f"void withIwer({given(hands)}).then((answer) => (window.iwer = answer))")
    maker.wait_for("window.iwer", PATIENCE_S)
    keep(maker.image(), "adapter_iwer.png")
    answer = maker.value("window.iwer")
    assert answer["before"] == 0 and set(answer["selected"]) == {"right"}
    seen = {source["handedness"]: source for source in answer["frame"]}
    turn = Rotation.from_euler("y", 180, degrees=True)
    for hand in hands:
        poses, source = hand.to_webxr(), seen[hand.side]
        expected = turn.apply(poses.positions_m) + [0.1, 1.5, 0.2 - 0.7]
        np.testing.assert_allclose(source["points"], expected, atol=1e-4)
        off = (turn * Rotation.from_quat(poses.orientations_xyzw)).inv() * Rotation.from_quat(source["turns"])
        assert off.magnitude().max() < 1e-3
        np.testing.assert_allclose(source["radii"], poses.radii_m, atol=1e-5)
