"""What is recorded of a session can be read back, in every format, whatever ends the recording."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gltf_reader import Glb
from test_gltf import SEAMS, track

from handmesh.app.capture import open_hand_sink
from handmesh.cli import main
from handmesh.files import OutputError
from handmesh.geometry import mirror_faces, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.types import Camera, Frame, Hand, Side, TrackedFrame
from handmesh.video.clips import Clip, ClipError, read_clip, save_clip, save_rigged_hand
from handmesh.video.sinks import GrowingFile
from handmesh.xr.gltf import VIEW_FROM_CAMERA

HAND = SkinnedHand.open_hand()
CAMERA = Camera(500.0, 510.0, 319.5, 239.5, 640, 480)
IMAGE = np.zeros((480, 640, 3), np.uint8)
SEEN = {"right": [0, 1, 2, 3, 5, 6], "left": [3, 4]}
FRAMES = 8
SCALE = 0.93


def hands_of(side: Side, number: int) -> list[Hand]:
    """A hand that stays the same in shape and size, in poses at random."""
    recorded, vertices = track(side, np.arange(number), SCALE, seed=len(side))
    told = side == "left"
    return [
        Hand(
            vertices_m=vertices[k].astype(np.float32),
            joints_m=recorded.joints_m[k].astype(np.float32),
            joints_px=project(recorded.joints_m[k], CAMERA).astype(np.float32),
            side=side,
            score=0.9 + k / 100,
            pose=recorded.poses[k].astype(np.float32),
            shape=recorded.shapes[k].astype(np.float32),
            faces=HAND.faces if side == "right" else mirror_faces(HAND.faces),
            id=7 if side == "right" else 8,
            joints_uncertainty_px=np.full(21, 2.5, np.float32) if told else None,
            joints_uncertainty_m=np.full(21, 0.004, np.float32) if told else None,
            contact=np.float32([0.9, 0.25, 0, 1]) if told else None,
            visible_s=k / 30,
            predicted=k == 1,
        )
        for k in range(number)
    ]


@pytest.fixture(scope="module")
def session() -> list[tuple[Frame, list[Hand]]]:
    """Eight frames: one hand for long, with a gap, another for two of them, none in the last."""
    shown: list[list[Hand]] = [[] for _ in range(FRAMES)]
    for side, frames in SEEN.items():
        for frame, hand in zip(frames, hands_of(side, len(frames)), strict=True):
            shown[frame].append(hand)
    times = 100 + np.array([0, 0.03, 0.07, 0.1, 0.2, 0.23, 0.27, 0.3])
    return [(Frame(f"{k:06d}", times[k], IMAGE), hands) for k, hands in enumerate(shown)]


def record(path: Path, session: list[tuple[Frame, list[Hand]]]) -> Path:
    export = open_hand_sink(path, source_title="camera 0", fps=30)
    for frame, hands in session:
        export.add(TrackedFrame(frame, hands, CAMERA))
    export.close()
    return export.path


def assert_same(clip: Clip, session: list, metres: float, others: float) -> None:
    assert clip.title == "camera 0" and clip.fps == 30
    assert len(clip.heads) == len(session)
    np.testing.assert_allclose(clip.times_s, [frame.time_s - 100 for frame, _ in session], atol=1e-6)
    for (head, found), (frame, expected) in zip(clip, session, strict=True):
        assert head.name == frame.name and head.camera == CAMERA
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_hand(one, other, metres, others)


def assert_same_hand(found: Hand, expected: Hand, metres: float, others: float) -> None:
    assert (found.side, found.id, found.predicted) == (expected.side, expected.id, expected.predicted)
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert found.visible_s == pytest.approx(expected.visible_s, abs=1e-4)
    np.testing.assert_allclose(found.vertices_m, expected.vertices_m, atol=metres)
    for name in ("joints_m", "joints_px", "pose", "shape", "joints_uncertainty_px", "joints_uncertainty_m", "contact"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if other is not None:
            np.testing.assert_allclose(one, other, atol=others)
            assert one.dtype == np.float32
    np.testing.assert_array_equal(found.faces, expected.faces)


def test_npz_keeps_everything_exactly(tmp_path, session):
    path = record(tmp_path / "deep" / "clip.npz", session)
    assert_same(read_clip(path), session, 0, 0)
    assert [p.name for p in path.parent.iterdir()] == ["clip.npz"]
    with np.load(path) as plain:  # also for who has no handmesh
        assert plain["side"].tolist()[:4] == ["right"] * 4 and plain["frame"].tolist()[-1] == 6
        assert plain["vertices_m"].shape == (8, 1689, 3) and plain["vertices_m"].dtype == np.float32
        np.testing.assert_allclose(plain["camera_K"][3], CAMERA.K)


def test_clips_of_before_tell_no_contact(tmp_path, session):
    """Neither `.npz` nor `.json` had it; a recording that such a version began is for that version to save."""
    with np.load(record(tmp_path / "clip.npz", session)) as clip:
        np.savez(tmp_path / "old.npz", **{name: clip[name] for name in clip.files if name != "contact"})
    whole = json.loads(record(tmp_path / "clip.json", session).read_text())
    for hand in (hand for frame in whole["frames"] for hand in frame["hands"]):
        del hand["contact"]
    (tmp_path / "old.json").write_text(json.dumps(whole))
    silent = [(frame, [replace(hand, contact=None) for hand in hands]) for frame, hands in session]
    assert_same(read_clip(tmp_path / "old.npz"), silent, 0, 0)
    assert_same(read_clip(tmp_path / "old.json"), silent, 2e-5, 0.006)


def test_a_recording_that_another_version_began_is_refused(clips, tmp_path):
    about = left(clips, tmp_path) / "clip.json"
    about.write_text(json.dumps({k: v for k, v in json.loads(about.read_text()).items() if k != "fields"}))
    with pytest.raises(ClipError, match="was begun by another version of handmesh: save it with that one"):
        read_clip(about.parent)


def test_a_clip_without_its_meshes_poses_them_anew(tmp_path, session):
    path = record(tmp_path / "clip.npz", session)
    clip = read_clip(path, vertices=False)
    assert clip.vertices_m is None
    assert_same(clip, session, 1e-5, 0)


def test_json_is_readable_and_complete(tmp_path, session):
    path = record(tmp_path / "clip.json", session)
    lines = path.read_text().splitlines()
    whole = json.loads("\n".join(lines))
    assert (whole["format"], whole["version"], whole["source"]) == ("handmesh clip", 1, "camera 0")
    assert len(lines) == FRAMES + 2 and all(json.loads(line.rstrip(",")) for line in lines[1:-1])
    assert len(whole["frames"][3]["hands"]) == 2 and np.shape(whole["frames"][3]["hands"][0]["pose_xyzw"]) == (16, 4)
    assert_same(read_clip(path), session, 2e-5, 0.006)


def test_glb_plays_what_was_recorded(tmp_path, session):
    path = record(tmp_path / "clip.glb", session)
    glb = Glb(path.read_bytes())
    assert [skin["name"] for skin in glb.json["skins"]] == ["right_7", "left_8"]
    for frame, hands in session:
        glb.play(frame.time_s - 100 + 1e-6)
        shown = {hand.id: hand for hand in hands}
        for skin, identity in enumerate((7, 8)):
            found = glb.skinned(skin)
            if identity in shown:
                expected = shown[identity].vertices_m[SEAMS.vertex] @ VIEW_FROM_CAMERA
                assert np.abs(found - expected).max() < 0.0001
            else:
                assert np.ptp(found, axis=0).max() < 1e-6


def test_a_converted_clip_is_as_if_recorded_so(tmp_path, session):
    record(tmp_path / "direct.glb", session)
    record(tmp_path / "clip.npz", session)
    save_clip(read_clip(tmp_path / "clip.npz", vertices=False), tmp_path / "converted.glb")
    assert (tmp_path / "converted.glb").read_bytes() == (tmp_path / "direct.glb").read_bytes()
    save_clip(read_clip(tmp_path / "clip.npz"), tmp_path / "clip.json")
    save_clip(read_clip(tmp_path / "clip.json"), tmp_path / "again.npz")
    assert_same(read_clip(tmp_path / "again.npz"), session, 2e-5, 0.006)


@pytest.mark.parametrize(("asked", "suffix"), [("frames", ".glb"), ("frames.obj", ".obj"), ("frames.ply", ".ply")])
def test_a_folder_gets_a_mesh_of_every_frame_with_hands(tmp_path, session, asked, suffix):
    import trimesh

    folder = record(tmp_path / asked, session[3:])
    assert folder == tmp_path / "frames"
    assert sorted(p.name for p in folder.iterdir()) == [f"{k:06d}{suffix}" for k in (3, 4, 5, 6)]
    mesh = trimesh.load(folder / f"000004{suffix}", force="mesh")
    expected = session[4][1][0].vertices_m @ VIEW_FROM_CAMERA
    np.testing.assert_allclose(mesh.bounds, [expected.min(0), expected.max(0)], atol=1e-5)


def test_a_rigged_hand_has_the_shape_and_size_of_the_one_seen_longest(tmp_path, session):
    record(tmp_path / "clip.npz", session)
    save_rigged_hand(read_clip(tmp_path / "clip.npz", vertices=False), tmp_path / "hand.glb")
    glb, hand = Glb((tmp_path / "hand.glb").read_bytes()), session[0][1][0]
    assert glb.json["skins"][0]["name"] == "right_hand"
    positions = glb.globals()[:, :3, 3]
    bone = [positions[glb.node(f"index-finger-phalanx-{part}")] for part in ("intermediate", "distal")]
    assert np.linalg.norm(bone[1] - bone[0]) == pytest.approx(
        np.linalg.norm(hand.joints_m[7] - hand.joints_m[6]), abs=0.0005
    )


_KILLED = """
import os, pickle, signal, sys
from handmesh.app.capture import open_hand_sink
from handmesh.types import TrackedFrame
with open(sys.argv[1], "rb") as file:
    session, camera = pickle.load(file)
