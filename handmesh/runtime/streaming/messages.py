"""The stream's text messages, version 1: docs/stream.md says what they mean, docs/stream.schema.json checks them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np

from handmesh.runtime.streaming.moment import Moment

VERSION = 1
"""Grows when a client of the version before could misread a message. New fields alone do not count."""

Fields = dict[str, object]


class MessageError(ValueError):
    """What a client sent is not a message that the server knows."""


def dumped(fields: Fields) -> str:
    """JSON without blanks. Raises ValueError for what JSON cannot hold: NaN and infinity."""
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def rounded(array: np.ndarray, decimals: int) -> list[float]:
    """All numbers of an array in one flat list, which Unity's JsonUtility and typed arrays read as they are."""
    return np.round(np.asarray(array, np.float64), decimals).ravel().tolist()


def frame_message(moment: Moment, pixels: bool = True) -> str:
    """The joints of a frame as JSON; `pixels` False leaves out those of the picture, for short datagrams."""
    hands = [_hand_fields(moment, index, pixels) for index in range(len(moment.hands))]
    return dumped(
        {
            "type": "frame",
            "version": VERSION,
            "sequence": moment.sequence,
            "time_s": round(moment.time_s, 4),
            "captured_unix_ms": round(moment.captured_unix_ms, 3),
            "captured_monotonic_ms": round(moment.captured_s * 1000, 3),
            "sent_unix_ms": round(moment.sent_unix_ms, 3),
            "metric": moment.metric,
            "camera": asdict(moment.camera),
            "hands": hands,
        }
    )


def _hand_fields(moment: Moment, index: int, pixels: bool) -> Fields:
    hand, pose = moment.hands[index], moment.poses[index]
    fields: Fields = {
        "id": int(hand.id),
        "side": hand.side,
        "score": round(float(hand.score), 3),
        "visible_s": round(float(hand.visible_s), 3),
        "predicted": bool(hand.predicted),
        "pinch_m": round(moment.pinch_m(index), 5),
        "positions_m": rounded(pose.positions_m, 5),
        "orientations_xyzw": rounded(pose.orientations_xyzw, 5),
        "radii_m": rounded(pose.radii_m, 4),
    }
    if pixels:
        fields["joints_px"] = rounded(hand.joints_px, 1)
    return fields


def pong_message(ping: str | bytes) -> str:
    """The answer to a client's ping, by which it learns the way's length and this machine's time.

    Raises MessageError where `ping` is anything else.
    """
    try:
        fields = json.loads(ping)
        known = fields["type"] == "ping"
        client_ms = fields["client_ms"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MessageError("not JSON of the form {'type': 'ping', 'client_ms': NUMBER}") from error
    if not known or isinstance(client_ms, bool) or not isinstance(client_ms, (int, float)):
        raise MessageError("clients may send pings only")
    if not np.isfinite(float(client_ms)) or abs(client_ms) > 1e15:
        raise MessageError("client_ms is not a time")
    pong = {"type": "pong", "version": VERSION, "client_ms": client_ms, "server_unix_ms": round(time.time() * 1000, 3)}
    return dumped(pong)
