"""Ways into other programs, each tried with a receiver that is not ours: OSC and VMC, ROS 2's messages, Godot."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")
pytest.importorskip("pythonosc", reason="the stream is an extra: pip install 'handmesh[stream]'")

from stream_clients import eventually, publish, streaming, two_hands, update

from handmesh import skeleton, xr
from handmesh.geometry import mirror_rotations
from handmesh.hand import anatomy
from handmesh.hand.poses import default_sampler
from handmesh.streaming import ros
from handmesh.streaming.datagrams import json_datagram, vmc_bones, vmc_datagram
from handmesh.streaming.protocol import frame_message
from handmesh.xr.poses import global_rotations

ROOT = Path(__file__).parents[2]
GODOT = ROOT / "demo" / "godot" / "handmesh.gd"
GODOT_3 = {
    "Node3D": "Spatial",
    "@export var": "export var",
    "udp.bind(": "udp.listen(",
    "JSON.parse_string(": "parse_json(",
    "Transform3D(": "Transform(",
    "Quaternion(": "Quat(",
}
"""What Godot 3 calls otherwise."""
BETWEEN_MATRICES = np.diag([-1.0, 1.0, 1.0])  # from the hand at rest to an avatar in Unity's frame


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def osc_server() -> Iterator[tuple[int, list[tuple]]]:
    """python-osc's server: its port, and what it hears."""
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.osc_server import ThreadingOSCUDPServer

    heard: list[tuple] = []
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: heard.append((address, *values)))
    with ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


class TestVmc:
    def test_an_avatar_takes_the_pose(self) -> None:
        """Of the bones that python-osc's server heard: put on one another, they are the hand's joints at its wrist."""
        hands = two_hands()
        with osc_server() as (port, heard), streaming(vmc=(f"127.0.0.1:{port}",)) as (server, _):
            publish(server, hands)
            assert eventually(lambda: sum(said[0] == "/VMC/Ext/Bone/Pos" for said in heard) == 30)
        assert heard.count(("/VMC/Ext/OK", 1)) == 2
        bones = {said[1]: np.array(said[2:]) for said in heard if said[0] == "/VMC/Ext/Bone/Pos"}
        trackers = {said[1]: np.array(said[2:]) for said in heard if said[0] == "/VMC/Ext/Tra/Pos"}
        for hand in hands:
            positions = [np.zeros(3)]
            turns = [np.eye(3)]
            for name, parent in zip(vmc_bones(hand.side), skeleton.PARENTS[1:], strict=True):
                positions.append(positions[parent] + turns[parent] @ bones[name][:3])
                turns.append(turns[parent] @ Rotation.from_quat(bones[name][3:]).as_matrix())
            joints = hand.joints_m[list(skeleton.KEYPOINT_OF_MANO)]
            expected = (joints - joints[0]) @ hand.pose[0] @ BETWEEN_MATRICES
            np.testing.assert_allclose(positions, expected, atol=1e-6)
            rotations = hand.pose[0].T @ global_rotations(hand.pose)
            np.testing.assert_allclose(turns, BETWEEN_MATRICES @ rotations @ BETWEEN_MATRICES, atol=1e-5)
            unity = xr.to_unity(xr.to_openxr(hand))
            np.testing.assert_allclose(trackers[f"handmesh-{hand.side}"][:3], unity.positions_m[0], atol=1e-6)
            np.testing.assert_allclose(trackers[f"handmesh-{hand.side}"][3:], unity.orientations_xyzw[0], atol=1e-6)

    def test_bones_are_those_of_humanoids(self) -> None:
        assert vmc_bones("left")[:3] == ["LeftIndexProximal", "LeftIndexIntermediate", "LeftIndexDistal"]
        assert {"RightThumbProximal", "RightThumbDistal", "RightLittleIntermediate"} < set(vmc_bones("right"))
        assert len(set(vmc_bones("left") + vmc_bones("right"))) == 30

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_a_bent_finger_points_down_in_t_pose(self, side) -> None:
        """An avatar that looks along z: its right hand reaches along x, palm down, so a bent finger turns to -y."""
        from pythonosc.osc_bundle import OscBundle

        frames = default_sampler().frames
        angles = np.zeros((15, 3))
        angles[skeleton.MANO_JOINTS.index("index1") - 1, anatomy.FLEXION] = 60
        right = anatomy.rotations_from_angles(angles, frames)
        (hand,) = (hand for hand in two_hands() if hand.side == side)
        pose = np.concatenate([hand.pose[:1], right if side == "right" else mirror_rotations(right)])
        bundle = OscBundle(vmc_datagram(update([replace(hand, pose=pose)]), side))
        (bone,) = (m.params for m in bundle if m.params[0] == f"{side.title()}IndexProximal")
        reach = np.array([1.0 if side == "right" else -1.0, 0, 0])
        bent = Rotation.from_quat(bone[4:]).apply(reach)
        assert bent[1] < -0.8 and bent @ reach > 0.4

    def test_a_hand_that_is_not_seen_is_not_sent(self) -> None:
        assert vmc_datagram(update([]), "left") == b""
        assert len(vmc_datagram(update(), "left")) < 1472, "it fits into one packet of an Ethernet"


