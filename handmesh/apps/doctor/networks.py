"""The doctor's checks of the networks and of what runs them. Imports wait until a check needs them."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handmesh.apps.doctor.finding import Finding, missing, note, ok, reason
from handmesh.apps.doctor.system import install_command
from handmesh.assets import DEMO_CLIP

if TYPE_CHECKING:
    import numpy as np

    from handmesh.runtime.tracker import HandTracker

_LOOKS, _SETTLED = 8, 2  # frames that are looked at, and those of them that are not timed
_REINSTALL = "install handmesh again: its files are incomplete"


def models() -> Iterator[Finding]:
    """Each bundled network, opened and run. This is the main job: where one is ok, handmesh works."""
    from handmesh.runtime.models import bundled_models, detector_path, model_path
    from handmesh.runtime.tracker import HandTracker

    names = bundled_models()
    if not names:
        yield missing("no mesh network in the package", _REINSTALL)
    if not detector_path().is_file():
        yield missing("no hand detector in the package", _REINSTALL)
        return
    frame, told = _frame()
    for name in names:
        try:
            begin_s = time.perf_counter()
            with HandTracker.load(name) as tracker:
                opened_ms = 1e3 * (time.perf_counter() - begin_s)
                opened = f"{name}: {model_path(name).stat().st_size / 1e6:.1f} MB, opens in {opened_ms:.0f} ms"
                yield _tried(tracker, opened, frame, told)
        except Exception as error:  # what ONNX Runtime raises has no common base; the other networks still count
            yield missing(f"{name}: {reason(error)}", _REINSTALL)


def _frame() -> tuple[np.ndarray, bool]:
    """A picture to look at, and whether there are hands in it."""
    import numpy as np

    try:
        from handmesh.runtime.media.sources import Video

        return next(iter(Video(DEMO_CLIP))).image_rgb, True
    except Exception:  # without a video reader, which has a check of its own, networks run as well
        return np.full((480, 640, 3), 128, np.uint8), False


def _tried(tracker: HandTracker, opened: str, frame: np.ndarray, has_hands: bool) -> Finding:
    times_ms, hands = [], []
    for i in range(_LOOKS):
        begin_s = time.perf_counter()
        hands = tracker.track(frame, i / 30)
        times_ms.append(1e3 * (time.perf_counter() - begin_s))
    if has_hands and not hands:
        return missing(f"{opened}, but finds no hand where there are two", f"try --device cpu; otherwise {_REINSTALL}")
    seen = f"{len(hands)} hands followed" if has_hands else "an empty frame searched"
    return ok(f"{opened}, {seen} in {statistics.median(times_ms[_SETTLED:]):.0f} ms a frame")


def providers() -> Iterator[Finding]:
    """ONNX Runtime and the devices that it can use."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in offered)
    yield ok(f"ONNX Runtime {onnxruntime.__version__}: {names}")
    if "CPUExecutionProvider" not in offered:
        yield missing("it cannot run on the processor", "pip install --force-reinstall onnxruntime")
    if _has_nvidia() and "CUDAExecutionProvider" not in offered:
        yield note(
            "there is an NVIDIA GPU that it cannot use", "pip uninstall onnxruntime; pip install onnxruntime-gpu"
        )


def _has_nvidia() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


def openvino() -> Iterator[Finding]:
    """OpenVINO, the other runtime, and its devices."""
    try:
        import openvino as runtime
    except ModuleNotFoundError:
        yield note("not installed; ONNX Runtime needs none", install_command("openvino"))
        return
    core = runtime.Core()
    devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]
    version = runtime.__version__.split("-")[0]
    if not devices:
        yield missing(f"OpenVINO {version} finds no device", "pip install --force-reinstall openvino")
        return
    yield ok(f"OpenVINO {version}: {', '.join(devices)}; --backend openvino")