export = open_hand_sink(sys.argv[2], "camera 0", 30)
for frame, hands in session:
    export.add(TrackedFrame(frame, hands, camera))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_recorded_survives_a_kill(tmp_path, session, capsys):
    import pickle

    (tmp_path / "session.pkl").write_bytes(pickle.dumps((session, CAMERA)))
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "session.pkl"), str(tmp_path / "clip.npz")]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == -9, done.stderr
    part = tmp_path / "clip.npz.part"
    with open(part / "frames.jsonl", "a") as lines, open(part / "hands.bin", "ab") as hands:
        lines.write('{"name": "0000')  # the kill came in the middle of a frame
        hands.write(b"\0" * 100)
    with pytest.raises(OutputError, match=r"was not finished.*convert-clip .*clip.npz.part"):
        open_hand_sink(tmp_path / "clip.npz")
    assert run(str(part), "--output", str(tmp_path / "saved.npz")) == 0
    assert "8 frames, 2 hands" in capsys.readouterr().err
    assert_same(read_clip(tmp_path / "saved.npz"), session, 0, 0)


def run(*words: str) -> int:
    return main(["convert-clip", *words])


@pytest.mark.parametrize("words", [("hand.glb", "--rigged"), ("hand.glb", "--webxr"), ("hand.bvh",), ("hand.json",)])
def test_a_side_can_be_chosen(tmp_path, session, words):
    """The clip's right hand is seen for longer: without a choice it is the one."""
    clip = record(tmp_path / "clip.npz", session)
    output = tmp_path / words[0]
    assert run(str(clip), "--output", str(output), "--side", "left", *words[1:]) == 0
    if output.suffix == ".glb":
        assert Glb(output.read_bytes()).json["skins"][0]["name"] == "left_hand"
    elif output.suffix == ".bvh":
        assert "Frames: 4\n" in output.read_text()  # the two of the left hand are a tenth of a second apart
    else:
        assert [[hand.side for hand in hands] for _, hands in read_clip(output)] == [
            ["left"] if k in SEEN["left"] else [] for k in range(FRAMES)
        ]


