"""`handmesh webcam`: a camera, video or images in, hand meshes over them out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from handmesh import console
from handmesh.app.capture import ClipRecording, Drawn, Outputs, Snapshots, add_output, open_hand_sink
from handmesh.app.keys import ViewSettings
from handmesh.app.options import Options, SourceOptions
from handmesh.app.player import HandSizing, Pacer, Player, Tracker
from handmesh.app.viewer import SessionState, Viewer, ViewRenderer, greeting, joined
from handmesh.app.window import Window, WindowError
from handmesh.assets import DEMO_CLIP
from handmesh.files import OutputError, check_not_input, free_path
from handmesh.render.overlay import warm_up
from handmesh.types import Source, SourceError, TrackedFrame
from handmesh.video.camera import CameraFeed, list_cameras
from handmesh.video.sinks import PART_SUFFIX, open_sink
from handmesh.video.sources import Video, open_source

DEFAULT_OUTPUTS = Path("outputs")


def print_cameras() -> int:
    """Print a line for each camera of this machine; the exit code."""
    cameras = list_cameras()
    for camera in cameras:
        size = f"{camera.width}x{camera.height}" if camera.width else "busy, or not permitted"
        rate = f" at {camera.fps:g} FPS" if camera.fps else ""
        print(console.visible(f"{camera.index}  {camera.name}  {size}{rate}"))
    if not cameras:
        console.say("no cameras here; give a video, images, or nothing to see the bundled clip")
    return 0


def run(options: Options, load: Callable[[Options], Tracker] = Options.load) -> int:
    """`handmesh webcam`: do what the options say with the tracker that `load` gives; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    if options.list_cameras:
        return print_cameras()
    with ExitStack() as stack:
        session = _prepare(options, load, stack)
        started_s = time.perf_counter()
        try:
            finished = session.play()
        finally:
            seconds = time.perf_counter() - started_s
            if session.viewer:
                session.viewer.close()  # first, since finishing the files may take a while
    _report(session.player, seconds)
    return 0 if finished or session.player.source.live else console.INTERRUPTED


def _prepare(options: Options, load: Callable[[Options], Tracker], stack: ExitStack) -> Session:
    """A session that is ready to play, all of it closed by `stack`."""
    lens = options.lens()
    sizing = None if options.calibrate_hand is None else HandSizing(options.calibrate_hand)
    source, bundled = choose_source(options)
    stack.callback(source.close)
    window = _open_window(options, source, stack)
    with console.waiting("getting ready; the first run compiles the renderer"):
        tracker = load(options)
        stack.callback(tracker.close)
        warm_up()
    stack.enter_context(console.uninterrupted())  # until the files are complete
    outputs = Outputs(source.live)
    stack.push(partial(_finish, outputs))
    recording = ClipRecording(outputs, DEFAULT_OUTPUTS, source.fps)
    _begin_outputs(options, source, tracker, recording, outputs, tracked=window is not None)
    player = Player(tracker, source, lens, sizing, repeat=bundled and window is not None)
    session = Session(player, outputs, recording, options.view_settings)
    if window:
        session.show_in(_viewer(window, options, session, stack))
    return session


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
    source = session.player.source
    mirror = options.mirror and source.live
    viewer = Viewer(window, session.settings, session.renderer, session.player.meter, snapshots, mirror, source.stills)
    if source.live:
        source.while_waiting = viewer.idle
    return viewer


def _begin_outputs(
    options: Options, source: Source, tracker: Tracker, recording: ClipRecording, outputs: Outputs, tracked: bool
) -> None:
    """Open all that was asked for; without anything, nothing beside a window, and a place under outputs/ otherwise."""
    record, output = options.record, options.output
    inputs = {**source.files, **{str(path): path for path in options.files}}
    _check_different(record, options.export, output)
    if not (tracked or options.writes):
        path = free_path(DEFAULT_OUTPUTS / ("overlays" if source.stills else "webcam.mp4"), PART_SUFFIX)
        record, output = (None, path) if source.stills else (path, None)
        console.say(f"no window: writing {path}" + ("; Ctrl-C stops" if source.live else ""))
    if record:
        recording.start(record, inputs)
    if output:
        add_output(outputs, open_sink(output, source.length != 1, source.fps, inputs))
    if options.export:
        check_not_input([options.export], inputs.values())
        export = open_hand_sink(options.export, source.title, source.fps, tracker.hand)
        outputs.add(export.path, lambda drawn: export.add(drawn.tracked), export.close)


