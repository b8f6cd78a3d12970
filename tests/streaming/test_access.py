"""Who may listen: pages, tokens, full servers, and connections that say nothing."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

pytest.importorskip("websockets", reason="the stream is an extra: pip install 'handmesh[stream]'")

from stream_clients import eventually, follow, get, publish, send_raw, streaming
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus

from handmesh.benchmark.streaming import request_for
from handmesh.streaming.access import Access


class TestAccess:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 101),
            ({"Origin": "http://{own}"}, 101),
            ({"Origin": "HTTP://{own}"}, 101),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://{own}.evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://evil.example:80", "Host": "evil.example:80"}, 403),  # DNS rebinding
            ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 101),
            ({"Host": "[::1]:{port}"}, 101),
            ({"Host": "[::1"}, 403),
            ({"Host": ""}, 403),
        ],
    )
    def test_origins(self, server, headers, status) -> None:
        server.lines.clear()
        time.sleep(1.01 if status == 403 else 0)  # the log's next second
        own = f"127.0.0.1:{server.port}"
        told = {name: value.format(own=own, port=server.port) for name, value in headers.items()}
        assert _handshake(server, **told) == status
        assert len(server.lines) == (status != 101)

    def test_two_origins_are_none(self, server) -> None:
        request = request_for(server.port, "json")
        own = f"Origin: http://127.0.0.1:{server.port}\r\n".encode()
        answer = send_raw(server, request[:-2] + own + own + b"\r\n")
        assert answer.split()[1] == b"403"

    def test_allowed_origins(self) -> None:
        with streaming(allow_origin=("http://localhost:5173",)) as (server, _):
            assert _handshake(server, Origin="http://localhost:5173") == 101
            assert _handshake(server, Origin="http://localhost:5174") == 403
            status, headers, _ = get(server, "/bind.json", Origin="http://localhost:5173")
            assert (status, headers["access-control-allow-origin"]) == (200, "http://localhost:5173")
        with streaming(allow_origin=("*",)) as (server, _):
            assert _handshake(server, Origin="http://anyone.example") == 101
        with pytest.raises(ValueError, match="http://localhost:5173"):
            Access(allow_origins=("localhost:5173",))

    def test_token(self) -> None:
        with streaming(token="a b/ü") as (server, lines):
            assert server.url.endswith("/#token=a%20b%2F%C3%BC")
            for query in ("", "?token=", "?token=wrong", "?token=a+b/%C3%BC&token=x"):
                with pytest.raises(InvalidStatus) as refused:
                    follow(server, query)
                assert refused.value.response.status_code == 401
            assert get(server, "/bind.json")[0] == 401
            assert get(server, "/")[0] == 200  # the page holds no hands
            with follow(server, "?token=a+b/%C3%BC"):
                pass
            assert _handshake(server, "?token=a%20b%2F%C3%BC") == 101
        assert sum("token" in line for line in lines) == 5
        assert not any("wrong" in line and "token=wrong" in line for line in lines)

    def test_bearer(self) -> None:
        with streaming(token="secret") as (server, _):
            assert _handshake(server, Authorization="Bearer secret") == 101
            assert _handshake(server, Authorization="Bearer Secret") == 401
            assert get(server, "/bind.json", Authorization="Bearer secret")[0] == 200
        with pytest.raises(ValueError, match="empty"):
            Access(token=" ")

    @pytest.mark.parametrize("page", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
    @pytest.mark.parametrize("allowed", ["http://localhost:5173", "http://127.0.0.1:5173", "http://[::1]:5173"])
    def test_names_of_this_machine_are_one(self, allowed, page) -> None:
        access = Access(allow_origins=(allowed,))
        headers = Headers(Host="127.0.0.1:8765", Origin=f"http://{page}:5173")
        assert access.refusal_of_data(headers, urlsplit("/stream")) is None

    @pytest.mark.parametrize(
        "origin",
        ["http://127.0.0.1:5174", "https://127.0.0.1:5173", "http://127.0.0.1", "http://localhost.evil.example:5173",
         "http://localhost:5173@evil.example", "http://localhost:x", "http://127.0.0.1.:5173/path", "localhost:5173"],
    )  # fmt: skip
    def test_others_are_not(self, origin) -> None:
        access = Access(allow_origins=("http://localhost:5173",))
        assert access.refusal_of_data(Headers(Host="127.0.0.1:8765", Origin=origin), urlsplit("/stream"))

    def test_port_80_may_be_left_out(self) -> None:
        access = Access(allow_origins=("http://my.example", "https://my.example:443"))
        for origin in ("http://my.example:80", "https://my.example"):
            headers = Headers(Host="127.0.0.1:8765", Origin=origin)
            assert access.refusal_of_data(headers, urlsplit("/stream")) is None

    def test_a_full_server_says_so(self) -> None:
        """By a close code, as browsers tell pages nothing of a handshake that failed."""
        with streaming(max_clients=2) as (server, lines), follow(server) as first, follow(server):
            assert eventually(lambda: server.num_clients == 2)
            with follow(server) as third, pytest.raises(ConnectionClosed) as closed:
                third.recv(timeout=10)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "2 clients are here already")
            assert lines == [lines[0]] and "2 clients" in lines[0]
            first.close()
            assert eventually(lambda: server.num_clients == 1)
            with follow(server):
                assert eventually(lambda: server.num_clients == 2)

    def test_silent_connections_lock_nobody_out(self) -> None:
        """More than there is room for, from one address: whoever comes next is served at once, also from there."""
        with streaming(max_clients=2) as (server, lines), follow(server) as loyal, ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(64)
            ]
            assert get(server, "/")[0] == 200
            with follow(server):
                assert eventually(lambda: server.num_clients == 2)
            assert silent[0].recv(1) == b"", "the first to come is the first to go"
            publish(server)
            assert json.loads(loyal.recv(timeout=10))["type"] == "frame"
        assert any("too many connections" in line for line in lines)

    def test_one_address_takes_no_room_from_another(self) -> None:
        with streaming() as (server, _), ExitStack() as stack:

            def connect(address: str) -> socket.socket:
                position = ("127.0.0.1", server.port)
                return stack.enter_context(socket.create_connection(position, 10, source_address=(address, 0)))

            slow = connect("127.0.0.2")
            for _ in range(64):
                connect("127.0.0.1")
            assert get(server, "/")[0] == 200
            slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert slow.recv(64).startswith(b"HTTP/1.1 200")

    def test_a_handshake_is_short(self) -> None:
        with streaming() as (server, _):
            assert server.service.open_timeout_s <= 3

    @pytest.mark.parametrize(("path", "status"), [("/stream?format=xml", 400), ("/other", 404), ("/", 404)])
    def test_other_streams(self, server, path, status) -> None:
        request = request_for(server.port, "json").replace(b"/stream?format=json", path.encode())
        assert int(send_raw(server, request).split()[1]) == status


def _handshake(server, query: str = "", **headers: str) -> int:
    fields = {"Host": f"127.0.0.1:{server.port}", **headers}
    lines = [f"GET /stream{query} HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] + [f"{name}: {value}" for name, value in fields.items()]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(("\r\n".join([*lines, "", ""])).encode())
        return int(raw.recv(4096).split()[1])
