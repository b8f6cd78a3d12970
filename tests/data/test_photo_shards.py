"""Photographs as shards: what is drawn from them is what is drawn from the photographs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")
pytest.importorskip("fsspec", reason="streams are part of the training extra")

from test_photos import HAND, entry, write_set  # noqa: E402
from test_shards import write_shard  # noqa: E402

from handmesh.data.loader import MixConfig  # noqa: E402
from handmesh.data.mixture import ContextSource, PhotoSource, sources_of  # noqa: E402
from handmesh.data.photos import PhotoError, read_photos, split_of  # noqa: E402
from handmesh.data.remote import StreamConfig  # noqa: E402
from handmesh.data.shards import (  # noqa: E402
    SETTINGS_FILE,
    PhotoShard,
    ShardError,
    write_photo_shards,
)
from handmesh.hand.model import HandModel  # noqa: E402

ROOT = Path(__file__).parents[2]
NAMES = [f"{k}.jpg" for k in range(10)]


def _hand(seed: int, **changes: object) -> dict:
    rng = np.random.default_rng(seed)
    uv = (rng.uniform(5, 40, (21, 2)) + [seed % 7, 0]).tolist()
    return HAND | {"uv": uv, "xyz": rng.normal(0, 0.05, (21, 3)).tolist(), "score": 0.8 + seed / 100} | changes


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten photographs of two hands, the second of the last unsure."""
    entries = [entry(name, hands=[_hand(2 * k, hand="right"), _hand(2 * k + 1)]) for k, name in enumerate(NAMES)]
    entries[-1]["hands"][1]["score"] = 0.1
    return write_set(tmp_path / "set", entries)


def _values(source: ContextSource) -> set[tuple]:
    """Everything that the items of a source are made of."""
    items = [source[i] for i in range(len(source))]
    return {
        (item.image.tobytes(), item.joints_px.tobytes(), item.joints_m.tobytes(), item.side, item.box, item.weak_3d)
        for item in items
    }


def test_a_shard_gives_what_the_photographs_give(root, tmp_path):
    photos = read_photos(root, "all")
    assert write_photo_shards(photos, tmp_path / "out", shard_size=8) == 19
    shards = [PhotoShard(path) for path in sorted((tmp_path / "out").glob("photos-*.tar"))]
    assert [len(shard) for shard in shards] == [8, 8, 3]
    found = set().union(*(_values(ContextSource(shard)) for shard in shards))
    assert found == _values(PhotoSource(photos)) and len(found) == 19
    hands = [context.hand for shard in shards for context in shard]
    assert {hand.score for hand in hands} == {hand["score"] for k in range(19) for hand in [_hand(k)]}


def test_an_interrupted_call_is_repeated_and_others_are_refused(root, tmp_path):
    photos, out = read_photos(root, "all"), tmp_path / "out"
    write_photo_shards(photos, out, shard_size=8)
    first, second, third = sorted(out.glob("*.tar"))
    content, written = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    (out / "photos-00001.tar.123.part").write_bytes(b"half")
    assert write_photo_shards(photos, out, shard_size=8) == 19
    assert second.read_bytes() == content and first.stat().st_mtime_ns == written
    assert sorted(out.iterdir()) == [out / SETTINGS_FILE, first, second, third]
    for others, size in ((photos[1:], 8), (photos, 9)):
        with pytest.raises(ValueError, match=r"begun with other photographs or sizes .*choose another --output"):
            write_photo_shards(others, out, size)


def test_no_usable_hand_and_no_size(root, tmp_path):
    with pytest.raises(ValueError, match="no usable labelled hand"):
        write_photo_shards([], tmp_path / "out")
    with pytest.raises(ValueError, match="at least 1 hand, got 0"):
        write_photo_shards(read_photos(root, "all"), tmp_path / "out", 0)


def test_the_command_packs_the_training_split(root, tmp_path):
    command = [sys.executable, "-m", "handmesh", "data", "photo-shards", str(root), "--output", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    shard = PhotoShard(tmp_path / "out" / "photos-00000.tar")
    train = [name for name in NAMES if split_of(name) == "train"]
    assert len(train) < len(NAMES) and len(shard) == len(PhotoSource(read_photos(root, "train")))
    assert f"holds {len(shard)} hands" in run.stdout
    again = subprocess.run([*command, "--shard-size", "3"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and again.stderr.startswith("error: ") and again.stderr.count("\n") == 1


def test_a_stream_of_photographs_is_a_group_of_photographs(root, tmp_path):
    write_photo_shards(read_photos(root, "all"), tmp_path / "out", shard_size=8)
    stream = StreamConfig(photos=(f"{tmp_path}/out/photos-{{00000..00002}}.tar",), window=2, steps=3)
    (one, two, _) = sources_of(MixConfig(photos=(root,), stream=stream), HandModel.load(), 1.5)
    assert one[0] == two[0] == pytest.approx(0.46)
    windows = [two[1].at(step) for step in range(9)]
    assert windows[0] is windows[2] and windows[2] is not windows[3]
    assert _values(windows[0]) | _values(windows[3]) == _values(PhotoSource(read_photos(root, "all")))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"json": None}, "sample 'b' needs jpg, json and has jpg"),
        ({"json": b"{"}, "b.json is malformed"),
        ({"json": json.dumps(HAND | {"uv": [[1, 2]]}).encode()}, "b.json is malformed: uv must be 21 x 2"),
        ({"json": json.dumps({"hand": "left", "uv": []}).encode()}, "b.json lacks 'score'"),
    ],
)
def test_bad_samples_are_named(change, reason, tmp_path):
    parts = {"jpg": b"", "json": json.dumps(HAND).encode()}
    bad = {part: data for part, data in (parts | change).items() if data is not None}
    path = write_shard(tmp_path / "photos-00000.tar", {"a": parts, "b": bad})
    with pytest.raises(ShardError, match=rf"photos-00000\.tar: .*{reason}"):
        PhotoShard(path)


def test_an_image_that_does_not_decode_is_named(tmp_path):
    parts = {"jpg": b"not an image", "json": json.dumps(HAND).encode()}
    shard = PhotoShard(write_shard(tmp_path / "photos-00000.tar", {"a": parts}))
    with pytest.raises(PhotoError, match=r"photos-00000\.tar: a\.jpg: the image does not decode"):
        shard[0].image()
