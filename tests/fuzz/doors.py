"""The doors through which files come, each with good files of our own making and what reads them; and damage."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parents[2] / "handmesh" / "assets"


@dataclass(frozen=True)
class Door:
    """One kind of input."""

    seeds: Callable[[Path], list[Path]]
    """Writes good files into a folder."""
    read: Callable[[Path], object]
    """Takes one, as the product does; raises what the command line turns into one line."""


# Good files.


def images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    whole, paths = Image.fromarray(pixels), []
    for name, mode in (
        ("a.jpg", "RGB"), ("b.png", "RGB"), ("c.png", "P"), ("d.png", "1"), ("e.png", "I;16"), ("f.gif", "P"),
        ("g.webp", "RGB"), ("h.tiff", "RGB"), ("i.bmp", "RGB"),
    ):  # fmt: skip
        path = folder / name
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else whole.convert(mode)
        image.save(path)
        paths.append(path)
    return paths


def videos(folder: Path) -> list[Path]:
    from handmesh.types import Frame
    from handmesh.video.sinks import VideoRecorder

    path = folder / "film.mp4"
    recorder = VideoRecorder(path, 30)
    for k in range(4):
        image = np.full((48, 64, 3), 60 * k, np.uint8)
        recorder.write(Frame(str(k), k / 30, image), image, [])
    recorder.close()
    return [path]


def clips(folder: Path) -> list[Path]:
    from posed_hand import posed_hand

    from handmesh.app.capture import open_hand_sink
    from handmesh.types import Camera, Frame, TrackedFrame

    camera = Camera.from_fov(64, 48, 60)
    image, hand = np.zeros((48, 64, 3), np.uint8), posed_hand(camera)
    paths = [folder / "clip.npz", folder / "clip.json"]
    for path in paths:
        sink = open_hand_sink(path, source_title="camera 0", fps=30)
        for k in range(3):
            sink.add(TrackedFrame(Frame(str(k), k / 30, image), [hand], camera))
        sink.close()
    return paths


def cameras(folder: Path) -> list[Path]:
    from handmesh.types import Camera
    from handmesh.video.lens import Intrinsics, write_intrinsics

    ours, ros = folder / "camera.json", folder / "camera.yml"
    write_intrinsics(ours, Intrinsics(Camera(500.0, 510.0, 319.5, 239.5, 640, 480), (0.1, -0.05, 0.0, 0.0)))
    ros.write_text(
        "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n"
        "   dt: d\n   data: [ 500., 0., 319.5, 0., 510., 239.5, 0., 0., 1. ]\n"
        "distortion_coefficients: !!opencv-matrix\n"
        "   rows: 1\n   cols: 5\n   dt: d\n   data: [ 0.1, -0.05, 0., 0., 0. ]\n"
    )
    return [ours, ros]


def hand_models(folder: Path) -> list[Path]:
    path = folder / "hand.npz"
    path.write_bytes((ASSETS / "open_hand_right.npz").read_bytes())
    return [path]


def mano_pickles(folder: Path) -> list[Path]:
    from mano_twin.twin import write_twin

    path = folder / "MANO_RIGHT.pkl"
    write_twin(path, "right", False, False)
    return [path]


def weights(folder: Path) -> list[Path]:
    from handmesh.models import checkpoint
    from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig
    from handmesh.training.config import as_plain

    config = DetectorNetworkConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8)
    path = folder / "weights.safetensors"
    metadata = {"config": {"task": "detector", "network": as_plain(config)}, "steps": 3}
    checkpoint.save_weights(path, DetectorNet(config).state_dict(), metadata)
    return [path]


def networks(folder: Path) -> list[Path]:
    path = folder / "detector.onnx"
    path.write_bytes((ASSETS / "detector.onnx").read_bytes())
    return [path]


def presets(folder: Path) -> list[Path]:
    base, path = folder / "base.yaml", folder / "preset.yaml"
    base.write_text("task: mesh\nrun:\n  schedule: [[10, 64, 8]]\n")
    path.write_text(
        "base: base.yaml\noptimiser:\n  learning_rate: 0.001\nlosses: {presence: 0.3}\ndata:\n  workers: 0\n"
    )
    return [path]


def predictions(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    text = json.dumps([rng.normal(size=(2, 21, 3)).round(4).tolist(), rng.normal(size=(2, 9, 3)).round(4).tolist()])
    plain, packed = folder / "pred.json", folder / "pred.zip"
    plain.write_text(text)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pred.json", text)
    return [plain, packed]


def labels(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    uv, xyz = rng.uniform(0, 48, (21, 2)).tolist(), rng.normal(size=(21, 3)).tolist()
    hand = {"hand": "left", "score": 0.9, "uv": uv, "xyz": xyz}
    Image.new("RGB", (64, 48)).save(folder / "a.jpg")
    path = folder / "pseudo_labels.json"
    path.write_text(json.dumps([{"file": "a.jpg", "width": 64, "height": 48, "hands": [hand]}] * 2))
    return [path]


def shards(folder: Path) -> list[Path]:
    from handmesh.cli import main

    main(["data", "synthetic", "--output", str(folder), "--count", "3", "--size", "48"])
    return sorted(folder.glob("shard-*.tar"))


# What reads them.


def read_image_file(path: Path) -> object:
    from handmesh.files import read_image

    return read_image(path)


def read_source(path: Path) -> object:
    from handmesh.video.sources import open_source

    source = open_source(str(path))
    return list(islice(iter(source), 3))


def read_clip_file(path: Path) -> object:
    from handmesh.video.clips import read_clip

    return read_clip(path)


def read_camera(path: Path) -> object:
    from handmesh.video.lens import read_intrinsics

    return read_intrinsics(path)


def read_hand_model(path: Path) -> object:
    from handmesh.hand.model import HandModel

    return HandModel.load(path)


def read_mano(path: Path) -> object:
    from handmesh.hand.mano import read_mano_pickle

    return read_mano_pickle(path)


def read_weights(path: Path) -> object:
    from handmesh.export.onnx import load_detector

    return load_detector(path)


def read_network(path: Path) -> object:
    from handmesh.tracking.backends import open_session

    session = open_session(path, "detector", threads=1)
    return session.run(np.zeros((1, *session.input_size, 3), np.uint8))


def read_config_file(path: Path) -> object:
    from handmesh.training.config import MeshConfig, read_config

    return read_config(MeshConfig, path)


def read_predictions(path: Path) -> object:
    from handmesh.evaluation.freihand import PredictionFile

    file = PredictionFile(path)
    return file.joints_m, list(file.vertices())


def read_labels(path: Path) -> object:
    from handmesh.data.photos import LABEL_FILE, read_photos

    if path.name != LABEL_FILE:
        (path.parent / LABEL_FILE).write_bytes(path.read_bytes())
    return read_photos(path.parent, "all")


def read_shard(path: Path) -> object:
    from handmesh.data.shards import parse_shard

    return parse_shard(path)


DOORS = {
    "image": Door(images, read_image_file),
    "video": Door(videos, read_source),
    "clip": Door(clips, read_clip_file),
    "camera": Door(cameras, read_camera),
    "hand": Door(hand_models, read_hand_model),
    "mano": Door(mano_pickles, read_mano),
    "weights": Door(weights, read_weights),
    "network": Door(networks, read_network),
    "preset": Door(presets, read_config_file),
    "predictions": Door(predictions, read_predictions),
    "labels": Door(labels, read_labels),
    "shard": Door(shards, read_shard),
}


# Damage.

NASTY: list[Any] = [
    None, True, -1, 0, 1e308, 10**400, float("nan"), float("inf"), "", "x", "../../etc", [], {}, [[[]]], {"a": {}},
    2**63, -0.5, ["a"] * 3, [1e30] * 3,
]  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
HEAD = 2048  # bytes where formats say what follows


def damaged(good: bytes, rng: np.random.Generator) -> bytes:
    """The bytes of a good file with one kind of damage, often in its head."""
    kinds = [flipped, cut, filled, repeated, renumbered]
    if good[:1] in b"[{":
        kinds += [restructured, nested] * 3
    if good[:2] == b"PK":
        kinds += [repacked] * 4
    return kinds[rng.integers(len(kinds))](good, rng)


def somewhere(good: bytes, rng: np.random.Generator) -> int:
    return int(rng.integers(min(len(good), HEAD) if rng.random() < 0.5 else len(good)))


def flipped(good: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(good)
    for _ in range(rng.integers(1, 12)):
        data[somewhere(good, rng)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def cut(good: bytes, rng: np.random.Generator) -> bytes:
    return good[: somewhere(good, rng)]


def filled(good: bytes, rng: np.random.Generator) -> bytes:
    at, length = somewhere(good, rng), int(rng.integers(1, 40))
    return good[:at] + bytes([int(rng.choice([0, 255, 127]))]) * length + good[at + length :]


def repeated(good: bytes, rng: np.random.Generator) -> bytes:
    at, length = somewhere(good, rng), int(rng.integers(1, 400))
    return good[:at] + good[at : at + length] * int(rng.integers(2, 40)) + good[at + length :]


def renumbered(good: bytes, rng: np.random.Generator) -> bytes:
    """A number that stands there as text is another one."""
    numbers = list(islice(NUMBER.finditer(good[: 8 * HEAD]), 400))
    if not numbers:
        return flipped(good, rng)
    number = numbers[rng.integers(len(numbers))]
    other = [b"-1", b"0", b"99999999999", b"1e999", b"9" * 400, b"nan", b"1.5"][rng.integers(7)]
    return good[: number.start()] + other + good[number.end() :]


def restructured(good: bytes, rng: np.random.Generator) -> bytes:
    """JSON in which one value is another one."""
    try:
        content = json.loads(good)
    except ValueError:
        return flipped(good, rng)
    places = [*islice(places_in(content), 3000)]
    holder, key = places[rng.integers(len(places))]
    value = NASTY[rng.integers(len(NASTY))]
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = value
    return json.dumps(content).encode()


def places_in(content: Any) -> Iterator[tuple[Any, Any]]:
    """Containers with the keys of what they hold, outermost first."""
    queue = [content]
    while queue:
        holder = queue.pop(0)
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                queue.append(holder[key])


def nested(good: bytes, rng: np.random.Generator) -> bytes:
    depth = int(rng.choice([50, 1500, 100_000]))
    sign = rng.choice(["[", '{"a":'])
    return (sign * depth).encode() + (b"" if rng.random() < 0.5 else b"1" + (b"]" if sign == "[" else b"}") * depth)


def repacked(good: bytes, rng: np.random.Generator) -> bytes:
    """A zip in which one member is damaged, missing, an array of another kind, or a bomb."""
    try:
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError):
        return flipped(good, rng)
    name = sorted(members)[rng.integers(len(members))]
    choice = rng.integers(5)
    if choice == 0:
        del members[name]
    elif choice == 1:
        members[name] = b"\0" * 200_000_000 if rng.random() < 0.1 else damaged(members[name], rng)
    elif choice == 2 and name.endswith(".npy"):
        members[name] = array_bytes(NASTY_ARRAYS[rng.integers(len(NASTY_ARRAYS))])
    elif choice == 3 and name.endswith(".npy"):  # a header that asks for much
        members[name] = re.sub(rb"'shape': \([^)]*\)", b"'shape': (99999999999, 7)", members[name], count=1)
    else:
        members[name] = flipped(members[name], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return packed.getvalue()


NASTY_ARRAYS = [
    np.array(1.0), np.zeros((0, 3)), np.full((21, 3), np.nan), np.array(["x", "y"]), np.zeros(5, np.complex64),
    np.zeros((2, 2, 2, 2), np.int8), np.array([10**12, -5]), np.zeros((3, 5), "datetime64[s]"),
]  # fmt: skip


def array_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
