"""The Unity scripts: compiled and run against stand-ins for Unity's classes, and compared with the Python twin."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")

from scipy.spatial.transform import Rotation
from stream_clients import update

from handmesh import xr
from handmesh.hand.lbs import SkinnedHand
from handmesh.streaming.datagrams import json_datagram
from handmesh.streaming.protocol import bind_message

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "demo" / "unity").glob("*.cs"))
RECEIVER = (ROOT / "demo" / "unity" / "HandmeshReceiver.cs").read_text()


def in_unity(positions: np.ndarray, quaternions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Python twin of the scripts' class Axes."""
    return positions * [1, 1, -1], quaternions * [-1, -1, 1, 1]


def test_twin_is_a_change_of_basis() -> None:
    """R becomes S R S and p becomes S p, so that whatever is carried by the poses is mirrored as a whole."""
    S = np.diag([1.0, 1.0, -1.0])
    rotations = Rotation.random(50, rng=np.random.default_rng(0))
    points = np.random.default_rng(1).normal(size=(50, 3))
    positions, quaternions = in_unity(points, rotations.as_quat())
    np.testing.assert_allclose(Rotation.from_quat(quaternions).as_matrix(), S @ rotations.as_matrix() @ S, atol=1e-12)
    np.testing.assert_allclose(positions, points @ S)


def test_twin_agrees_with_the_xr_module() -> None:
    for hand in update().hands:
        openxr = xr.to_openxr(hand)
        unity = xr.to_unity(openxr)
        order = [xr.UNITY_JOINTS.index(name) for name in _unity_names(openxr.names)]
        positions, quaternions = in_unity(openxr.positions_m, openxr.orientations_xyzw)
        np.testing.assert_allclose(unity.positions_m[order], positions, atol=1e-7)
        np.testing.assert_allclose(unity.orientations_xyzw[order], quaternions, atol=1e-7)


def _unity_names(openxr_names: tuple[str, ...]) -> list[str]:
    words = (name.removeprefix("XR_HAND_JOINT_").removesuffix("_EXT").split("_") for name in openxr_names)
    return ["".join(word.title() for word in name) for name in words]


def test_joint_names_are_webxr() -> None:
    listed = re.search(r"JointNames =\s*\{(.*?)\};", RECEIVER, re.DOTALL)
    assert tuple(re.findall(r'"([^"]+)"', listed[1])) == xr.WEBXR_JOINTS


@pytest.mark.skipif(not (shutil.which("mcs") and shutil.which("mono")), reason="needs Mono (mcs, mono) to compile C#")
def test_scripts_run_outside_unity(tmp_path) -> None:
    program, bind = tmp_path / "driver.exe", tmp_path / "bind.json"
    bind.write_text(bind_message(SkinnedHand.open_hand()))
    sources = [*SCRIPTS, *sorted((ROOT / "tests" / "unity").glob("*.cs"))]
    libraries = ["-r:System.Runtime.Serialization", "-r:System.Xml"]
    compiled = subprocess.run(
        ["mcs", "-langversion:7", "-warn:3", f"-out:{program}", *libraries, *map(str, sources)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Metadata file" in compiled.stderr:
        pytest.skip("needs Mono's System.Runtime.Serialization, which reads JSON here as Unity does there")
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    frame = update()
    said = _run(program, bind, [b"noise", b'{"type":"frame","version":1}', json_datagram(frame)])
    told = {tuple(words[1:3]): np.array(words[3:], float) for words in said if words[0] == "joint"}
    for hand, pose in zip(frame.hands, frame.poses, strict=True):
        positions, quaternions = in_unity(pose.positions_m, pose.orientations_xyzw)
        for joint, name in enumerate(pose.names):
            np.testing.assert_allclose(told[hand.side, name][:3], positions[joint], atol=1e-5)
            np.testing.assert_allclose(told[hand.side, name][3:], quaternions[joint], atol=1e-5)
    left = json.loads(bind.read_text())["hands"]["left"]
    rest = {" ".join(words[:-3]): words[-3:] for words in said if words[0] in ("vertex", "last")}
    np.testing.assert_allclose(np.array(rest["vertex"], float), np.array(left["vertices_m"][:3]) * [1, 1, -1])
    assert [int(corner) for corner in rest["last triangle"]] == left["faces"][:3][::-1]
    assert ["hidden", "True"] in said
    assert ["bones", "25", "weights", "1689"] in said


def _run(program: Path, bind: Path, datagrams: list[bytes]) -> list[list[str]]:
    """The lines, in words, that the driver prints when it gets these datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(["mono", str(program), str(port), str(bind)], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline().strip() == "ready"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in datagrams:
                sender.sendto(datagram, ("127.0.0.1", port))
        said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, said
    return [line.split() for line in said.splitlines()]