class TestRos:
    @pytest.mark.parametrize("distribution", ["ROS2_FOXY", "ROS2_HUMBLE", "ROS2_JAZZY"])
    def test_messages_are_of_their_types(self, distribution) -> None:
        """What rosbags writes and reads of them as ROS 2 does, in CDR."""
        typesys = pytest.importorskip("rosbags.typesys", reason="knows ROS 2's message types: pip install rosbags")
        store = typesys.get_typestore(typesys.Stores[distribution])
        frame = update()
        said = ros.messages(json.loads(frame_message(frame)))
        assert said.keys() == ros.TOPICS.keys()
        for topic, kind in ros.TOPICS.items():
            cdr = store.serialize_cdr(filled(store, kind, said[topic]), kind)
            read = store.deserialize_cdr(cdr, kind)
            if kind.endswith("MarkerArray"):
                assert [(m.ns, m.id, m.action) for m in read.markers][:2] == [("", 0, 3), ("right", 0, 0)]
                assert [len(m.points) for m in read.markers] == [0, 25, 48, 25, 48]
            else:
                assert read.header.frame_id == "camera_optical_frame"
                stamp_ms = read.header.stamp.sec * 1e3 + read.header.stamp.nanosec / 1e6
                assert stamp_ms == pytest.approx(frame.captured_unix_ms, abs=1e-2)
                assert len(read.poses) == 25

    def test_the_program_of_the_docs_feeds_rosbridge(self) -> None:
        """As it is written there, with a server that is told what rosbridge is told."""
        from websockets.sync.server import serve

        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.S)
        (program,) = (block for block in blocks if "handmesh.streaming import ros" in block)
        told: list[dict] = []
        with serve(lambda client: told.extend(map(json.loads, client)), "127.0.0.1", 0) as bridge:
            thread = threading.Thread(target=bridge.serve_forever)
            thread.start()
            with streaming() as (server, _):
                program = program.replace(":8765", f":{server.port}")
                program = program.replace(":9090", f":{bridge.socket.getsockname()[1]}")
                runner = threading.Thread(target=exec, args=(program, {}))
                runner.start()
                assert eventually(lambda: server.num_clients == 1)
                publish(server)
                assert eventually(lambda: len(told) >= 6)
            runner.join(10)
            bridge.shutdown()
            thread.join(10)
        assert {(said["topic"], said["type"]) for said in told[:3]} == set(ros.TOPICS.items())
        published = {said["topic"]: said["msg"] for said in told[3:] if said["op"] == "publish"}
        assert published.keys() == ros.TOPICS.keys()
        assert len(published["/handmesh/left"]["poses"]) == 25

    def test_poses_are_in_the_camera_s_frame(self) -> None:
        frame = update()
        said = ros.messages(json.loads(frame_message(frame)))
        for hand, pose in zip(frame.hands, frame.poses, strict=True):
            poses = said[f"/handmesh/{hand.side}"]["poses"]
            for joint in range(25):
                position = [poses[joint]["position"][axis] for axis in "xyz"]
                np.testing.assert_allclose(position, pose.positions_m[joint] * [1, -1, -1], atol=1e-5)
                turn = Rotation.from_quat([poses[joint]["orientation"][axis] for axis in "xyzw"]).as_matrix()
                expected = np.diag([1, -1, -1]) @ Rotation.from_quat(pose.orientations_xyzw[joint]).as_matrix()
                np.testing.assert_allclose(turn, expected, atol=1e-4)

    def test_the_surer_of_two_and_nobody(self) -> None:
        fields = json.loads(frame_message(update()))
        right = fields["hands"][0]
        fields["hands"] = [right, {**right, "score": 0.1, "positions_m": [9.0] * 75}]
        said = ros.messages(fields, "webcam")
        assert said["/handmesh/right"]["poses"][0]["position"]["x"] == right["positions_m"][0]
        assert said["/handmesh/left"] == {"header": said["/handmesh/right"]["header"], "poses": []}
        assert said["/handmesh/left"]["header"]["frame_id"] == "webcam"