def test_a_side_that_is_not_there_is_said_in_a_line(tmp_path, session, capsys):
    only_right = [(frame, [hand for hand in hands if hand.side == "right"]) for frame, hands in session]
    clip = record(tmp_path / "clip.npz", only_right)
    assert run(str(clip), "--output", str(tmp_path / "x.glb"), "--side", "left") == 1
    assert "no left hand in camera 0" in capsys.readouterr().err


def test_a_clip_is_not_written_over_itself(tmp_path, session, capsys):
    path = record(tmp_path / "clip.json", session)
    (tmp_path / "link.json").symlink_to(path)
    before = path.read_bytes()
    assert run(str(path), "--output", str(tmp_path / "link.json")) == 1
    assert "clip.json, which is being read" in capsys.readouterr().err and path.read_bytes() == before


def test_a_folder_of_the_users_is_not_taken_for_a_recording(tmp_path):
    (tmp_path / "clip.npz.part").mkdir()
    (tmp_path / "clip.npz.part" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"clip.npz.part is needed while recording, and holds something else"):
        open_hand_sink(tmp_path / "clip.npz")
    assert (tmp_path / "clip.npz.part" / "mine.txt").read_text() == "mine"


def test_the_command_says_in_a_line_what_is_wrong(tmp_path, capsys):
    assert run(str(tmp_path / "none.npz"), "--output", str(tmp_path / "x.glb")) == 1
    assert "error: no recorded clip at" in capsys.readouterr().err


