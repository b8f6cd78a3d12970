"""The doctor's checks: Python, packages, processor, memory, disk, networks, cameras, window, renderer. Imports
wait until needed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from handmesh import machine
from handmesh.app.doctor import Finding, missing, note, ok, reason
from handmesh.assets import DEMO_CLIP
from handmesh.console import install_command

if TYPE_CHECKING:
    import numpy as np

    from handmesh.tracking.tracker import HandTracker

# The doctor's checks of Python, of packages, of the processor, of memory and of the disk. Standard library only.


OUTPUTS = Path("outputs")
"""Where the demos write unless told otherwise."""

EXTRAS = {
    "train": "to train, evaluate and export networks",
    "openvino": "another runtime for the networks, faster on Intel's processors",
    "stream": "to send hands to browsers and engines",
}
"""What is installed with `handmesh[name]`, and what for."""

_TWINS = {
    "opencv-python": ("opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-silicon"),
}  # distributions that hold the same module
_MODULES = {"opencv-python": "cv2", "pillow": "PIL"}
_IMPORTED_ELSEWHERE = {"pyrender"}  # the OpenGL check prepares its import
_LITTLE_GB = 1.0


def python() -> Iterator[Finding]:
    """Python and the system."""
    yield ok(f"Python {platform.python_version()}, handmesh {_version('handmesh') or 'not installed'}")
    yield ok(platform.platform())


def packages() -> Iterator[Finding]:
    """What handmesh needs and what its extras need: there, new enough, and ready to be imported."""
    try:
        requirements = list(map(_parsed, metadata.requires("handmesh") or []))
    except metadata.PackageNotFoundError:
        yield note("handmesh is not installed, so that its packages are not known", "in the clone: pip install -e .")
        return
    core = [(name, least) for name, least, extra in requirements if not extra]
    versions = {name: _installed(name) for name, _ in core}
    yield ok(", ".join(f"{found} {version}" for found, version in versions.values() if version) or "none")
    lacking = [(name, least) for name, least in core if not versions[name][1]]
    if lacking:
        wanted = " ".join(f"'{name}>={least}'" for name, least in lacking)
        yield missing(f"not installed: {', '.join(name for name, _ in lacking)}", f"pip install {wanted}")
    for name, least in core:
        if versions[name][1]:
            yield from _warnings(name, least)
    for extra, purpose in EXTRAS.items():
        yield _extra(extra, purpose, [(name, least) for name, least, of in requirements if of == extra])


def _parsed(requirement: str) -> tuple[str, str, str]:
    """A requirement's name, least version and extra.

    >>> _parsed("onnxruntime>=1.19"), _parsed('fsspec[http]>=2024.2; extra == "train"')
    (('onnxruntime', '1.19', ''), ('fsspec', '2024.2', 'train'))
    """
    name = re.match(r"[\w.-]+", requirement)
    least = re.search(r">=\s*([\w.]+)", requirement.partition(";")[0])
    extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", requirement)
    return name[0] if name else requirement, least[1] if least else "", extra[1] if extra else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _installed(name: str) -> tuple[str, str]:
    """The distribution that serves as `name`, and its version; no version where there is none."""
    candidates = ((twin, _version(twin)) for twin in (name, *_TWINS.get(name, ())))
    return next((found for found in candidates if found[1]), (name, ""))


def _older(version: str, least: str) -> bool:
    """
    >>> _older("1.9.2", "1.19"), _older("5.0.0.93", "4.11")
    (True, False)
    """
    numbers = [[int(part) for part in re.findall(r"\d+", text)] for text in (version, least)]
    return numbers[0] < numbers[1]


def _warnings(name: str, least: str) -> Iterator[Finding]:
    """What is wrong with an installed package of the core."""
    found, version = _installed(name)
    if least and _older(version, least):
        yield missing(f"{found} {version} is too old", f"pip install --upgrade '{found}>={least}'")
    several = [twin for twin in (name, *_TWINS.get(name, ())) if _version(twin)]
    if len(several) > 1:
        yield note(f"{' and '.join(several)} overwrite each other", "uninstall them all, then install one of them")
    if name not in _IMPORTED_ELSEWHERE:
        yield from _import_warning(name)


def _import_warning(name: str) -> Iterator[Finding]:
    try:
        import_module(_MODULES.get(name, name))
    except Exception as error:  # a library that lacks another one raises what it likes
        remedy = f"pip install --force-reinstall {name}"
        if "libGL" in str(error) or "libgthread" in str(error):
            remedy = "Debian, Ubuntu: apt install libgl1 libglib2.0-0"
        yield missing(f"{name} is installed and cannot be imported ({reason(error)})", remedy)


def _extra(extra: str, purpose: str, needed: list[tuple[str, str]]) -> Finding:
    lacking = [name for name, least in needed if _older(_version(name) or "0", least or "0.0.1")]
    if not lacking:
        return ok(f"[{extra}] is there: {purpose}")
    return note(f"[{extra}], {purpose}, lacks {', '.join(lacking)}", install_command(extra))


def processor() -> Iterator[Finding]:
    """The processor, and how much of it this process may use."""
    cores, usable = os.cpu_count() or 1, machine.usable_cores()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield ok(f"{machine.processor()}, {platform.machine()}, {cores} cores{load}")
    if usable < cores:
        yield note(
            f"this process may use {usable:g} of them", "taskset, the container's or the scheduler's limit says so"
        )
    if usable < 2:
        yield note("one core has to share capture, networks and drawing", "take --model fast")


def memory() -> Iterator[Finding]:
    """Memory, all and free."""
    known = machine.memory_gb()
    if known is None:
        yield note("this system does not say how much there is")
        return
    total, free = known
    what = f"{total:.1f} GB, {free:.1f} GB free"
    yield ok(what) if free >= _LITTLE_GB else note(what, "close other programs: a tracker takes about 0.3 GB")


def disk() -> Iterator[Finding]:
    """Whether results can be written, and how much."""
    folder = next(position for position in (OUTPUTS.absolute(), *OUTPUTS.absolute().parents) if position.exists())
    elsewhere = "work in a folder of yours, or give --output"
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield missing(f"nothing can be written to {OUTPUTS}/ here: {error.strerror or error}", elsewhere)
        return
    free = shutil.disk_usage(folder).free * 1e-9
    what = f"{OUTPUTS}/ can be written to, {free:.1f} GB free"
    yield ok(what) if free >= _LITTLE_GB else note(what, f"little room for recordings: {elsewhere}")


# The doctor's checks of the networks and of what runs them. Imports wait until a check needs them.


_LOOKS, _SETTLED = 8, 2  # frames that are looked at, and those of them that are not timed
_REINSTALL = "install handmesh again: its files are incomplete"


def models() -> Iterator[Finding]:
    """Each bundled network, opened and run. This is the main job: where one is ok, handmesh works."""
    from handmesh.assets import bundled_models, detector_path, model_path
    from handmesh.tracking.tracker import HandTracker

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
    """An image to look at, and whether there are hands in it."""
    import numpy as np

    try:
        from handmesh.video.sources import Video

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
    if has_nvidia() and "CUDAExecutionProvider" not in offered:
        yield note(
            "there is an NVIDIA GPU that it cannot use", "pip uninstall onnxruntime; pip install onnxruntime-gpu"
        )


def has_nvidia() -> bool:
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


# The doctor's checks of cameras, window, OpenGL, renderer and video. Imports wait until a check needs them.


DEV = Path("/dev")
_WITHOUT_CAMERA = "plug one in, or play a video: handmesh webcam --source clip.mp4"
_WITHOUT_WINDOW = "without a window, files are written: handmesh webcam --output out.mp4"


def cameras() -> Iterator[Finding]:
    """The cameras, and whether this user may open them."""
    from handmesh.video.camera import list_cameras

    closed = [str(node) for node in sorted(DEV.glob("video*")) if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        yield missing(f"no permission to open {', '.join(closed)}", "sudo usermod -aG video $USER, and log in again")
    found = list_cameras()
    for camera in found:
        name = f"{camera.index}: {camera.name}"
        if camera.width:
            yield ok(f"{name}, {camera.width}x{camera.height} at {camera.fps:.0f} FPS; --source {camera.index}")
        else:
            yield missing(f"{name} cannot be opened", "close the program that uses it, or see to its permissions")
    if not found:
        yield missing("none found", _WITHOUT_CAMERA)


def display() -> Iterator[Finding]:
    """Whether a window can be opened."""
    from handmesh.app.window import Window, WindowError

    names = ("DISPLAY", "WAYLAND_DISPLAY")
    where = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
    try:
        Window("handmesh doctor").close()
    except WindowError as error:
        if toolkit() == "NONE":
            remedy = "pip uninstall opencv-python-headless; pip install --force-reinstall opencv-python"
            yield missing("this OpenCV cannot open windows", remedy)
        elif where:
            yield missing(f"{error} ({where})", f"see whether another program can open one there; {_WITHOUT_WINDOW}")
        elif os.environ.get("SSH_CONNECTION"):
            yield missing(f"{error}: this is an SSH session", f"connect with `ssh -X`; {_WITHOUT_WINDOW}")
        else:
            yield missing(f"{error}", _WITHOUT_WINDOW)
        return
    yield ok(f"a window opens{f' ({where})' if where else ''}, drawn with {toolkit()}")


def toolkit() -> str:
    """What OpenCV draws windows with: QT5, GTK3, COCOA, WIN32UI ... or NONE."""
    import cv2

    lines = (line.partition(":") for line in cv2.getBuildInformation().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "GUI"), "NONE")


def opengl() -> Iterator[Finding]:
    """Whether pyrender draws. The z-buffer, which is the default, needs no OpenGL."""
    import numpy as np

    from handmesh.render.pyrender import RendererError, render_pyrender
    from handmesh.types import Camera

    triangle = np.array([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1]], np.float32)
    faces, white = np.array([[0, 2, 1]], np.int32), np.ones((3, 3), np.float32)
    try:
        rgba, _ = render_pyrender(triangle, faces, white, Camera.from_fov(64, 48))
    except RendererError as error:
        yield note(f"{error}", "only --renderer pyrender needs it")
        return
    platform = os.environ.get("PYOPENGL_PLATFORM", "the system's own")
    if not rgba[..., 3].any():
        yield note(f"pyrender draws nothing (platform {platform})", "only --renderer pyrender needs it")
        return
    yield ok(f"pyrender draws (platform {platform}, {_driver()})")


def _driver() -> str:
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    try:
        texts = [glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION)]
    except Exception as error:  # PyOpenGL raises what it likes; the triangle is drawn all the same
        return reason(error, 60)
    return ", OpenGL ".join(texts)


def renderer() -> Iterator[Finding]:
    """The compiled z-buffer, and whether its compilation is kept."""
    begin_s = time.perf_counter()
    try:
        from handmesh.render import overlay, rasterizer, shading

        overlay.warm_up()
    except RuntimeError as error:  # numba finds no place for its cache
        yield missing(reason(error), "set NUMBA_CACHE_DIR to a folder that can be written to")
        return
    seconds = time.perf_counter() - begin_s
    stats = [value.stats for room in (rasterizer, shading) for value in vars(room).values() if hasattr(value, "stats")]
    compiled = sum(sum(stat.cache_misses.values()) for stat in stats)
    what = f"the z-buffer draws; ready in {seconds:.1f} s" + (
        ", compiled just now" if compiled else ", out of its cache"
    )
    folder = Path(stats[0].cache_path)
    yield ok(what)
    if not os.access(folder, os.W_OK):
        yield note(
            f"its cache {folder} cannot be written to", "each start compiles: set NUMBA_CACHE_DIR to another folder"
        )


def video() -> Iterator[Finding]:
    """Whether H.264 can be written and read."""
    import av
    import numpy as np

    from handmesh.types import Frame
    from handmesh.video.sinks import VideoRecorder
    from handmesh.video.sources import Video

    image = np.full((48, 64, 3), 90, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        recorder = VideoRecorder(Path(folder) / "doctor.mp4")
        try:
            for i in range(2):
                recorder.write(Frame(str(i), i / 30, image), image)
        finally:
            recorder.close()
        count = sum(1 for _ in Video(recorder.path))
    if count != 2:
        yield missing(f"PyAV {av.__version__} wrote 2 frames of H.264 and reads {count}", "pip install --upgrade av")
        return
    yield ok(f"PyAV {av.__version__} writes and reads H.264 (.mp4)")
