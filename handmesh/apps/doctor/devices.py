"""The doctor's checks of cameras, window, OpenGL, renderer and video. Imports wait until a check needs them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from handmesh.apps.doctor.finding import Finding, missing, note, ok, reason

DEV = Path("/dev")
_WITHOUT_CAMERA = "plug one in, or play a video: handmesh webcam --source clip.mp4"
_WITHOUT_WINDOW = "without a window, files are written: handmesh webcam --output out.mp4"


def cameras() -> Iterator[Finding]:
    """The cameras, and whether this user may open them."""
    from handmesh.runtime.media.cameras import list_cameras

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
    from handmesh.apps.window import Window, WindowError

    names = ("DISPLAY", "WAYLAND_DISPLAY")
    where = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
    try:
        Window("handmesh doctor").close()
    except WindowError as error:
        if _toolkit() == "NONE":
            remedy = "pip uninstall opencv-python-headless; pip install --force-reinstall opencv-python"
            yield missing("this OpenCV cannot open windows", remedy)
        elif where:
            yield missing(f"{error} ({where})", f"see whether another program can open one there; {_WITHOUT_WINDOW}")
        elif os.environ.get("SSH_CONNECTION"):
            yield missing(f"{error}: this is an SSH session", f"connect with `ssh -X`; {_WITHOUT_WINDOW}")
        else:
            yield missing(f"{error}", _WITHOUT_WINDOW)
        return
    yield ok(f"a window opens{f' ({where})' if where else ''}, drawn with {_toolkit()}")


def _toolkit() -> str:
    """What OpenCV draws windows with: QT5, GTK3, COCOA, WIN32UI ... or NONE."""
    import cv2

    lines = (line.partition(":") for line in cv2.getBuildInformation().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "GUI"), "NONE")


def opengl() -> Iterator[Finding]:
    """Whether pyrender draws. The z-buffer, which is the default, needs no OpenGL."""
    import numpy as np

    from handmesh.render_gl import RendererError, render_pyrender
    from handmesh.structs import Camera

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
        from handmesh import rasterizer, render, shading

        render.warm_up()
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

    from handmesh.runtime.media.recording import VideoRecorder
    from handmesh.runtime.media.sources import Frame, Video

    picture = np.full((48, 64, 3), 90, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        recorder = VideoRecorder(Path(folder) / "doctor.mp4")
        try:
            for i in range(2):
                recorder.write(Frame(str(i), i / 30, picture), picture)
        finally:
            recorder.close()
        count = sum(1 for _ in Video(recorder.path))
    if count != 2:
        yield missing(f"PyAV {av.__version__} wrote 2 frames of H.264 and reads {count}", "pip install --upgrade av")
        return
    yield ok(f"PyAV {av.__version__} writes and reads H.264 (.mp4)")