def filled(store: object, kind: str, fields: object) -> object:
    """A message of a type, with zeros for what is not given, as rosbridge fills them in; KeyError for a wrong name."""
    types = {"float64": float, "float32": float, "string": str, "bool": bool}
    members = {name: description for name, description in store.get_msgdef(kind).fields}
    if unknown := fields.keys() - members.keys():
        raise KeyError(f"{kind} has no {unknown}")
    values = {}
    for name, (node, description) in members.items():
        given = fields.get(name)
        if node.name == "BASE":
            values[name] = types.get(description[0], int)(given or 0) if description[0] != "string" else given or ""
        elif node.name == "NAME":
            values[name] = filled(store, description, given or {})
        else:
            (inner, inner_kind), _ = description
            named = inner.name == "NAME"
            values[name] = [filled(store, inner_kind, item) for item in given or []] if named else np.zeros(0, np.uint8)
    return store.types[kind](**values)


class TestGodot:
    def test_is_godot_4(self) -> None:
        parser = pytest.importorskip("gdtoolkit.parser", reason="reads GDScript: pip install gdtoolkit").parser
        text = GODOT.read_text()
        parser.parse(text)
        assert len(text.splitlines()) <= 60

    @pytest.mark.skipif(not shutil.which("godot3-server"), reason="needs Godot (godot3-server) to run GDScript")
    def test_nodes_move_with_the_hands(self, tmp_path) -> None:
        """Under Godot 3, by its own names: older frames, noise, two right hands, then a frame without hands."""
        text = GODOT.read_text()
        for name, old in GODOT_3.items():
            assert name in text
            text = text.replace(name, old)
        (tmp_path / "handmesh.gd").write_text(text)
        (tmp_path / "project.godot").write_text("config_version=4\n")
        (tmp_path / "main.gd").write_text(GODOT_MAIN)
        port = free_port()
        surest, other = two_hands()[0], two_hands()[1]
        weak = replace(surest, score=0.2, joints_m=surest.joints_m + np.float32(1))
        newest = update([surest, weak, other], 9)
        datagrams = [b"noise", b'{"type":"frame","version":2}', json_datagram(newest)]
        command = ["godot3-server", "--path", str(tmp_path), "-s", "main.gd", str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as godot:
            lines = iter(godot.stdout.readline, "")
            assert any(line.strip() == "ready" for line in lines)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for datagram in datagrams:
                    sender.sendto(datagram, ("127.0.0.1", port))
                told = read_hands(lines)
                late = update([replace(surest, joints_m=surest.joints_m + np.float32(2))], 8)
                sender.sendto(json_datagram(replace(late, captured_s=newest.captured_s - 1)), ("127.0.0.1", port))
                time.sleep(0.2)
                sender.sendto(json_datagram(update([], 10)), ("127.0.0.1", port))
                gone = read_hands(lines)
            godot.kill()
        for hand, pose in ((surest, newest.poses[0]), (other, newest.poses[2])):
            for joint, name in enumerate(pose.names):
                np.testing.assert_allclose(told[hand.side, name][:3], pose.positions_m[joint], atol=1e-4)
                turn = Rotation.from_quat(pose.orientations_xyzw[joint]).as_matrix().T.ravel()
                np.testing.assert_allclose(told[hand.side, name][3:], turn, atol=1e-3)
        assert gone == {("left", "gone"): [], ("right", "gone"): []}


GODOT_MAIN = """extends SceneTree

var hands
var count = 0

func _init():
	hands = load("res://handmesh.gd").new()
	hands.port = int(OS.get_cmdline_args()[-1])
	get_root().add_child(hands)
	hands.connect("hand_changed", self, "told")
	print("ready")

func told(side, hand):
	if hand == null:
		print("hand ", side, " gone")
	else:
		for node in hands.get_node(side).get_children():
			var b = node.transform.basis
			var o = node.transform.origin
			var numbers = [o.x, o.y, o.z, b.x.x, b.x.y, b.x.z, b.y.x, b.y.y, b.y.z, b.z.x, b.z.y, b.z.z]
			print("hand ", side, " ", node.name, " ", PoolStringArray(numbers).join(" "))
	count += 1
	if count % 2 == 0:
		print("end")
"""


def read_hands(lines: Iterator[str]) -> dict[tuple[str, str], list[float]]:
    """What Godot says of both hands, once."""
    told = {}
    for line in lines:
        words = line.split()
        if words == ["end"]:
            return told
        if words[:1] == ["hand"]:
            told[words[1], words[2]] = [float(word) for word in words[3:]]
    raise AssertionError("Godot ended")