def test_a_full_disk_costs_only_the_frame_at_hand(tmp_path, session, monkeypatch):
    export = open_hand_sink(tmp_path / "clip.npz", "camera 0", 30)
    for frame, hands in session[:3]:
        export.add(TrackedFrame(frame, hands, CAMERA))

    def full(*_) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(GrowingFile, "write", full)
        with pytest.raises(OutputError, match=r"clip.npz.part: No space left.*what was recorded before is kept"):
            export.add(TrackedFrame(*session[3], CAMERA))
    with pytest.raises(OutputError, match="since an earlier error"):
        export.add(TrackedFrame(*session[4], CAMERA))
    export.close()
    assert_same(read_clip(tmp_path / "clip.npz"), session[:3], 0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
@pytest.mark.parametrize("name", ["clip.npz", "clip.json"])
def test_a_folder_that_is_removed_comes_back_with_the_clip(tmp_path, session, name):
    export = open_hand_sink(tmp_path / "out" / name, "camera 0", 30)
    for k, (frame, hands) in enumerate(session):
        if k == 4:
            shutil.rmtree(tmp_path / "out")
        export.add(TrackedFrame(frame, hands, CAMERA))
    export.close()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert_same(read_clip(tmp_path / "out" / name), session, 2e-5, 0.006)


def test_what_cannot_be_finished_stays_as_it_grew(tmp_path, session, monkeypatch):
    export = open_hand_sink(tmp_path / "clip.npz", "camera 0", 30)
    for frame, hands in session:
        export.add(TrackedFrame(frame, hands, CAMERA))

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"No space left.*what was recorded is in .*clip.npz.part"):
        export.close()
    assert [p.name for p in tmp_path.iterdir()] == ["clip.npz.part"]
    assert_same(read_clip(tmp_path / "clip.npz.part"), session, 0, 0)


