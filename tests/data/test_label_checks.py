"""Mistakes in labels are named, each as what it is, and none in a sound set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training data is part of the training extra")

from freihand_files import read_list, write_freihand, write_list

from handmesh.data.freihand import FreihandSource, read_freihand
from handmesh.data.label_checks import BOXES, CAMERA, SIDES, UNITS, handedness, mistakes, statistics
from handmesh.data.mixture import WithCropProtocol
from handmesh.data.samples import HandSample, mirrored
from handmesh.hand.model import HandModel

ROWS = 12


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    return write_freihand(tmp_path_factory.mktemp("twin"), rows=ROWS, evaluation=0, versions=1)


def source_of(root: Path) -> FreihandSource:
    return FreihandSource(read_freihand(root, "training", ["gs"]), HandModel.load())


@pytest.fixture(scope="module")
def sound(twin) -> list[HandSample]:
    return list(map(source_of(twin).__getitem__, range(ROWS)))


def spoilt(root: Path, folder: Path, name: str, change) -> list[HandSample]:
    """Samples of a copy of the set with one of its lists changed."""
    for path in root.iterdir():
        (folder / path.name).symlink_to(path)
    rows = [change(np.array(row)).tolist() for row in read_list(root, "training", name)]
    (folder / f"training_{name}.json").unlink()
    write_list(folder, "training", name, rows)
    return list(map(source_of(folder).__getitem__, range(ROWS)))


@pytest.mark.parametrize("boxes", ["gt-keypoints", "centre-130", "rotated"])
def test_a_sound_set_has_none(twin, boxes):
    source = WithCropProtocol(source_of(twin), boxes, 1.5)
    assert mistakes([source[i] for i in range(ROWS)]) == []


def test_so_has_its_mirror_image_with_its_own_sides(sound):
    assert mistakes([mirrored(sample) for sample in sound]) == []


def moved(row: np.ndarray) -> np.ndarray:
    return row + [[0, 0, 45], [0, 0, -20], [0, 0, 0]]


def turned_back(row: np.ndarray) -> np.ndarray:
    return row * [[-1], [1], [1]] + [[0, 0, 223], [0, 0, 0], [0, 0, 0]]


IN_THE_FILES = {
    "millimetres": ("xyz", lambda row: 1000 * row, UNITS, "in millimetres"),
    "centimetres": ("xyz", lambda row: 100 * row, UNITS, "in centimetres"),
    "meshes in millimetres": ("verts", lambda row: 1000 * row, UNITS, "vertices_m .* in millimetres"),
    "a mirror before the camera": (
        "K",
        lambda row: row * [[-1], [1], [1]] + [[0, 0, 223], [0] * 3, [0] * 3],
        CAMERA,
        "left",
    ),
    "x to the left": ("xyz", lambda row: row * [-1, 1, 1], CAMERA, "mirrored left and right"),
    "y up": ("xyz", lambda row: row * [1, -1, 1], CAMERA, "mirrored up and down"),
    "the centre of a larger image": ("K", moved, BOXES, r"moved by -[45]\d, [12]\d px"),
}


@pytest.mark.parametrize("case", IN_THE_FILES)
def test_a_mistake_in_the_lists_is_named(twin, tmp_path, case):
    name, change, expected, said = IN_THE_FILES[case]
    (found,) = mistakes(spoilt(twin, tmp_path, name, change))
    assert found.what == expected
    assert re.search(said, found.found), found.found


def with_moved_box(sample: HandSample) -> HandSample:
    x, y = sample.box.centre_px
    return sample._replace(box=replace(sample.box, centre_px=(x + 0.4 * sample.box.size_px, y)))


def with_camera_mirrored(sample: HandSample) -> HandSample:
    return sample._replace(camera=replace(sample.camera, fx=-sample.camera.fx), mask=None)


def seen_in_a_mirror(sample: HandSample) -> HandSample:
    """As a photograph that was flipped with all its labels but the side."""
    return mirrored(sample)._replace(side=sample.side)


IN_THE_SAMPLES = {
    "other sides": (lambda sample: sample._replace(side="left"), SIDES),
    "flipped with its side kept": (seen_in_a_mirror, SIDES),
    "boxes beside the hands": (with_moved_box, BOXES),
    "a mirrored camera, without masks": (with_camera_mirrored, CAMERA),
}


@pytest.mark.parametrize("case", IN_THE_SAMPLES)
def test_a_mistake_of_a_source_is_named(sound, case):
    change, expected = IN_THE_SAMPLES[case]
    assert [found.what for found in mistakes([change(sample) for sample in sound])] == [expected]


def test_weak_labels_have_no_size(sound):
    weak = [s._replace(joints_m=7 * s.joints_m, weak_3d=True, vertices_m=None, camera=None) for s in sound]
    assert mistakes(weak) == []


def test_images_without_hands_have_nothing_to_be_wrong(sound):
    empty = [HandSample(sample.image, sample.box) for sample in sound]
    assert mistakes(empty) == [] and statistics(empty).right is None


def test_handedness_is_the_hands_own_however_it_is_turned(sound):
    for sample in sound:
        turn = cv2.Rodrigues(np.random.default_rng(0).normal(0, 2, 3))[0]
        assert handedness(sample.joints_m @ turn) == pytest.approx(handedness(sample.joints_m), abs=1e-4)
        assert handedness(sample.joints_m) > 0.5 > -0.5 > handedness(sample.joints_m * [-1, 1, 1])


def test_statistics_are_in_millimetres_and_pixels(sound):
    found = statistics(sound)
    lengths = [np.linalg.norm(np.diff(s.joints_m[[0, 9, 10, 11, 12]], axis=0), axis=1).sum() for s in sound]
    assert found.hand_mm == pytest.approx(1000 * np.median(lengths), rel=1e-5)
    assert len(found.finger_mm) == 5 and min(found.finger_mm) > 50 and max(found.finger_mm) < 120
    assert found.reprojection_px < 1e-3 and found.right == 1
    aside = [sample._replace(joints_px=sample.joints_px + [3, 4]) for sample in sound]
    assert statistics(aside).reprojection_px == pytest.approx(5, abs=1e-3)
