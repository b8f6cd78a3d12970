"""Synthetic shards: labels and images as written, the cache, and damaged files."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from handmesh.data import shards
from handmesh.data.shards import ShardError, read_shards
from handmesh.types import Box

SIZE = 32


def make_label(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    label = {name: rng.normal(size=shape).tolist() for name, shape in shards.LABELS.items()}
    camera = {"fx": 210.0, "fy": 211.0, "cx": 15.5, "cy": 15.25, "width": SIZE, "height": SIZE}
    return label | {"camera": camera, "seed": seed}


def make_parts(seed: int) -> dict[str, bytes]:
    image = np.full((SIZE, SIZE, 3), (10 * seed, 40, 200), np.uint8)  # BGR as OpenCV writes it
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:seed] = 255
    jpg, png = cv2.imencode(".jpg", image)[1], cv2.imencode(".png", mask)[1]
    return {"jpg": jpg.tobytes(), "png": png.tobytes(), "json": as_json(seed)}


def as_json(seed: int, **changes: object) -> bytes:
    return json.dumps(make_label(seed) | changes).encode()


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for key, parts in samples.items():
            for part, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(tmp_path / "shard-00000.tar", {f"{k:06d}": make_parts(k) for k in range(1, 4)})
    write_shard(tmp_path / "shard-00001.tar", {f"{k:06d}": make_parts(k) for k in range(4, 6)})
    return tmp_path


def test_labels_and_images_are_as_written(folder):
    samples = read_shards(folder)
    assert len(samples) == 5 and samples.keys[-1] == "000005" and samples.seeds.tolist() == [1, 2, 3, 4, 5]
    for i in range(5):
        label = make_label(i + 1)
        for name in ("pose", "shape", "joints_m", "joints_px", "translation_m"):
            np.testing.assert_array_equal(getattr(samples, name)[i], np.float32(label[name]))
        np.testing.assert_allclose(samples.decode(i)[5, 5], [200, 40, 10 * (i + 1)], atol=4)
        assert (samples.mask(i).max(1) == 255).sum() == i + 1
    camera = samples.camera_of(4)
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width) == (210, 211, 15.5, 15.25, SIZE)


def test_training_knows_the_box_of_a_left_hand_beside(tmp_path):
    mixture = pytest.importorskip("handmesh.data.mixture", exc_type=ImportError)
    joints_px = np.arange(42.0).reshape(21, 2) ** 1.5
    kinds = {side: {"others": [{"hand": side, "uv": joints_px.tolist()}]} for side in ("left", "right")}
    samples = {name: make_parts(1) | {"json": as_json(1, **kind)} for name, kind in kinds.items()}
    write_shard(tmp_path / "shard-0.tar", samples)
    left, right = (mixture.ShardSource(read_shards(tmp_path), None)[k].other for k in (0, 1))
    assert left.size_px == pytest.approx(Box.around(joints_px).size_px) and right is None


def test_labels_say_where_another_hand_is_or_nothing_of_it(tmp_path):
    joints_px = np.arange(42.0).reshape(21, 2)
    kinds = {"old": {}, "alone": {"others": []}, "pair": {"others": [{"hand": "left", "uv": joints_px.tolist()}]}}
    write_shard(
        tmp_path / "shard-0.tar", {name: make_parts(1) | {"json": as_json(1, **k)} for name, k in kinds.items()}
    )
    samples = read_shards(tmp_path)
    assert samples.knows_others.tolist() == [False, True, True] and samples.other_left.tolist() == [False, False, True]
    assert np.isnan(samples.other_px[:2]).all() and np.array_equal(samples.other_px[2], joints_px)
    write_shard(tmp_path / "shard-0.tar", {"k": make_parts(1) | {"json": as_json(1, others=[{"hand": "left"}])}})
    with pytest.raises(ShardError, match=r"k\.json lacks 'uv'"):
        read_shards(tmp_path)
    write_shard(
        tmp_path / "shard-0.tar", {"k": make_parts(1) | {"json": as_json(1, others=[{"hand": "left", "uv": [1]}])}}
    )
    with pytest.raises(ShardError, match=r"k\.json is malformed: the other hand's uv must be 21 x 2"):
        read_shards(tmp_path)


def test_limit_takes_the_first(folder):
    assert read_shards(folder, limit=2).keys.tolist() == ["000001", "000002"]
    assert len(read_shards(folder, limit=4)) == 4
    (folder / "shard-00001.tar").write_bytes(b"never read")
    assert len(read_shards(folder, limit=3).files) == 1
    with pytest.raises(ValueError, match="at least 1"):
        read_shards(folder, limit=0)


def test_the_cache_saves_parsing_and_notices_a_new_shard(folder, monkeypatch):
    first = read_shards(folder)
    with monkeypatch.context() as patched:
        patched.setattr(shards, "parse_shard", lambda file: pytest.fail("parsed again"))
        again = read_shards(folder)
    for name in ("pose", "camera", "jpg", "png", "keys", "shard"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    write_shard(folder / "shard-00001.tar", {"000009": make_parts(9)})
    assert read_shards(folder).keys.tolist() == ["000001", "000002", "000003", "000009"]


def test_a_damaged_cache_is_replaced(folder):
    read_shards(folder)
    cache = folder / "shard-00000.labels.npz"
    cache.write_bytes(cache.read_bytes()[:200])
    assert len(read_shards(folder)) == 5
    with np.load(cache) as stored:
        assert len(stored["keys"]) == 3
    assert not list(folder.glob("*.part"))


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(read_shards(folder)) == 5
    assert sorted(path.suffix for path in folder.iterdir()) == [".tar", ".tar"]


def test_survives_pickling_for_worker_processes(folder):
    samples = read_shards(folder)
    expected = samples.decode(3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples)).decode(3), expected)


def test_no_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shard-.*data synthetic"):
        read_shards(tmp_path)


def test_every_cut_is_noticed(tmp_path):
    path = write_shard(tmp_path / "shard-00000.tar", {"a": make_parts(1)})
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    end = members[-1].offset_data + -(-members[-1].size // 512) * 512
    for length in range(0, end + 512, 128):
        path.write_bytes(data[:length])
        with pytest.raises(ShardError, match=r"shard-00000\.tar: .*generate it again"):
            read_shards(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"png": None}, "sample 'b' needs jpg, png, json and has jpg, json"),
        ({"json": b"{"}, "b.json is malformed"),
        ({"json": as_json(1, joints_m=[[0, 0, 0], [1]])}, "b.json is malformed"),
        ({"json": as_json(1, camera={"fx": 1})}, "b.json lacks 'fy'"),
        ({"json": as_json(1, pose=[[0, 0, 0]] * 15)}, r"pose must be \(16, 3\)"),
        ({"json": as_json(1, shape=[float("nan")] * 10)}, "shape must be"),
    ],
)
def test_bad_samples_are_named(tmp_path, change, reason):
    parts = {part: data for part, data in (make_parts(2) | change).items() if data is not None}
    write_shard(tmp_path / "shard-00000.tar", {"a": make_parts(1), "b": parts})
    with pytest.raises(ShardError, match=rf"shard-00000\.tar: .*{reason}"):
        read_shards(tmp_path)


def test_an_image_that_does_not_decode_is_named(tmp_path):
    write_shard(tmp_path / "shard-00000.tar", {"a": make_parts(1) | {"jpg": b"not an image"}})
    with pytest.raises(ShardError, match="the image of sample a does not decode"):
        read_shards(tmp_path).decode(0)


def repacked(path: Path, samples: dict[str, dict[str, bytes]], kind: int) -> Path:
    """As `tar cf` of a folder writes it, here and on macOS."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name in ("./", "./a/"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        files = {f"./a/{key}.{part}": data for key, parts in samples.items() for part, data in parts.items()}
        beside = {name.replace("./a/", "./a/._"): b"attributes" for name in files}
        for name, data in {**beside, **files, "./a/.DS_Store": b"order", "./._a": b"attributes"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_shards_that_were_repacked_with_plain_tar_are_read(tmp_path, kind):
    repacked(tmp_path / "shard-00000.tar", {f"{k:06d}": make_parts(k) for k in range(1, 4)}, kind)
    (tmp_path / "._shard-00000.tar").write_bytes(b"attributes")
    samples = read_shards(tmp_path)
    assert samples.seeds.tolist() == [1, 2, 3] and samples.keys.tolist() == ["a/000001", "a/000002", "a/000003"]
    np.testing.assert_allclose(samples.decode(1)[5, 5], [200, 40, 20], atol=4)


def test_a_shard_of_folders_alone_holds_no_samples(tmp_path):
    repacked(tmp_path / "shard-00000.tar", {}, tarfile.GNU_FORMAT)
    with pytest.raises(ShardError, match="holds no samples"):
        read_shards(tmp_path)
