"""The Unity scripts: compiled and run against stand-ins for Unity's classes, and compared with the Python twin."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")

from gesture_hands import hand_doing
from scipy.spatial.transform import Rotation
from stream_clients import two_hands, update

from handmesh import xr
from handmesh.gestures import FINGERS, GESTURES
from handmesh.hand.lbs import SkinnedHand
from handmesh.streaming.datagrams import binary_datagram, json_datagram
from handmesh.streaming.protocol import Update, bind_message
from handmesh.types import Hand

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "demo" / "unity"
SCRIPTS = sorted(PACKAGE.rglob("*.cs"))
RECEIVER, MESSAGE = ((PACKAGE / "Runtime" / f"{name}.cs").read_text() for name in ("HandmeshReceiver", "HandMessage"))


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


def test_joint_names_are_those_of_xr_hands() -> None:
    listed = re.search(r"JointNames =\s*\{(.*?)\};", RECEIVER, re.DOTALL)
    names = [name for name in xr.UNITY_JOINTS if name != "Palm"]
    assert re.findall(r'"([^"]+)"', listed[1]) == [*names, "Palm"]


class TestPackage:
    """What Unity's package manager asks of a folder: https://docs.unity3d.com/Manual/cus-layout.html."""

    def test_manifest(self) -> None:
        manifest = json.loads((PACKAGE / "package.json").read_text())
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert manifest["version"] == project["version"]
        assert manifest["license"] == project["license"]
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+){2,}", manifest["name"]), "a domain turned round"
        assert re.fullmatch(r"20\d\d\.\d", manifest["unity"])
        for sample in manifest["samples"]:
            assert sample["path"].startswith("Samples~/") and (PACKAGE / sample["path"]).is_dir()
        assert {sample["path"] for sample in manifest["samples"]} == {
            str(folder.relative_to(PACKAGE)) for folder in (PACKAGE / "Samples~").iterdir()
        }

    def test_every_script_is_in_an_assembly_and_its_namespace(self) -> None:
        assemblies = {file.parent: json.loads(file.read_text()) for file in PACKAGE.rglob("*.asmdef")}
        assert {folder.relative_to(PACKAGE).parts[0] for folder in assemblies} == {"Runtime", "Samples~"}
        names = {assembly["name"] for assembly in assemblies.values()}
        for folder, assembly in assemblies.items():
            assert set(assembly.get("references", [])) <= names
            assert (folder / f"{assembly['name']}.asmdef").is_file()
        for script in SCRIPTS:
            assembly = assemblies[script.parent]
            assert re.findall(r"^namespace (\S+)", script.read_text(), re.M) == [assembly["rootNamespace"]], script.name

    def test_components_are_named_as_their_files(self) -> None:
        """Or else Unity does not offer them."""
        found = {
            name: script.stem for script in SCRIPTS for name in re.findall(r"class (\w+) : MonoB", script.read_text())
        }
        assert found == {name: name for name in ("HandmeshReceiver", "HandmeshSkin", "PinchBalls")}

    def test_everything_has_its_own_meta_file(self) -> None:
        """A package from a repository cannot be written to: what has no .meta file is ignored there."""
        shown = [path for path in PACKAGE.rglob("*") if "Samples~" not in path.parts]
        assets = {path for path in shown if path.suffix != ".meta"}
        metas = {path for path in shown if path.suffix == ".meta"}
        assert {path.with_name(f"{path.name}.meta") for path in assets} == metas
        guids = [re.search(r"^guid: ([0-9a-f]{32})$", meta.read_text(), re.M)[1] for meta in metas]
        assert len(set(guids)) == len(guids)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The package's scripts, the stand-ins and the driver, compiled."""
    if not (shutil.which("mcs") and shutil.which("mono")):
        pytest.skip("needs Mono (mcs, mono) to compile C#")
    program = tmp_path_factory.mktemp("unity") / "driver.exe"
    sources = [*SCRIPTS, *sorted((ROOT / "tests" / "unity").glob("*.cs"))]
    libraries = ["-r:System.Runtime.Serialization", "-r:System.Xml"]
    compiled = subprocess.run(
        ["mcs", "-langversion:7", "-warn:3", "-warnaserror", f"-out:{program}", *libraries, *map(str, sources)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Metadata file" in compiled.stderr:
        pytest.skip("needs Mono's System.Runtime.Serialization, which reads JSON here as Unity does there")
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    return program


class Unity:
    """The receiver in a process of its own, which is sent datagrams and told what to do."""

    def __init__(self, program: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self._position = probe.getsockname()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(["mono", str(program), str(self._position[1])], **pipes, text=True)
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        assert self.process.stdout.readline().strip() == "ready"

    def send(self, *datagrams: bytes) -> Unity:
        for datagram in datagrams:
            self._sender.sendto(datagram, self._position)
        return self

    def does(self, command: str) -> list[str]:
        """The lines that come of a command."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        said = []
        for line in iter(self.process.stdout.readline, ""):
            if line.strip() == "done":
                return said
            said.append(line.strip())
        raise AssertionError("\n".join(said))

    def joints(self) -> dict[tuple[str, str], np.ndarray]:
        """Position and quaternion by side and name."""
        words = [line.split() for line in self.does("joints")]
        return {(w[1], w[2]): np.array(w[3:], float) for w in words if w[0] == "joint"}

    def shown(self) -> dict[str, bool]:
        words = [line.split() for line in self.does("joints")]
        return {w[1]: w[2] == "True" for w in words if w[0] == "shown"}

    def __enter__(self) -> Unity:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()
        self.process.kill()
        self.process.communicate()


def frame_of(hands: list[Hand], sequence: int, captured_s: float) -> Update:
    """A frame whose place in time is known: two of them differ in nothing else. Clocks are read once."""
    made = replace(update(hands, sequence), captured_s=captured_s)
    made.__dict__.update(sent_unix_ms=1e12, captured_unix_ms=1e12 + 1000 * captured_s)
    return made


def moved(hand: Hand, by_m: float, **changes: object) -> Hand:
    return replace(hand, joints_m=hand.joints_m + np.float32(by_m), **changes)


RIGHT, LEFT = two_hands()


class TestReceiver:
    def test_joints_and_mesh(self, program, tmp_path) -> None:
        bind = tmp_path / "bind.json"
        bind.write_text(bind_message(SkinnedHand.open_hand()))
        frame = frame_of([RIGHT, LEFT], 1, 1)
        with Unity(program) as unity:
            torn = binary_datagram(frame)[:-1]
            unity.send(b"noise", b"", torn).does("update 0")
            unity.send(binary_datagram(frame_of([RIGHT, LEFT], 2, 2))).does("update 0.1")
            told, mesh = unity.joints(), unity.does(f"skin {bind}")
        names = [name for name in xr.UNITY_JOINTS if name != "Palm"]
        for hand, pose in zip(frame.hands, frame.poses, strict=True):
            positions, quaternions = in_unity(pose.positions_m, pose.orientations_xyzw)
            for joint, name in enumerate(names):
                np.testing.assert_allclose(told[hand.side, name][:3], positions[joint], atol=1e-6)
                np.testing.assert_allclose(told[hand.side, name][3:], quaternions[joint], atol=1e-6)
            unity_pose = xr.to_unity(xr.to_openxr(hand))
            palm = unity_pose.names.index("Palm")
            np.testing.assert_allclose(told[hand.side, "Palm"][:3], unity_pose.positions_m[palm], atol=1e-6)
            np.testing.assert_allclose(told[hand.side, "Palm"][3:], unity_pose.orientations_xyzw[palm], atol=1e-6)
        left = json.loads(bind.read_text())["hands"]["left"]
        rest = {" ".join(words[:-3]): words[-3:] for words in map(str.split, mesh)}
        np.testing.assert_allclose(np.array(rest["vertex"], float), np.array(left["vertices_m"][:3]) * [1, 1, -1])
        assert [int(corner) for corner in rest["last triangle"]] == left["faces"][:3][::-1]
        assert "bones 26 weights 1689" in mesh

    def test_a_handler_may_read_the_other_hand(self, program) -> None:
        """It looks at a hand that was never seen, while this one vanishes."""
        with Unity(program) as unity:
            (said,) = unity.send(binary_datagram(frame_of([RIGHT], 1, 1))).does("update 0")
            assert said.startswith("changed right")
            unity.does("look")
            (said,) = unity.does("update 1")
            assert said.startswith("changed right none 0 ")
            assert unity.does("update 2") == [], "it is told once"

    def test_handlers_see_both_hands_of_one_frame(self, program) -> None:
        with Unity(program) as unity:
            unity.does("look")
            said = unity.send(binary_datagram(frame_of([RIGHT, LEFT], 1, 1))).does("update 0")
        assert [line.split()[1] for line in said] == ["left", "right"]
        assert said[0].split()[3:] == said[1].split()[3:]
        assert float(said[0].split()[3]) == pytest.approx(update([LEFT]).poses[0].positions_m[0, 0], abs=1e-6)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
    def test_the_surest_of_a_side_is_shown(self, program, order) -> None:
        hands = [RIGHT, moved(RIGHT, 1, score=0.3), moved(RIGHT, 2, score=0.1)]
        with Unity(program) as unity:
            unity.send(binary_datagram(frame_of([hands[k] for k in order], 1, 1))).does("update 0")
            wrist = unity.joints()["right", "Wrist"]
        np.testing.assert_allclose(wrist[:2], update([RIGHT]).poses[0].positions_m[0, :2], atol=1e-6)

    def test_the_newest_frame_wins(self, program) -> None:
        """Whatever order datagrams come in; a server that began anew counts from 1."""

        def x_of(unity: Unity) -> float:
            return unity.joints()["right", "Wrist"][0] - update([RIGHT]).poses[0].positions_m[0, 0]

        with Unity(program) as unity:
            frames = [binary_datagram(frame_of([moved(RIGHT, k)], k, k)) for k in range(10)]
            unity.send(frames[9], frames[8], frames[3]).does("update 0")
            assert x_of(unity) == pytest.approx(9, abs=1e-4)
            unity.send(frames[7]).does("update 0.1")
            assert x_of(unity) == pytest.approx(9, abs=1e-4)
            unity.send(binary_datagram(frame_of([moved(RIGHT, 4)], 1, 60)), b"noise").does("update 0.2")
            assert x_of(unity) == pytest.approx(4, abs=1e-4)

    def test_a_hand_goes_with_the_first_frame_without_it(self, program) -> None:
        with Unity(program) as unity:
            unity.send(binary_datagram(frame_of([RIGHT, LEFT], 1, 1))).does("update 0")
            assert unity.shown() == {"left": True, "right": True}
            said = unity.send(binary_datagram(frame_of([LEFT], 2, 2))).does("update 0.01")
            assert said[-1] == "changed right none"
            assert unity.shown() == {"left": True, "right": False}
            unity.does("update 0.2")
            assert unity.shown()["left"], "a pause is no absence"
            unity.does("update 0.4")
            assert unity.shown() == {"left": False, "right": False}

    def test_frames_leave_no_garbage(self, program, tmp_path) -> None:
        """18,000 frames of two hands; with a string and arrays for each there were 222 collections."""
        frame = binary_datagram(frame_of([RIGHT, LEFT], 1, 1))
        (tmp_path / "frame").write_bytes(frame)
        with Unity(program) as unity:
            unity.send(frame).does("update 0")
            assert unity.does(f"frames 20000 {tmp_path / 'frame'}") == ["frames 20000 collections 0"]

    @pytest.mark.parametrize("drawn", ["open", "fist", "point", "pinch", "victory"])
    def test_gestures(self, program, drawn) -> None:
        hand = hand_doing(drawn, np.random.default_rng(3))
        with Unity(program) as unity:
            (said,) = unity.send(binary_datagram(frame_of([hand], 1, 1))).does("update 0")
        assert said.split()[2].lower() == drawn.replace("victory", "none")

    def test_gestures_have_python_s_order(self) -> None:
        listed = re.search(r"enum Gesture \{ (.*?) \}", MESSAGE)[1].split(", ")
        assert [name.lower() for name in listed] == [name.replace(" ", "") or "none" for name in GESTURES]
        assert re.search(r"enum Finger \{ (.*?) \}", MESSAGE)[1].lower().split(", ") == list(FINGERS)

    @pytest.mark.parametrize("datagram", [json_datagram(update()), b"HMF\x02\x01" + bytes(99)])
    def test_what_it_cannot_read_it_says_once(self, program, datagram) -> None:
        with Unity(program) as unity:
            (said,) = unity.send(datagram).does("update 0")
            assert ("--udp-binary" in said) == (datagram[:1] == b"{")
            assert unity.send(datagram).does("update 0.1") == []
