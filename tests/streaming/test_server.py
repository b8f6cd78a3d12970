"""The stream: messages as they are written down, clients that are slow, strange or hostile, and what it costs."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")
pytest.importorskip("pythonosc", reason="the stream is an extra: pip install 'handmesh[stream]'")

from gesture_hands import apart, hand_doing, pinching, reading_of
from stream_clients import eventually, follow, get, publish, send_raw, streaming, two_hands, update
from websockets.exceptions import ConnectionClosed

from handmesh import xr
from handmesh.benchmark.streaming import Listener, never_reading, request_for
from handmesh.gestures import PINCH_BEGINS, PINCH_ENDS
from handmesh.hand.lbs import SkinnedHand, strongest_joints
from handmesh.streaming.access import Notes
from handmesh.streaming.datagrams import binary_datagram, json_datagram, osc_datagram, split_address
from handmesh.streaming.protocol import (
    RADII_EVERY,
    MessageError,
    Poser,
    bind_message,
    frame_bytes,
    frame_message,
    pong_message,
    read_frame,
)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def schema():
    jsonschema = pytest.importorskip("jsonschema", reason="checks messages against docs/stream.schema.json")
    rules = json.loads((DOCS / "stream.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    return jsonschema.Draft202012Validator(rules)


@pytest.fixture(scope="module")
def bind():
    return json.loads(bind_message(SkinnedHand.open_hand()))


class TestMessages:
    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_frames_are_as_written_down(self, schema, count) -> None:
        frame = update(two_hands()[:count])
        for text in (frame_message(frame), json_datagram(frame)):
            schema.validate(json.loads(text))

    def test_bind_and_pong_are_as_written_down(self, schema, bind) -> None:
        schema.validate(bind)
        schema.validate(json.loads(pong_message('{"type": "ping", "client_ms": 1.5}')))

    @pytest.mark.parametrize("field", ["sequence", "sent_unix_ms", "hands", "camera"])
    def test_schema_misses_a_field(self, schema, field) -> None:
        fields = json.loads(frame_message(update()))
        del fields[field]
        assert not schema.is_valid(fields)

    def test_schema_counts_joints(self, schema) -> None:
        fields = json.loads(frame_message(update()))
        fields["hands"][0]["positions_m"].pop()
        assert not schema.is_valid(fields)

    def test_json_tells_the_webxr_poses(self) -> None:
        frame = update()
        for fields, hand in zip(json.loads(frame_message(frame))["hands"], frame.hands, strict=True):
            pose = xr.to_webxr(hand)
            np.testing.assert_allclose(np.reshape(fields["positions_m"], (25, 3)), pose.positions_m, atol=6e-6)
            np.testing.assert_allclose(
                np.reshape(fields["orientations_xyzw"], (25, 4)), pose.orientations_xyzw, atol=6e-6
            )
            tips = hand.joints_m[[4, 8]]
            assert fields["pinch_m"] == pytest.approx(np.linalg.norm(tips[0] - tips[1]), abs=1e-5)
            assert (fields["side"], fields["id"]) == (hand.side, hand.id)

    def test_both_formats_tell_the_gestures(self, schema) -> None:
        for drawn in ("open", "fist", "point", "pinch", "victory"):
            frame = update([hand_doing(drawn, np.random.default_rng(3), side) for side in ("right", "left")])
            for reading, fields, binary in zip(
                frame.readings,
                json.loads(frame_message(frame))["hands"],
                read_frame(frame_bytes(frame)).hands,
                strict=True,
            ):
                assert fields["gesture"] == binary.gesture == reading.gesture == drawn.replace("victory", "")
                assert tuple(fields["pinches"]) == binary.pinches == reading.pinches
                assert bool(reading.pinches) == (drawn == "pinch")
                assert fields["grab_strength"] == pytest.approx(reading.grab_strength, abs=1e-3)

    def test_gestures_are_optional(self, schema) -> None:
        """A server of before sends none; a client of before reads on."""
        fields = json.loads(frame_message(update()))
        for hand in fields["hands"]:
            for name in ("gesture", "pinches", "pinch_strength", "grab_strength"):
                del hand[name]
        schema.validate(fields)
        fields["hands"][0]["gesture"] = "wave"
        assert not schema.is_valid(fields)

    def test_a_pinch_is_held_from_frame_to_frame(self) -> None:
        """The stream's gestures have hysteresis, too."""
        near, poser = pinching(0, 0), Poser()
        between = next(hand for hand in apart(near) if PINCH_BEGINS < reading_of(hand).pinch_distances[0] < PINCH_ENDS)
        told = []
        for hand in (between, near, between):
            told.append(json.loads(frame_message(replace(update([hand]), poser=poser)))["hands"][0]["pinches"])
        assert told == [[], ["index"], ["index"]]

    def test_datagrams_are_short(self) -> None:
        assert len(json_datagram(update())) < 4500
        assert len(binary_datagram(update())) == 64 + 2 * 988
        assert [len(hand.vertices_m) for hand in read_frame(binary_datagram(update())).hands] == [0, 0]

    def test_times_are_of_one_clock(self) -> None:
        before_ms = time.time() * 1000
        fields = json.loads(frame_message(update()))
        assert before_ms - 1000 < fields["captured_unix_ms"] <= fields["sent_unix_ms"] <= time.time() * 1000 + 1

    def test_binary_comes_back(self) -> None:
        frame = update([replace(two_hands()[0], predicted=True), two_hands()[1]])
        read = read_frame(frame_bytes(frame))
        assert (read.sequence, read.size_px, read.metric) == (7, (640, 480), False)
        assert read.captured_unix_ms == pytest.approx(frame.captured_unix_ms, abs=1e-3)
        for hand, sent, pose in zip(read.hands, frame.hands, frame.poses, strict=True):
            assert (hand.id, hand.side, hand.predicted) == (sent.id, sent.side, sent.predicted)
            np.testing.assert_array_equal(hand.positions_m, pose.positions_m)
            np.testing.assert_array_equal(hand.orientations_xyzw, pose.orientations_xyzw)
            np.testing.assert_array_equal(hand.radii_m, pose.radii_m)
            np.testing.assert_allclose(hand.joints_px, sent.joints_px, atol=1e-3)
            np.testing.assert_allclose(hand.vertices_m, sent.vertices_m * [1, -1, -1], atol=7e-5)

    def test_torn_binary_is_refused(self) -> None:
        whole = frame_bytes(update())
        for end in (0, 3, 63, 64, 70, 84, 900, len(whole) // 2, len(whole) - 30):
            with pytest.raises(MessageError):
                read_frame(whole[:end])
        with pytest.raises(MessageError, match="begins with"):
            read_frame(b"HMF\x02" + whole[4:])

    @pytest.mark.parametrize(
        "ping",
        [
            *("", "{", "[]", "null", "[" * 1000, b"\xff\xfe"),
            '{"type":"ping"}',
            '{"type":"ping","client_ms":"1"}',
            '{"type":"ping","client_ms":true}',
            '{"type":"ping","client_ms":NaN}',
            '{"type":"ping","client_ms":1e999}',
            '{"type":"frame","client_ms":1}',
        ],
    )
    def test_no_ping(self, ping) -> None:
        with pytest.raises(MessageError):
            pong_message(ping)

    def test_radii_are_kept_for_some_frames(self) -> None:
        poser, hand = Poser(), two_hands()[0]
        small = replace(hand, vertices_m=hand.joints_m[:1] + 0 * hand.vertices_m)
        (first,) = poser.poses([hand], 1)
        (kept,) = poser.poses([small], RADII_EVERY)
        (anew,) = poser.poses([small], RADII_EVERY + 1)
        np.testing.assert_array_equal(first.radii_m, kept.radii_m)
        assert not np.array_equal(kept.radii_m, anew.radii_m)

    def test_osc_is_read_by_its_own_library(self) -> None:
        from pythonosc.osc_bundle import OscBundle

        frame = update([*two_hands(), replace(two_hands()[0], score=0.2, id=9)])
        said = {message.address: message.params for message in OscBundle(osc_datagram(frame))}
        assert said["/handmesh/frame"][0::2] == [7, 3]
        assert said["/handmesh/frame"][1] == frame.captured_unix_ms
        assert said["/handmesh/right/hand"][0] == 0  # the surer of two
        pose = frame.poses[1]
        joint = pose.names.index("index-finger-tip")
        told = said["/handmesh/left/joint/index-finger-tip"]
        np.testing.assert_allclose(told[:3], pose.positions_m[joint], rtol=1e-6)
        np.testing.assert_allclose(told[3:7], pose.orientations_xyzw[joint], rtol=1e-6)
        assert said["/handmesh/left/gesture"] == [frame.readings[1].gesture]
        assert len(said) == 3 + 2 * (3 + 25)

    def test_osc_tells_of_absence(self) -> None:
        from pythonosc.osc_bundle import OscBundle

        said = {message.address: message.params for message in OscBundle(osc_datagram(update([])))}
        assert said["/handmesh/left/present"] == said["/handmesh/right/present"] == [0]


class TestRig:
    @pytest.mark.parametrize("number", [0, 1])
    def test_joint_poses_alone_move_the_mesh(self, bind, number) -> None:
        """What a client computes from the bind data and 25 poses, against the tracker's vertices."""
        model = SkinnedHand.open_hand()
        posed = two_hands()[number]
        rotations = np.concatenate([np.eye(3)[None], posed.pose[1:]])
        hand = _mean_shaped(model, rotations, posed.side)
        bound = bind["hands"][hand.side]
        pose = xr.to_webxr(hand)
        rest = _matrices(np.reshape(bound["positions_m"], (25, 3)), np.reshape(bound["orientations_xyzw"], (25, 4)))
        moves = _matrices(pose.positions_m, pose.orientations_xyzw) @ np.linalg.inv(rest)
        vertices = np.c_[np.reshape(bound["vertices_m"], (-1, 3)), np.ones(len(hand.vertices_m))]
        joints, weights = np.reshape(bind["weight_joints"], (-1, 4)), np.reshape(bind["weights"], (-1, 4))
        skinned = np.einsum("vk,vkab,vb->va", weights, moves[joints], vertices)[:, :3]
        apart_m = np.linalg.norm(skinned - hand.vertices_m * [1, -1, -1], axis=1)
        assert apart_m.mean() < 5e-4
        assert apart_m.max() < 4e-3  # where fingers bend most: joints are read off the posed mesh, which gives there
        assert np.abs(vertices[:, :3] - skinned).max() > 0.02  # it did move

    def test_faces_look_outward_on_both_sides(self, bind) -> None:
        for side in ("left", "right"):
            hand = bind["hands"][side]
            corners = np.reshape(hand["vertices_m"], (-1, 3))[np.reshape(hand["faces"], (-1, 3))]
            volume = np.einsum("fa,fa->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
            assert 1e-4 < volume < 1e-3, side
            assert len(hand["uv_faces"]) == len(hand["faces"])
            assert max(hand["uv_faces"]) < len(hand["uvs"]) // 2

    def test_textures_are_sent_of_every_copy_of_the_hand(self) -> None:
        """The tracker's hand comes out of the network's file: equal to the bundled one, and not the same object."""
        model = SkinnedHand.open_hand()
        copy = replace(model, template=model.template * 1.01)
        assert "uvs" in json.loads(bind_message(copy))["hands"]["left"]
        other = replace(model, faces=model.faces[::-1].copy())
        assert "uvs" not in json.loads(bind_message(other))["hands"]["left"]

    def test_weights_are_whole(self) -> None:
        weights = SkinnedHand.open_hand().weights
        _, kept = strongest_joints(weights)
        np.testing.assert_allclose(kept, -np.sort(-weights, axis=1)[:, :4], atol=1e-5)

    def test_parents_are_nearer_to_the_wrist(self, bind) -> None:
        names = dict(enumerate(bind["joints"]))
        parents = {names[k]: names.get(parent) for k, parent in enumerate(bind["parents"])}
        assert parents["wrist"] is None
        assert parents["thumb-metacarpal"] == parents["pinky-finger-metacarpal"] == "wrist"
        assert parents["ring-finger-tip"] == "ring-finger-phalanx-distal"


def _mean_shaped(model: SkinnedHand, rotations: np.ndarray, side: str):
    """A hand of the mean shape with the rotations of a hand of this side, away from the origin."""
    from handmesh.geometry import mirror_points_m, mirror_rotations

    right = mirror_rotations(rotations) if side == "left" else rotations
    vertices, joints = model.posed(right, model.rest(np.zeros(10)))
    if side == "left":
        vertices, joints = mirror_points_m(vertices), mirror_points_m(joints)
    position = np.array([0.1, 0.2, 0.5])
    return replace(
        two_hands()[0], vertices_m=vertices + position, joints_m=joints + position, pose=rotations, side=side
    )


def _matrices(positions: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    matrices = np.tile(np.eye(4), (len(positions), 1, 1))
    matrices[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    matrices[:, :3, 3] = positions
    return matrices


class TestServing:
    @pytest.mark.parametrize(
        ("query", "options", "binary"),
        [
            ("", {}, False),
            ("?format=json", {}, False),
            ("?format=binary", {}, True),
            ("", {"subprotocols": ["handmesh.v1.binary"]}, True),
            ("?format=binary", {"subprotocols": ["other", "handmesh.v1.json"]}, False),
        ],
    )
    def test_formats(self, server, schema, query, options, binary) -> None:
        with follow(server, query, **options) as client:
            assert eventually(lambda: server.num_clients > 0)
            publish(server)
            messages = [client.recv(timeout=10)]
            while isinstance(messages[-1], str) and "bind" in messages[-1][:20]:
                messages.append(client.recv(timeout=10))
        if binary:
            assert json.loads(messages[0])["type"] == "bind"
            assert len(read_frame(messages[1]).hands) == 2
        else:
            schema.validate(json.loads(messages[0]))
            assert len(messages) == 1

    def test_ping(self, server) -> None:
        with follow(server) as client:
            client.send('{"type":"ping","client_ms":12.5}')
            pong = next(m for m in (json.loads(client.recv(timeout=10)) for _ in range(10)) if m["type"] == "pong")
        assert pong["client_ms"] == 12.5
        assert abs(pong["server_unix_ms"] - time.time() * 1000) < 10_000

    def test_latecomer_gets_the_newest_frame(self, server) -> None:
        publish(server)
        with follow(server) as client:
            assert json.loads(client.recv(timeout=10))["type"] == "frame"

    def test_udp_and_osc(self) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as osc,
        ):
            for end in (udp, osc):
                end.bind(("127.0.0.1", 0))
                end.settimeout(10)
            positions = [f"127.0.0.1:{end.getsockname()[1]}" for end in (udp, osc)]
            with streaming(udp=(positions[0], "127.0.0.1:9"), osc=positions[1:]) as (server, _):
                publish(server)
                assert json.loads(udp.recv(65536))["sequence"] == 1
                assert osc.recv(65536).startswith(b"#bundle")

    def test_a_broken_hand_stops_nothing(self) -> None:
        broken = replace(two_hands()[0], score=float("nan"))
        with streaming() as (server, lines), follow(server) as client:
            assert eventually(lambda: server.num_clients == 1)
            publish(server, [broken])
            assert eventually(lambda: bool(lines))
            publish(server)
            assert len(json.loads(client.recv(timeout=10))["hands"]) == 2
        assert len(lines) == 1

    def test_taken_port(self, server) -> None:
        with pytest.raises(OSError, match=f"127.0.0.1:{server.port}.*--port"), streaming_at(server.port):
            pass

    def test_publishing_after_the_end_is_nothing(self) -> None:
        with streaming() as (server, _):
            pass
        publish(server)


def streaming_at(port: int):
    from handmesh.streaming.server import Addresses, StreamServer

    return StreamServer(SkinnedHand.open_hand(), Addresses(port=port))


class TestSlowClients:
    def test_publishing_costs_little(self, server) -> None:
        """Of this thread's own processor time, which a busy machine does not lengthen."""
        hands, spent_s = two_hands(), []
        with follow(server, "?format=binary"):
            for _ in range(60):
                begin_s = time.thread_time()
                publish(server, hands)
                spent_s.append(time.thread_time() - begin_s)
                time.sleep(0.002)
        assert np.median(spent_s) < 0.3e-3

    def test_one_that_never_reads_holds_one_message_and_is_dropped(self) -> None:
        hands = two_hands()
        with streaming() as (server, lines), follow(server) as quick, never_reading(server.port):
            assert eventually(lambda: server.num_clients == 2)
            service = server.service
            (stuck,) = service.clients["binary"]
            largest, newest = 0, 0
            for _ in range(120):
                publish(server, hands)
                newest = json.loads(quick.recv(timeout=10))["sequence"]
                largest = max(largest, stuck.transport.get_write_buffer_size())
            assert newest == 120
            assert stuck.behind
            assert largest <= max(len(frame_bytes(update())), len(service.bind)) + 20
            service.stuck_s = 0.05
            publish(server, hands)
            assert eventually(lambda: publish(server, hands) or server.num_clients == 1)
        assert any("took nothing" in line for line in lines)

    def test_one_that_comes_back_gets_the_newest(self) -> None:
        hands = two_hands()
        with streaming() as (server, _), never_reading(server.port) as raw:
            assert eventually(lambda: server.num_clients == 1)
            (slow,) = server.service.clients["binary"]
            while not slow.behind:
                publish(server, hands)
                time.sleep(0.001)
            for _ in range(50):
                publish(server, hands)
            published = server.sequence
            raw.settimeout(10)
            data = b""
            newest = frame_bytes(update(hands, published))[:8]
            while newest not in data:
                data += raw.recv(1 << 20)
        assert data.count(newest[:4]) < published  # some were left out

    def test_all_that_a_client_says_is_bounded(self, server) -> None:
        with follow(server) as client:
            with pytest.raises(ConnectionClosed) as closed:
                for _ in range(200):
                    client.send('{"type":"ping","client_ms":1}')
                    time.sleep(0.0005)
                for _ in range(1000):
                    client.recv(timeout=10)
            assert closed.value.rcvd.code == 1008


class TestPages:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/", "text/html"),
            ("/index.html?show=rig", "text/html"),
            ("/viewer.js", "text/javascript"),
            ("/index.css", "text/css"),
            ("/icon.svg", "image/svg+xml"),
            ("/bind.json", "application/json"),
        ],
    )
    def test_page(self, server, path, kind) -> None:
        status, headers, body = get(server, path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
        assert int(headers["content-length"]) == len(body) > 100
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]

    @pytest.mark.parametrize(
        "path",
        ["/../server.py", "/..%2f..%2fpyproject.toml", "/%2e%2e/", "//etc/passwd", "/viewer.js/", "/viewer.js%00",
         "/src/", "/http://x/", "*", "/\\..\\x", "/balanced.onnx"],
    )  # fmt: skip
    def test_nothing_else(self, server, path) -> None:
        assert get(server, path)[0] == 404

    def test_strangers_names(self, server) -> None:
        assert get(server, "/", Host="evil.example")[0] == 403

    @pytest.mark.parametrize(("path", "status"), [("/", 200), ("/bind.json", 200), ("/nothing", 404)])
    def test_head_is_a_page_without_its_body(self, server, path, status) -> None:
        _, expected, body = get(server, path)
        answer = send_raw(server, f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert f"content-length: {len(body)}" in head.decode().lower()
        assert expected["content-type"] in head.decode()
        assert rest == b""

    def test_page_is_got_and_nothing_else(self, server) -> None:
        answer = send_raw(server, b"DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert not answer.startswith(b"HTTP/1.1 200")


class TestStrangers:
    """Whatever comes, the server says one line and goes on."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
            b"GET / HTTP/1.1",
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello",
            b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n",
            b"GET http://[/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"\n" * 5000,
        ],
    )
    def test_malformed_request(self, data) -> None:
        with streaming() as (server, lines):
            assert b"HTTP/1.1 200" not in send_raw(server, data)
            assert eventually(lambda: len(lines) == 1)
            assert "\n" not in lines[0] and "Traceback" not in lines[0]
            assert get(server, "/")[0] == 200

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("x" * 2000, 1009),
            (b"x" * 100_000, 1009),
            (b"\x00\x01", 1008),
            ("hello", 1008),
            ('{"type":"frame","version":1}', 1008),
            ("[" * 900, 1008),
        ],
    )
    def test_malformed_message(self, message, code) -> None:
        with streaming() as (server, lines), follow(server) as client:
            with pytest.raises(ConnectionClosed) as closed:
                client.send(message)
                for _ in range(20):
                    client.recv(timeout=10)
            assert closed.value.rcvd.code == code
            assert eventually(lambda: len(lines) == 1)
            assert "malformed message" in lines[0]
            assert get(server, "/")[0] == 200

    def test_noise_stops_nothing(self) -> None:
        random = np.random.default_rng(0)
        with streaming() as (server, lines), follow(server) as loyal:
            assert eventually(lambda: server.num_clients == 1)
            for number in range(60):
                noise = random.bytes(int(random.integers(1, 400)))
                request = request_for(server.port, "json")
                position = int(random.integers(0, len(request)))
                torn = request[:position] + noise[:3] + request[position + 3 :]
                _send_only(server, (noise, torn + noise, request + noise)[number % 3])
                publish(server, [])
            publish(server)
            assert eventually(lambda: len(json.loads(loyal.recv(timeout=10))["hands"]) == 2)
            assert get(server, "/")[0] == 200
        assert lines
        assert all("\n" not in line and line.isprintable() for line in lines)

    def test_notes_are_few(self) -> None:
        said: list[str] = []
        notes = Notes(said.append)
        while int(time.monotonic()) == int(time.monotonic() + 0.5):
            time.sleep(0.01)
        time.sleep(0.5)
        for number in range(50):
            notes(f"line {number}")
        assert len(said) == 5
        time.sleep(1.01)
        notes("later")
        assert said[5:] == ["45 more lines like these within a second", "later"]


def _send_only(server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(data)


@pytest.mark.parametrize("address", ["", "9000", "host:", "host:0", "host:70000", "host:x", ":9000"])
def test_no_address(address) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)


def test_ipv6_address() -> None:
    assert split_address("[::1]:9000") == ("::1", 9000)


def test_threads_end() -> None:
    before = threading.active_count()
    with streaming() as (server, _), follow(server):
        assert eventually(lambda: server.num_clients == 1)
    assert eventually(lambda: threading.active_count() <= before)


class TestBenchmark:
    def test_listeners_hear_everything_and_answer_pings(self) -> None:
        ages_ms: list[float] = []
        with streaming() as (server, lines):

            async def listen() -> None:
                loop = asyncio.get_running_loop()
                for name in ("json", "binary"):
                    listener = Listener(request_for(server.port, name), ages_ms)
                    await loop.create_connection(lambda listener=listener: listener, "127.0.0.1", server.port)
                await asyncio.to_thread(eventually, lambda: server.num_clients == 2)
                for number in range(1, 6):
                    publish(server)
                    await asyncio.to_thread(eventually, lambda number=number: len(ages_ms) == 2 * number)
                clients = [client for some in server.service.clients.values() for client in some]
                pings = [asyncio.run_coroutine_threadsafe(client.ping(), server.loop) for client in clients]
                for ping in pings:
                    pong = await asyncio.wrap_future(ping)
                    await asyncio.to_thread(eventually, pong.done)
                    assert pong.done()

            asyncio.run(listen())
        assert len(ages_ms) == 10
        assert all(-1 < age_ms < 10_000 for age_ms in ages_ms)
        assert lines == []