def test_times_begin_at_zero_and_rise_whatever_the_clock_does(tmp_path, session):
    hands = session[0][1]
    times = [5.0, 5.1, 5.1, 4.0, 4.1, float("nan")]
    path = record(tmp_path / "clip.glb", [(Frame(str(k), t, IMAGE), hands) for k, t in enumerate(times)])
    keys = Glb(path.read_bytes())
    clock = keys.numbers(keys.json["animations"][0]["samplers"][0]["input"])
    np.testing.assert_allclose(np.diff(clock), [0.1, 1 / 30, 1 / 30, 0.1, 1 / 30], atol=1e-6)
    assert clock[0] == 0


def test_without_frames_nothing_is_left_and_without_hands_no_animation(tmp_path, session):
    record(tmp_path / "clip.npz", [])
    with pytest.raises(OutputError, match="no hand was seen"):
        record(tmp_path / "clip.glb", [session[-1]])
    assert not list(tmp_path.iterdir())
    empty = read_clip(record(tmp_path / "clip.npz", [session[-1]]))
    assert len(empty.heads) == 1 and empty.tracks() == [] and [hands for _, hands in empty] == [[]]
    with pytest.raises(OutputError, match="no hand"):
        save_rigged_hand(empty, tmp_path / "hand.glb")


def test_memory_does_not_grow_with_the_recording(tmp_path, session):
    export = open_hand_sink(tmp_path / "clip.npz", fps=30)
    frame, hands = session[3]
    for k in range(20):
        export.add(TrackedFrame(frame._replace(time_s=k / 30), hands, CAMERA))
    tracemalloc.start()
    for k in range(300):
        export.add(TrackedFrame(frame._replace(time_s=1 + k / 30), hands, CAMERA))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 200_000  # the meshes alone are 12 MB
    export.close()
    assert len(read_clip(tmp_path / "clip.npz", vertices=False).rows) == 640


def test_another_hand_model_is_refused_where_it_would_give_nonsense(tmp_path, session):
    smaller = replace(session[0][1][0], vertices_m=np.zeros((778, 3), np.float32))
    export = open_hand_sink(tmp_path / "clip.glb")
    with pytest.raises(OutputError, match="778 vertices with a model of 1689"):
        export.add(TrackedFrame(session[0][0], [smaller], CAMERA))
    export.close()
    record(tmp_path / "clip.json", session)
    text = (tmp_path / "clip.json").read_text().replace('"num_vertices": 1689', '"num_vertices": 778')
    (tmp_path / "clip.json").write_text(text)
    with pytest.raises(ClipError, match="recorded with a hand of 778 vertices"):
        save_clip(read_clip(tmp_path / "clip.json"), tmp_path / "x.glb")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x.fbx", "clips are written as .npz, .json"), ("file/x.npz", "cannot write"), ("file/x", "cannot write")],
)
def test_bad_paths_are_refused_at_once(tmp_path, name, reason):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=reason) as caught:
        open_hand_sink(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.npz", b"PK"),
        ("x.json", b"[1"),
        ("x.json", b"[]"),
        ("x.json", b'{"format": "handmesh clip", "version": 1, "frames": [{"file": "a"}]}'),
        ("x.json", b'{"format": "handmesh clip", "version": 99}'),
        ("x.mp4", b""),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClipError, match=name) as caught:
        read_clip(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_npz_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=1)
    with pytest.raises(ClipError, match="not a recorded clip as"):
        read_clip(tmp_path / "x.npz")


@pytest.fixture(scope="module")
def clips(tmp_path_factory, session) -> Path:
    """A folder with the session as clip.npz, clip.json and what a killed process leaves."""
    folder = tmp_path_factory.mktemp("clips")
    record(folder / "clip.npz", session)
    record(folder / "clip.json", session)
    export = open_hand_sink(folder / "left.npz", source_title="camera 0")
    for frame, hands in session:
        export.add(TrackedFrame(frame, hands, CAMERA))
    return folder


