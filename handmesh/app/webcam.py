"""`handmesh webcam`: a camera, video or images in, hand meshes over them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from handmesh import console
from handmesh.app.capture import ClipRecording, Outputs, Snapshots, add_output, open_export
from handmesh.app.options import Options, SourceOptions
from handmesh.app.player import HandSizing, Session, Tracker
from handmesh.app.viewer import Viewer, greeting
from handmesh.app.window import Window, WindowError
from handmesh.assets import DEMO_CLIP
from handmesh.render.overlay import warm_up
from handmesh.types import Frame, Source, SourceError
from handmesh.video.camera import CameraFeed, list_cameras
from handmesh.video.sinks import open_output
from handmesh.video.sources import Video, open_source

DEFAULT_OUTPUTS = Path("outputs")


def print_cameras() -> int:
    """Print a line for each camera of this machine; the exit code."""
    cameras = list_cameras()
    for camera in cameras:
        size = f"{camera.width}x{camera.height}" if camera.width else "busy, or not permitted"
        rate = f" at {camera.fps:g} FPS" if camera.fps else ""
        print(f"{camera.index}  {camera.name}  {size}{rate}")
    if not cameras:
        console.say("no cameras here; give a video, pictures, or nothing to see the bundled clip")
    return 0


def run(options: Options, load: Callable[[Options], Tracker] = Options.load) -> int:
    """`handmesh webcam`: do what the options say with the tracker that `load` gives; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    if options.list_cameras:
        return print_cameras()
    with ExitStack() as stack:
        session, bundled = _prepare(options, load, stack)
        started_s = time.perf_counter()
        try:
            finished = session.play(_endless(session) if bundled and session.viewer else session.source)
        finally:
            seconds = time.perf_counter() - started_s
            if session.viewer:
                session.viewer.close()  # first, since finishing the files may take a while
    _report(session, seconds)
    return 0 if finished or session.source.live else console.INTERRUPTED


def _prepare(options: Options, load: Callable[[Options], Tracker], stack: ExitStack) -> tuple[Session, bool]:
    """A session that is ready to play, all of it closed by `stack`, and whether its source is the bundled clip."""
    lens = options.lens()
    sizing = None if options.calibrate_hand is None else HandSizing(options.calibrate_hand)
    source, bundled = choose_source(options)
    stack.callback(source.close)
    window = _open_window(options, source, stack)
    with console.waiting("getting ready; the first run compiles the renderer"):
        tracker = load(options)
        stack.callback(tracker.close)
        outputs = Outputs(source.live)
        stack.callback(_finish, outputs)
        recording = ClipRecording(outputs, DEFAULT_OUTPUTS, source.fps)
        _begin_outputs(options, source, tracker, recording, outputs, seen=window is not None)
        warm_up()
    session = Session(tracker, source, outputs, lens, options.look, sizing, recording)
    if window:
        session.show_in(_viewer(window, options, session, stack))
    return session, bundled


def choose_source(options: SourceOptions) -> tuple[Source, bool]:
    """The source, and whether it is the bundled clip."""
    if options.source:
        return open_source(*options.source), False
    try:
        return CameraFeed(0), False
    except SourceError:
        console.say("no camera here: playing the bundled clip")
        return Video(DEMO_CLIP), True


def _open_window(options: Options, source: Source, stack: ExitStack) -> Window | None:
    """A window with a greeting; None where none is wanted or can be."""
    if not options.window or (source.stills and options.writes):
        return None
    try:
        window = Window()
    except WindowError as error:
        console.say(str(error))
        return None
    stack.callback(window.close)
    window.show(greeting("getting ready"))
    return window


def _viewer(window: Window, options: Options, session: Session, stack: ExitStack) -> Viewer:
    snapshots = Snapshots(DEFAULT_OUTPUTS)
    stack.callback(_close_snapshots, snapshots)
    mirror, stills = options.mirror and session.source.live, session.source.stills
    viewer = Viewer(window, session.look, session.views, session.meter, snapshots, mirror, stills)
    if session.source.live:
        session.source.while_waiting = viewer.idle
    return viewer


def _begin_outputs(
    options: Options, source: Source, tracker: Tracker, recording: ClipRecording, outputs: Outputs, seen: bool
) -> None:
    """Open all that was asked for; without anything, nothing beside a window, and a place under outputs/ otherwise."""
    record, output = options.record, options.output
    if not (seen or options.writes):
        path = DEFAULT_OUTPUTS / ("overlays" if source.stills else "webcam.mp4")
        record, output = (None, path) if source.stills else (path, None)
        console.say(f"no window: writing {path}" + ("; Ctrl-C stops" if source.live else ""))
    if record:
        recording.start(record)
    if output:
        add_output(outputs, open_output(output, many=source.length != 1, fps=source.fps))
    if options.export:
        export = open_export(options.export, source.title, source.fps, tracker.hand)
        outputs.add(export.path, lambda kept: export.add(kept.frame, kept.hands, kept.camera), export.close)


def _endless(session: Session) -> Iterator[Frame]:
    """The bundled clip is short: it goes on, with a clock that does, until the user has seen enough."""
    start_s = 0.0
    while session.viewer:
        frame_s = 0.0
        for frame in session.source:
            frame_s = frame.time_s
            yield frame._replace(time_s=start_s + frame_s)
        start_s += frame_s + 1 / session.source.fps


def _finish(outputs: Outputs) -> None:
    """Complete the files, and say which there are."""
    try:
        with console.waiting("finishing the files"):
            outputs.close()
    finally:
        for path in outputs.paths:
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                console.say(f"wrote {path}")
        if outputs.dropped:
            console.warn(f"{outputs.dropped} frames came too fast to be written, and were left out")


def _close_snapshots(snapshots: Snapshots) -> None:
    snapshots.close()
    for path in snapshots.saved:
        console.say(f"wrote {path}")


def _report(session: Session, seconds: float) -> None:
    """Say what was seen."""
    tally, kind = session.tally, "pictures" if session.source.stills else "frames"
    skipped = f" ({tally.skipped} skipped)" if tally.skipped else ""
    rate = tally.frames / max(seconds, 1e-6)
    console.say(f"{kind}: {tally.frames}{skipped}, with hands: {tally.frames_with_hands}, a second: {rate:.1f}")
    console.say(session.scale)
