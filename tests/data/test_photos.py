"""Labelled photographs: the split, what is skipped, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from handmesh.data import photos
from handmesh.files import ImageError

UV = [[k, 2 * k] for k in range(21)]
HAND = {"hand": "left", "score": 0.9, "uv": UV, "xyz": [[0.001 * k, 0, 0] for k in range(21)]}


def write_set(root: Path, entries: list[dict], missing: tuple[str, ...] = ()) -> Path:
    (root / "images").mkdir(parents=True)
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 2] = 200  # OpenCV writes BGR: a red image
    for entry in entries:
        if entry.get("file") and entry["file"] not in missing:
            cv2.imwrite(str(root / entry["file"]), image)
    (root / photos.LABEL_FILE).write_text(json.dumps(entries))
    return root


def entry(name: str, **changes: object) -> dict:
    return {"file": f"images/{name}", "width": 64, "height": 48, "hands": [HAND]} | changes


def test_reads_hands_and_images(tmp_path):
    root = write_set(tmp_path / "set", [entry("a.jpg"), entry("b.png", hands=[])])
    with_hand, without = photos.read_photos(root, "all")
    assert without.hands == ()
    (hand,) = with_hand.hands
    assert hand.side == "left" and hand.joints_px.shape == (21, 2) and hand.joints_m.shape == (21, 3)
    assert hand.box(rotation=False).size_px == 40
    image = with_hand.load()
    assert image.shape == (48, 64, 3) and image[10, 10, 0] > 190 and image[10, 10, 2] < 10


def test_a_hand_labelled_twice_counts_once(tmp_path):
    """The surer label stays, in its place among the others; hands of two sides, or farther apart, are two."""
    unsurer = HAND | {"score": 0.8, "uv": [[u + 3, v + 4] for u, v in UV]}
    beside = HAND | {"uv": [[u + 30, v] for u, v in UV]}
    other_side = HAND | {"hand": "right", "score": 0.7}
    root = write_set(tmp_path / "set", [entry("a.jpg", hands=[unsurer, beside, other_side, HAND])])
    (photo,) = photos.read_photos(root, "all")
    assert [(hand.side, hand.score) for hand in photo.hands] == [("left", 0.9), ("right", 0.7), ("left", 0.9)]
    assert photo.hands[2].joints_px[0, 0] == 0 and photo.hands[0].joints_px[0, 0] == 30


def test_a_folder_of_labelled_folders_stands_for_those(tmp_path):
    for name in ("b", "a"):
        write_set(tmp_path / "all" / name, [entry("a.jpg")])
    (tmp_path / "all" / "other").mkdir()
    assert photos.labelled_folders(tmp_path / "all") == [tmp_path / "all" / name for name in ("a", "b")]
    assert photos.labelled_folders(tmp_path / "all/a") == [tmp_path / "all/a"]
    with pytest.raises(FileNotFoundError, match=r"no pseudo_labels.json in .*other or in one of its folders"):
        photos.labelled_folders(tmp_path / "all/other")


def test_the_split_is_fixed():
    """Recorded once: a changed split would train on files that others hold out."""
    names = [f"{k}.jpg" for k in range(40)]
    assert [name for name in names if photos.split_of(name) == "val"] == ["7.jpg", "18.jpg", "33.jpg", "35.jpg"]
    assert photos.split_of("folder/of/7.jpg") == "val"


def test_train_and_val_share_nothing(tmp_path):
    root = write_set(tmp_path / "set", [entry(f"{k}.jpg") for k in range(20)])
    train, val = ({photo.path.name for photo in photos.read_photos(root, split)} for split in ("train", "val"))
    assert val == {"7.jpg", "18.jpg"} and len(train) == 18 and not train & val


def test_missing_images_are_counted(tmp_path):
    root = write_set(tmp_path / "set", [entry("a.jpg"), entry("b.jpg")], missing=("images/b.jpg",))
    with pytest.warns(UserWarning, match="1 of 2 images are missing, first .*b.jpg"):
        assert len(photos.read_photos(root, "all")) == 1
    (root / "images/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="none of the 2 images"):
        photos.read_photos(root, "all")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"width": 64, "height": 48, "hands": []}, "lacks 'file'"),
        (entry("b.jpg", hands=[HAND | {"hand": "both"}]), "hand must be one of left, right, got 'both'"),
        (entry("b.jpg", hands=[HAND | {"uv": UV[:20]}]), r"uv must be 21 x 2 finite numbers, got shape \(20, 2\)"),
        (entry("b.jpg", hands=[HAND | {"xyz": [[float("nan")] * 3] * 21}]), "xyz must be 21 x 3 finite"),
        (entry("b.jpg", hands=[HAND | {"score": None}]), "float"),
        ("b.jpg", "entry 1"),
    ],
)
def test_malformed_entries_are_named(tmp_path, bad, reason):
    root = write_set(tmp_path / "set", [entry("a.jpg")])
    (root / photos.LABEL_FILE).write_text(json.dumps([entry("a.jpg"), bad]))
    with pytest.raises(photos.PhotoError, match=f"entry 1.*{reason}|{reason}"):
        photos.read_photos(root, "all")


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no pseudo_labels\.json"):
        photos.read_photos(tmp_path, "all")
    (tmp_path / photos.LABEL_FILE).write_text("[")
    with pytest.raises(photos.PhotoError, match="not JSON"):
        photos.read_photos(tmp_path, "all")
    (tmp_path / photos.LABEL_FILE).write_text("{}")
    with pytest.raises(photos.PhotoError, match="expected a list of entries, got dict"):
        photos.read_photos(tmp_path, "all")
    with pytest.raises(ValueError, match="unknown split 'test'; valid: train, val, all"):
        photos.read_photos(tmp_path, "test")


def test_endless_nesting_ends_in_the_name_of_the_file(tmp_path):
    (tmp_path / photos.LABEL_FILE).write_text("[" * 100_000)
    with pytest.raises(photos.PhotoError, match=r"pseudo_labels\.json.*nests too deeply"):
        photos.read_photos(tmp_path, "all")


def test_bad_images(tmp_path):
    root = write_set(tmp_path / "set", [entry("a.jpg", width=65), entry("b.jpg"), entry("c.jpg")])
    (root / "images/b.jpg").write_text("not an image")
    (root / "images/c.jpg").write_bytes(b"")
    wrong_size, text, empty = photos.read_photos(root, "all")
    with pytest.raises(photos.PhotoError, match="64x48, its labels are for 65x48"):
        wrong_size.load()
    for photo in (text, empty):
        with pytest.raises(ImageError, match=r"known format|cannot be read|empty"):
            photo.load()


def test_list_images(tmp_path):
    root = write_set(tmp_path / "set", [entry(f"{k}.jpg") for k in range(20)])
    assert len(photos.list_images(root, "all")) == 20
    assert [path.name for path in photos.list_images(root, "val")] == ["18.jpg", "7.jpg"]
    with pytest.raises(FileNotFoundError, match="no images"):
        photos.list_images(tmp_path / "nothing", "all")


def test_what_macos_copies_beside_images_is_no_image(tmp_path):
    root = write_set(tmp_path / "set", [entry("a.jpg"), entry("b.jpg")])
    for name in ("._a.jpg", "._b.jpg", ".DS_Store"):
        (root / "images" / name).write_bytes(b"attributes")
    assert [path.name for path in photos.list_images(root)] == ["a.jpg", "b.jpg"]