def refused(path: Path) -> str:
    """Why a clip is refused, by the command too: one line that names the file."""
    with pytest.raises(ClipError) as caught:
        read_clip(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


NOT_A_CLIP = {
    "a field is missing": {"pose": None},
    "the format is an array": {"format": np.zeros(3)},
    "a version that is no number": {"version": np.array("one")},
    "a newer version": {"version": np.array(99)},
    "a rate of nothing": {"fps": np.array(0.0)},
    "times that are not finite": {"time_s": np.full(FRAMES, np.nan)},
    "times that run back": {"time_s": np.arange(FRAMES)[::-1]},
    "too few times": {"time_s": np.arange(3.0)},
    "cameras without a focal length": {"camera_K": np.zeros((FRAMES, 3, 3))},
    "cameras of another shape": {"camera_K": np.ones((FRAMES, 3))},
    "names as numbers": {"frame_name": np.arange(FRAMES)},
    "names above the folder": {"frame_name": np.array(["../x"] * FRAMES)},
    "names elsewhere": {"frame_name": np.array(["/tmp/x"] * FRAMES)},
    "frames out of order": {"frame": np.arange(8)[::-1]},
    "frames that are not there": {"frame": np.full(8, FRAMES)},
    "frames before the first": {"frame": np.full(8, -1)},
    "frames as fractions": {"frame": np.zeros(8)},
    "sides of something else": {"side": np.array(["third"] * 8)},
    "scores of another number": {"score": np.ones(7, np.float32)},
    "poses of another shape": {"pose": np.zeros((8, 15, 3, 3), np.float32)},
    "poses that are no rotations": {"pose": np.zeros((8, 16, 3, 3), np.float32)},
    "joints that are not finite": {"joints_m": np.full((8, 21, 3), np.inf, np.float32)},
    "joints as words": {"joints_px": np.full((8, 21, 2), "a")},
    "faces of no vertices": {"faces": np.full((4, 3), 1689)},
    "faces with four corners": {"faces": np.zeros((4, 4), int)},
    "a number of vertices below zero": {"num_vertices": np.array(-1)},
    "meshes of another shape": {"vertices_m": np.zeros((8, 778, 3), np.float32)},
    "meshes that are not finite": {"vertices_m": np.full((8, 1689, 3), np.nan, np.float32)},
}


@pytest.mark.parametrize("case", NOT_A_CLIP)
def test_an_npz_is_checked_before_it_is_used(clips, tmp_path, case):
    with np.load(clips / "clip.npz") as archive:
        arrays = {**archive, **NOT_A_CLIP[case]}
    np.savez(tmp_path / "x.npz", **{name: values for name, values in arrays.items() if values is not None})
    refused(tmp_path / "x.npz")


def test_an_npz_that_was_saved_compressed_is_read(clips, tmp_path, session):
    with np.load(clips / "clip.npz") as archive:
        np.savez_compressed(tmp_path / "x.npz", **archive)
    assert_same(read_clip(tmp_path / "x.npz"), session, 0, 0)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.99])
