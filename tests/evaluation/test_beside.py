"""MediaPipe beside ours: the way to its process and back, what goes wrong there, and both in one report."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_mediapipe import QUITS, SPIN_S, SPINS, VERSION, executable, fake_python
from test_pipeline import fake_product, make_hand, shifted, values, write_photos, write_posed_shard

from handmesh.benchmark.latency import taken_frames
from handmesh.cli import main
from handmesh.evaluation import pipeline
from handmesh.evaluation.beside import MediaPipe, MediaPipeUnavailable
from handmesh.evaluation.metrics import errors_2d, match_joints

TRUTH = Path(__file__).parents[1] / "golden" / "demo_truth.npz"
REAL = "HANDMESH_MEDIAPIPE_PYTHON"
"""The environment variable that names a Python with mediapipe."""

__all__ = ["fake_product"]  # a fixture


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((40, 60, 3), (red, green, blue), np.uint8)


def test_hands_come_with_the_subjects_side_and_in_pixels(tmp_path):
    """MediaPipe takes images for mirrored ones: what it calls Left is the right hand of who was photographed."""
    with MediaPipe(fake_python(tmp_path), 2) as mediapipe:
        assert mediapipe.version == VERSION
        assert mediapipe.see(plain(0, 0, 0)).hands == []
        seen = mediapipe.see(plain(1, 50, 100))
    assert [hand.side for hand in seen.hands] == ["right", "left"]
    hand = seen.hands[0]
    assert hand.score == 0.875 and seen.wall_ms > 0
    across = (50 / 200 + np.arange(21) / 40) * 60 - 0.5  # the middle of the first pixel is 0
    np.testing.assert_allclose(hand.joints_px, np.stack([across, np.full(21, 19.5)], 1), atol=1e-4)
    np.testing.assert_allclose(hand.joints_m[20], [20 / 40, 0, 20 / 100], atol=1e-6)


@pytest.mark.parametrize("video", [False, True])
def test_it_is_the_full_model_on_static_images_or_a_video(tmp_path, video):
    MediaPipe(fake_python(tmp_path), 1, video).close()
    expected = {"static_image_mode": not video, "max_num_hands": 1, "model_complexity": 1}
    assert json.loads((tmp_path / "options").read_text()) == expected


def test_the_processors_time_is_that_of_looking(tmp_path):
    with MediaPipe(fake_python(tmp_path), 1) as mediapipe:
        before = mediapipe.processor_s()
        mediapipe.see(np.ones((1500, 2000, 3), np.uint8))
        reading = mediapipe.processor_s() - before
        mediapipe.see(plain(SPINS, 1, 1))
        looking = mediapipe.processor_s() - before - reading
    assert SPIN_S <= looking < SPIN_S + 0.02 and reading < 0.02


LINES = r"`python3 -m venv .venv-mediapipe` and `.venv-mediapipe/bin/pip install mediapipe==0\.10\.21`"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, r"python cannot be started \(No such file"),
        ("raise ModuleNotFoundError('No module named mediapipe')", "ModuleNotFoundError: No module named mediapipe"),
        ("__version__ = '0.10.31'", "has no attribute 'solutions'"),
    ],
)
def test_where_it_is_missing_the_message_says_how_to_get_it(tmp_path, module, reason):
    python = fake_python(tmp_path, module) if module else tmp_path / "python"
    with pytest.raises(MediaPipeUnavailable, match=f"{reason}.*{LINES}.*--beside-python"):
        MediaPipe(python, 2)


def test_a_process_that_ends_says_its_last_words(tmp_path):
    with MediaPipe(fake_python(tmp_path), 2) as mediapipe:
        for _ in range(2):  # at the image that it ends with, and at the next
            with pytest.raises(RuntimeError, match=r"python\) ended with code 1: out of hands"):
                mediapipe.see(plain(QUITS, 1, 1))


def test_another_program_in_its_place_is_named(tmp_path):
    for answer in ("hello", "[1]", '{"hands": 3}'):
        python = executable(tmp_path / "python", f"#!/bin/sh\necho '{answer}'\n")
        with pytest.raises(RuntimeError, match=r"answered what is no version of MediaPipe's"):
            MediaPipe(python, 2)


@pytest.mark.usefixtures("fake_product")
def test_photographs_are_judged_by_the_same_code_in_one_table(tmp_path, capsys):
    """Ours sees its hand everywhere; MediaPipe, asked for two, sees two elsewhere: none that is labelled."""
    hand = make_hand()
    strangers = write_photos(tmp_path / "strangers", {"0.png": [hand], "1.png": [hand]})
    empty = write_photos(tmp_path / "empty", {"10.png": []})
    options = pipeline.PhotoOptions(
        unseen=(strangers,), backgrounds=empty, output=tmp_path / "out",
        beside=("mediapipe",), beside_python=fake_python(tmp_path / "mp"),
    )  # fmt: skip
    results = pipeline.evaluate_photos(options)
    assert [(r.data, r.boxes, r.by) for r in results] == [
        ("strangers", "given", ""), ("all unseen", "given", ""),
        ("strangers", "detected", ""), ("strangers", "detected", "MediaPipe"),
        ("all unseen", "detected", ""), ("all unseen", "detected", "MediaPipe"),
        ("empty", "none", ""), ("empty", "none", "MediaPipe"),
    ]  # fmt: skip
    ours, theirs = (values(result.metrics) for result in results[4:6])
    assert (ours["hands found"], theirs["hands found"]) == (100, 0)
    assert (ours["combined"], theirs["combined"]) == (pytest.approx(0, abs=1e-6), 0.5)
    assert (ours["extra hands"], theirs["extra hands"]) == (0, 200)
    assert np.isnan(ours["2D error, found by all"])
    assert values(results[7].metrics)["false positives"] == 200
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert [report.get("by") for report in content["reports"][2:4]] == [None, "MediaPipe"]
    assert content["combined"] == pytest.approx(0, abs=1e-6) and VERSION in content["beside"]["MediaPipe"]
    printed = capsys.readouterr().out
    rows = [line.split()[:3] for line in printed.splitlines()]
    assert ["MediaPipe", "2", "0.0"] in rows and ["all", "unseen", "test_pipeline"] in rows
    assert "judge and judged" in " ".join(printed.split())
    assert "MediaPipe" in (tmp_path / "out/report.md").read_text()


@pytest.mark.usefixtures("fake_product")
def test_errors_are_compared_over_the_hands_that_all_found(tmp_path, monkeypatch):
    """MediaPipe finds every hand where it is labelled; ours finds the one that is red enough, 0.1 beside it."""
    python = fake_python(tmp_path / "mp")
    with MediaPipe(python, 1) as mediapipe:
        (seen,) = mediapipe.see(np.full((80, 96, 3), (90, 40, 60), np.uint8)).hands
    ours = shifted(replace(make_hand(), joints_px=seen.joints_px, joints_m=seen.joints_m), 0.1)
    detect = SimpleNamespace(detect=lambda image, camera: [ours] if image[0, 0, 0] >= 90 else [])
    monkeypatch.setattr(pipeline, "HandTracker", lambda *_: detect)
    for red in (90, 80):
        write_photos(tmp_path / "strangers" / str(red), {"0.png": [seen]}, (red, 40, 60))
    options = pipeline.PhotoOptions(
        unseen=(tmp_path / "strangers",), boxes="detected", output=tmp_path / "out", num_hands=1,
        beside=("mediapipe",), beside_python=python,
    )  # fmt: skip
    both = [result for result in pipeline.evaluate_photos(options) if result.data == "all unseen"]
    found = [result.metric("hands found") for result in both]
    assert [(one.value, one.count) for one in found] == [(50, 2), (100, 2)]
    shared = [result.metric("2D error, found by all") for result in both]
    assert [(round(one.value, 3), one.count) for one in shared] == [(0.1, 1), (0, 1)]
    assert [round(result.metric("PA-MPJPE, found by all").value, 3) for result in both] == [0, 0]


@pytest.mark.usefixtures("fake_product")
def test_generated_hands_are_judged_by_their_joints(tmp_path, capsys):
    write_posed_shard(tmp_path)
    options = pipeline.SyntheticOptions(
        shards=(tmp_path,), boxes="detected", output=tmp_path / "out",
        beside=("mediapipe",), beside_python=fake_python(tmp_path / "mp"),
    )  # fmt: skip
    ours, theirs = pipeline.evaluate_synthetic(options)
    assert (ours.by, theirs.by) == ("", "MediaPipe") and ours.images == theirs.images == 2
    assert "detected boxes, MediaPipe" in capsys.readouterr().out


def test_a_missing_environment_is_one_line_before_any_work(tmp_path, capsys):
    photos = str(write_photos(tmp_path / "photos", {"10.png": [make_hand()]}))
    options = ["--beside", "mediapipe", "--beside-python", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    assert main(["evaluate", "photos", "--root", photos, *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and ".venv-mediapipe" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(REAL not in os.environ, reason=f"needs {REAL}, the path of a Python with mediapipe==0.10.21")
def test_the_real_one_agrees_with_the_film_whose_hands_are_known():
    """Sides above all."""
    with np.load(TRUTH) as truth:
        joints_px, sides = truth["joints_px"], truth["sides"].tolist()
    errors, found_sides = [], []
    with MediaPipe(Path(os.environ[REAL]), 2) as mediapipe:
        for k, taken in enumerate(taken_frames(None, len(joints_px))):
            if k % 10:
                continue
            hands = mediapipe.see(taken.image_rgb).hands
            pairs = match_joints([hand.joints_px for hand in hands], joints_px[k])
            found_sides += [hands[i].side == sides[n] for n, i in pairs.items()]
            errors += [errors_2d([hands[i].joints_px], [joints_px[k, n]]).mean() for n, i in pairs.items()]
    assert len(errors) > 30 and np.mean(found_sides) > 0.9 and np.median(errors) < 0.05
