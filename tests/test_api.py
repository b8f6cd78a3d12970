"""What users see of the package, and what it costs to import."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from contextlib import closing
from importlib import metadata

import numpy as np
import pytest
from PIL import Image
from posed_hand import posed_hand

import handmesh
from handmesh.app.capture import open_hand_sink
from handmesh.types import Frame, TrackedFrame


def in_fresh_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_public_names():
    assert handmesh.__all__ == ["Box", "Camera", "Hand", "HandTracker", "Joint", "Lens", "draw", "open_source"]
    assert set(handmesh.__all__) <= set(dir(handmesh))
    for name in handmesh.__all__:
        assert getattr(handmesh, name).__name__ == name


def test_public_methods():
    members = {name for name in vars(handmesh.HandTracker) if not name.startswith("_")}
    state = {"timings_ms", "provider", "hand", "hand_size_m"}
    assert members == {"load", "detect", "track", "reset", "close"} | state
    parameters = list(inspect.signature(handmesh.HandTracker.load).parameters)
    assert parameters == [
        *(
            "model",
            "num_hands",
            "backend",
            "device",
            "smooth",
            "threads",
            "passes",
            "hand_size_m",
            "detector",
            "min_score",
        ),
    ]
    assert list(inspect.signature(handmesh.HandTracker.track).parameters)[1:] == [
        *("frame_rgb", "time_s", "camera", "predict_s"),
    ]


def test_the_version_is_the_installed_ones():
    assert handmesh.__version__ == metadata.version("handmesh") and "__version__" in dir(handmesh)


def test_hands_are_drawn_over_images_of_any_kind(tmp_path):
    image = np.full((480, 640, 3), 90, np.uint8)
    hand = posed_hand(handmesh.Camera.from_fov(640, 480))
    drawn = handmesh.draw(image, [hand])
    inside = drawn[tuple(hand.joints_px[handmesh.Joint.MIDDLE_MCP].round().astype(int)[::-1])]
    assert (image == 90).all() and inside[2] > inside[0] > 60, "sky blue for a right hand"
    Image.fromarray(image).save(tmp_path / "grey.png")
    for other in (tmp_path / "grey.png", Image.fromarray(image)):
        assert np.array_equal(handmesh.draw(other, [hand]), drawn)
    only_joints = handmesh.draw(image, [hand], mesh=False, skeleton=True)
    assert 0 < (only_joints != image).any(2).sum() < (drawn != image).any(2).sum()
    with pytest.raises(ValueError, match="got list"):
        handmesh.draw([image], [hand])


def test_a_hand_is_plain_numbers_as_a_clip_has_them(tmp_path):
    hand = posed_hand(handmesh.Camera.from_fov(640, 480), side="left")
    fields = json.loads(hand.to_json())
    assert fields == hand.to_dict() and fields["side"] == "left" and fields["joints_uncertainty_m"] is None
    assert np.abs(np.array(fields["joints_m"]) - hand.joints_m).max() < 1e-6
    with closing(open_hand_sink(tmp_path / "clip.json")) as sink:
        camera = handmesh.Camera.from_fov(640, 480)
        sink.add(TrackedFrame(Frame("0", 0.0, np.zeros((480, 640, 3), np.uint8)), [hand], camera))
    assert json.loads((tmp_path / "clip.json").read_text())["frames"][0]["hands"] == [fields]
    whole = hand.to_dict(mesh=True)
    assert np.shape(whole["vertices_m"]) == hand.vertices_m.shape and whole["faces"] == hand.faces.tolist()


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match="HandTracker"):
        handmesh.HandTraker  # noqa: B018


def test_import_is_light_and_quick():
    code = "import time; start = time.perf_counter(); import handmesh; print(time.perf_counter() - start)"
    times = [float(in_fresh_python(code)) for _ in range(3)]
    assert min(times) < 0.5
    loaded = in_fresh_python("import handmesh, sys; print(*sys.modules)").split()
    assert not {"torch", "cv2", "onnxruntime", "numba", "scipy", "numpy"} & set(loaded)


def test_the_tracker_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from handmesh import HandTracker; print(*sys.modules)"
    assert not {"timm", "smplx", "torchvision", "onnx"} & set(in_fresh_python(code).split())