def test_an_npz_with_damaged_bytes_is_refused(clips, tmp_path, at):
    data = bytearray((clips / "clip.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(data[: int(at * len(data))])
    refused(tmp_path / "cut.npz")
    data[int(at * len(data))] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(data)
    refused(tmp_path / "flipped.npz")


def rezipped(source: Path, path: Path, name: str, data: bytes) -> Path:
    """The .npz with other bytes for one of its arrays."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, data if member == f"{name}.npy" else old.read(member))
    return path


def test_what_announces_more_than_its_file_can_hold_takes_no_memory(clips, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (400_000_000,)})
    bomb = rezipped(clips / "clip.npz", tmp_path / "bomb.npz", "score", header.getvalue() + bytes(90_000_000))
    liar = rezipped(clips / "clip.npz", tmp_path / "liar.npz", "score", header.getvalue() + bytes(1000))
    tracemalloc.start()
    assert "would expand to 0.1 GB" in refused(bomb)
    assert "an array of 1600000000 bytes" in refused(liar)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


NOT_A_RECORD = {
    "it nests too deeply": ("[" * 100_000, "nests too deeply"),
    "it is no text": ("\udcff", "is not JSON"),
    "a number of ten thousand digits": ('{"format": ' + "1" * 10_000 + "}", "is not JSON"),
    "a list": ("[]", "a list where a record belongs"),
    "a version of words": ('{"format": "handmesh clip", "version": "one"}', "version is 'one'"),
    "without frames": ('{"format": "handmesh clip", "version": 1}', "it lacks 'frames'"),
}


@pytest.mark.parametrize("case", NOT_A_RECORD)
def test_json_of_something_else_is_refused(tmp_path, case):
    text, reason = NOT_A_RECORD[case]
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    assert reason in refused(tmp_path / "x.json")


CHANGED = {
    "score": "NaN",
    "id": str(10**30),
    "side": '"up"',
    "joints_m": "[[1, 2], [3]]",
    "joints_px": "7",
    "shape": '["a", "b"]',
    "pose_xyzw": json.dumps([[0, 0, 0, 0]] * 16),
    "visible_s": "null",
    "camera": "[]",
    "time_s": '"now"',
    "file": '"../../x"',
    "hands": "5",
    "fps": "-1",
    "num_vertices": '"many"',
}


@pytest.mark.parametrize("name", CHANGED)
def test_json_is_checked_before_it_is_used(clips, tmp_path, name):
    whole = json.loads((clips / "clip.json").read_text())
    frame = whole["frames"][2]
    (record,) = [record for record in (whole, frame, frame["hands"][0]) if name in record]
    record[name] = "HERE"
    (tmp_path / "x.json").write_text(json.dumps(whole).replace('"HERE"', CHANGED[name]))
    refused(tmp_path / "x.json")


def left(clips: Path, folder: Path) -> Path:
    return Path(shutil.copytree(clips / "left.npz.part", folder / "clip.npz.part"))


def test_a_recording_with_damaged_ends_is_read_as_far_as_it_is_whole(clips, tmp_path, session, capsys):
    part = left(clips, tmp_path)
    with open(part / "vertices.bin", "r+b") as file:
        file.truncate(5 * 1689 * 12)
    assert_same(read_clip(part), session, 1e-5, 0)  # meshes come from the poses
    assert "meshes are damaged, and are posed anew" in capsys.readouterr().err
    for name in ("frames.jsonl", "hands.bin"):  # as a power cut leaves them: as long as they were, and empty at the end
        size = (part / name).stat().st_size
        os.truncate(part / name, int(0.6 * size))
        os.truncate(part / name, size)
    clip = read_clip(part)
    assert 2 <= len(clip.heads) < FRAMES and 2 <= len(clip.rows) <= 5
    for (head, found), (frame, _) in zip(clip, session, strict=False):
        assert head.name == frame.name and all(hand.score > 0.8 for hand in found)
    assert "hands after frame 3 are damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["clip.json", "faces.npy", "frames.jsonl", "hands.bin"])
@pytest.mark.parametrize("data", [None, b"", b"[" * 100_000, b"{}", bytes(1000)])
def test_a_damaged_part_of_a_recording_is_no_traceback(clips, tmp_path, name, data):
    part = left(clips, tmp_path)
    (part / name).unlink() if data is None else (part / name).write_bytes(data)
    code = run(str(part), "--output", str(tmp_path / "saved.npz"))
    assert code == 1 or not len(read_clip(tmp_path / "saved.npz").rows)


def test_hands_that_are_not_finite_spoil_no_recording(tmp_path, session):
    frame, hands = session[0]
    broken = replace(hands[0], joints_m=np.full((21, 3), np.nan, np.float32))
    path = record(tmp_path / "clip.npz", [(frame, [broken, *hands]), (session[1][0], [broken])])
    assert [len(shown) for _, shown in read_clip(path)] == [1, 0]