def _check_different(*outputs: Path | None) -> None:
    """Raise OutputError where two outputs are one file; folders may hold both overlays and meshes."""
    files = [path.absolute() for path in outputs if path and path.suffix and not path.is_dir()]
    if twice := [path for path in files if files.count(path) > 1]:
        raise OutputError(f"cannot write {twice[0]} twice: name a file for each")


@dataclass
class Session:
    """One run: what the player tracks is drawn, written and shown, and the window's keys are obeyed."""

    player: Player
    outputs: Outputs
    recording: ClipRecording
    settings: ViewSettings = field(default_factory=ViewSettings)
    renderer: ViewRenderer = field(default_factory=ViewRenderer)
    viewer: Viewer | None = None

    def show_in(self, viewer: Viewer) -> None:
        """Show all frames there, and do what its keys ask for."""
        self.viewer = viewer
        self._pacer = Pacer.of(self.player.source)
        viewer.session_state = self._situation
        viewer.actions = {"record": self.recording.toggle, "calibrate": self._calibrate}

    def play(self) -> bool:
        """Take all frames; False if Ctrl-C ended it. Raises SourceError if not one of them could be used."""
        tally, source = self.player.tally, self.player.source
        with nullcontext() if self.viewer else console.progress() as bar:
            task = bar.add_task(source.title, total=source.length) if bar else None

            def advance(_: TrackedFrame) -> None:
                if bar:
                    bar.update(task, completed=tally.frames + tally.skipped)

            try:
                return self.player.play(self._write, self._show, advance)
            except SourceError:
                if self.viewer and self.viewer.controls.quit:  # before the first frame
                    return True
                raise

    def _write(self, tracked: TrackedFrame) -> None:
        """Hand the frame to all that is being written."""
        if not self.outputs:
            return
        settings, now_s = self.settings, tracked.frame.time_s
        if self.viewer:
            settings, now_s = self.viewer.settings, time.perf_counter()
        with self.player.meter.stage("draw"):
            image = joined(self.renderer.panes(tracked, settings, now_s))
        with self.player.meter.stage("write"):
            self.outputs.write(Drawn(tracked, image))

    def _show(self, tracked: TrackedFrame) -> bool:
        """Show the frame for as long as it lasts; False where the user quits."""
        if self.viewer and self.player.sizing and self.player.sizing.news:
            self.viewer.notify(self.player.sizing.news)
            self.player.sizing.news = ""
        return self.viewer is None or self.viewer.show(tracked, self._pacer.wait_s()) or self._goes_on_unseen()

    def _goes_on_unseen(self) -> bool:
        """Whether to go on although the window takes no more frames: it was lost, and files are being written."""
        if not (self.viewer and self.viewer.lost):
            return False
        self.viewer, self.player.repeat = None, False
        going_on = "; going on with the files, Ctrl-C stops" if self.outputs else ""
        console.warn(f"the window is gone, as its display is{going_on}")
        return bool(self.outputs)

    def _situation(self) -> SessionState:
        recorded_s, sizing = self.recording.seconds, self.player.sizing
        recording = "" if recorded_s is None else f"REC {int(recorded_s // 60)}:{int(recorded_s % 60):02d}"
        return SessionState(self.player.scale, recording, *(sizing.task if sizing else ()))

    def _calibrate(self) -> str:
        if self.player.sizing is None:
            return "to measure your hand, start with --calibrate-hand 0.5 (metres)"
        return self.player.sizing.begin()


def _finish(outputs: Outputs, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """Complete the files, and say which there are; what fails is the error, or a warning beside the present one."""
    try:
        later = f"after {console.PATIENCE_S:g} s, Ctrl-C leaves them as they are, with .part in their names"
        with console.waiting(f"finishing the files; {later}"):
            outputs.close()
    except (OSError, ValueError) as failure:
        if error is None:
            raise
        console.warn(str(failure))
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


def _report(player: Player, seconds: float) -> None:
    """Say what was seen."""
    tally, kind = player.tally, "images" if player.source.stills else "frames"
    skipped = f" ({tally.skipped} skipped)" if tally.skipped else ""
    rate = tally.frames / max(seconds, 1e-6)
    console.say(f"{kind}: {tally.frames}{skipped}, with hands: {tally.frames_with_hands}, a second: {rate:.1f}")
    console.say(player.scale)
