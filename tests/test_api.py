"""What users see of the package, and what it costs to import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import handmesh


def in_fresh_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_public_names():
    assert handmesh.__all__ == ["Box", "Camera", "Hand", "HandTracker", "Joint", "Lens", "open_source"]
    assert set(handmesh.__all__) <= set(dir(handmesh))
    for name in handmesh.__all__:
        assert getattr(handmesh, name).__name__ == name


def test_public_methods():
    members = {name for name in vars(handmesh.HandTracker) if not name.startswith("_")}
    state = {"timings_ms", "provider", "hand", "hand_size_m"}
    assert members == {"load", "detect", "track", "reset", "close"} | state
    parameters = list(inspect.signature(handmesh.HandTracker.load).parameters)
    assert parameters == [
        *("model", "num_hands", "backend", "device", "smooth", "threads", "passes", "hand_size_m", "detector"),
    ]
    assert list(inspect.signature(handmesh.HandTracker.track).parameters)[1:] == ["frame_rgb", "time_s", "camera"]


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
