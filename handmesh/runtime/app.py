"""The front door behind `demo/webcam.py`: a camera, video or pictures in, hand meshes over them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Literal

import tyro

from handmesh.assets import DEMO_CLIP
from handmesh.render import Renderer, Style, warm_up
from handmesh.runtime import console
from handmesh.runtime.models import DEFAULT, model_help
from handmesh.runtime.recording import Output, open_output
from handmesh.runtime.session import Session, Tracker
from handmesh.runtime.sources import CameraFeed, Source, SourceError, Video, open_source
from handmesh.runtime.viewer import Viewer, has_display

DEFAULT_OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Options:
    """3D hand meshes over a camera, a video or pictures.

    Without a source, it takes camera 0 or, where there is none, the bundled clip. With a display it
    opens a window, otherwise it writes files. In the window: q quits, h shows all keys.
    """

    source: tuple[str, ...] = ()
    """A camera's index, a video, a picture, a folder of pictures, or a glob."""
    output: Path | None = None
    """Where to write: a video (.mp4), a picture (.png, .jpg), or a folder, which gets an overlay of
    every frame and hands.json. Default: nothing with a window, otherwise a place under outputs/."""
    num_hands: int = 2
    """The most hands to look for."""
    model: Annotated[str, tyro.conf.arg(help=model_help())] = DEFAULT
    fov_deg: float = 60.0
    """The camera's field of view along the picture's longer side; depths scale with it."""
    smooth: Literal["off", "low", "high"] = "low"
    """How much to steady the hands of a video."""
    renderer: Renderer = "zbuffer"
    """What draws the mesh: the fast one, or pyrender (needs OpenGL) for stills."""
    wireframe: bool = False
    """Begin with the mesh's edges drawn."""
    skeleton: bool = False
    """Begin with the joints drawn."""
    window: bool = True
    """Open a window where there is a display."""
    mirror: bool = True
    """Show a camera's picture as a mirror does. Only the window is mirrored, never what is written."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run, and return the exit code."""
    options = tyro.cli(Options, prog="webcam.py", args=args)
    return console.guarded(lambda: run(options, load_tracker))


def load_tracker(options: Options) -> Tracker:
    """The tracker that the options describe."""
    from handmesh.runtime.tracker import HandTracker

    return HandTracker.load(options.model, num_hands=options.num_hands, smooth=options.smooth)


def run(options: Options, load: Callable[[Options], Tracker]) -> int:
    """Do what the options say with the tracker that `load` gives; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    with ExitStack() as stack:
        window = options.window and has_display()
        source, bundled = _choose_source(options)
        stack.callback(source.close)
        window = window and not (source.stills and options.output)
        output = _choose_output(options, source, window)
        if output:
            stack.callback(output.close)
        with console.waiting("getting ready; the first run compiles the renderer"):
            session = Session(load(options), source, _style(options), options.fov_deg, output)
            warm_up()
        if window:
            session.viewer = Viewer(session.style, mirror=options.mirror and source.live, stills=source.stills)
            stack.callback(session.viewer.close)
        started_s = time.perf_counter()
        # The bundled clip is short: in a window, it goes on until the user has seen enough.
        frames = chain.from_iterable(repeat(source)) if bundled and window else source
        finished = session.play(frames)
        seconds = time.perf_counter() - started_s
    _report(session, seconds)
    return 0 if finished or source.live else console.INTERRUPTED


def _choose_source(options: Options) -> tuple[Source, bool]:
    """The source, and whether it is the bundled clip."""
    if options.source:
        return open_source(*options.source), False
    try:
        return CameraFeed(0), False
    except SourceError:
        console.say("no camera here: playing the bundled clip")
        return Video(DEMO_CLIP), True


def _choose_output(options: Options, source: Source, window: bool) -> Output | None:
    """The output asked for; without one, nothing beside a window, and a place under outputs/ otherwise."""
    path = options.output
    if path is None:
        if window:
            return None
        path = DEFAULT_OUTPUTS / ("overlays" if source.stills else "webcam.mp4")
        console.say(f"no window: writing {path}" + ("; Ctrl-C stops" if source.live else ""))
    return open_output(path, many=source.length != 1, fps=source.fps)


def _style(options: Options) -> Style:
    return Style(wireframe=options.wireframe, skeleton=options.skeleton, renderer=options.renderer)


def _report(session: Session, seconds: float) -> None:
    """Say what was seen and where it was written."""
    tally, kind = session.tally, "pictures" if session.source.stills else "frames"
    skipped = f" ({tally.skipped} skipped)" if tally.skipped else ""
    rate = tally.frames / max(seconds, 1e-6)
    console.say(f"{kind}: {tally.frames}{skipped}, with hands: {tally.frames_with_hands}, a second: {rate:.1f}")
    written = [session.output.path] if session.output else []
    for path in written + (session.viewer.saved if session.viewer else []):
        console.say(f"wrote {path}")
