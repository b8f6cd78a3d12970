"""The tool behind `demo/image.py`: one image in, an overlay and a 3D file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handmesh import console
from handmesh.app.player import Tracker
from handmesh.assets import DEFAULT, model_help
from handmesh.files import check_writable, read_shrunk, write_image
from handmesh.render.overlay import Renderer, Style, overlay
from handmesh.types import Hand
from handmesh.video import clips
from handmesh.video.lens import chosen_lens

DEFAULT_OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Options:
    """The hands of one picture: an overlay, and their meshes as a 3D file."""

    picture: tyro.conf.Positional[Path]
    """The picture."""
    output: Path | None = None
    """The overlay (.png, .jpg, .webp). Default: outputs/NAME.png."""
    mesh: Path | None = None
    """The meshes (.glb, .obj, .ply, .stl), in metres. Default: outputs/NAME.glb."""
    num_hands: int = 2
    """The most hands to look for."""
    model: Annotated[str, tyro.conf.arg(help=model_help())] = DEFAULT
    intrinsics: Path | None = None
    """The camera, as scripts/calibrate_camera.py, OpenCV or ROS write it. A bent picture is straightened first."""
    fov_deg: float | None = None
    """The camera's field of view along the picture's longer side; distances scale with it. Default: that of
    the picture's EXIF, or 60."""
    hand_size: float | None = None
    """Metres along the middle finger's bones from the wrist to the tip, of all hands in it. Without, a usual size."""
    renderer: Renderer = "zbuffer"
    """What draws the mesh: the fast one, or pyrender (needs OpenGL)."""
    wireframe: bool = False
    """Draw the mesh's edges."""
    skeleton: bool = False
    """Draw the joints."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run, and return the exit code."""
    options = tyro.cli(Options, args=args)
    return console.guarded(lambda: run(options, load_tracker))


def load_tracker(options: Options) -> Tracker:
    """The tracker that the options describe."""
    from handmesh.tracking.tracker import HandTracker

    return HandTracker.load(options.model, num_hands=options.num_hands, hand_size_m=options.hand_size)


def run(options: Options, load: Callable[[Options], Tracker]) -> int:
    """Do what the options say with the tracker that `load` gives; the exit code.

    Raises ValueError, OSError or RuntimeError, with one clear line, where that cannot be done.
    """
    overlay_path = options.output or DEFAULT_OUTPUTS / f"{options.picture.stem}.png"
    mesh_path = options.mesh or DEFAULT_OUTPUTS / f"{options.picture.stem}.glb"
    check_writable(overlay_path)
    clips.check_writable(mesh_path)
    image_rgb = read_shrunk(options.picture).image_rgb
    lens = chosen_lens(options.intrinsics, options.fov_deg, options.picture)
    camera = lens.camera_for(image_rgb.shape[1], image_rgb.shape[0])
    image_rgb = lens.rectified(image_rgb)
    hands = load(options).detect(image_rgb, camera)
    style = Style(wireframe=options.wireframe, skeleton=options.skeleton, renderer=options.renderer)
    write_image(overlay_path, overlay(image_rgb, hands, camera, style))
    console.say(lens.describe("given" if options.hand_size else "unknown"))
    for hand in hands:
        console.say(_describe(hand))
    console.say(f"wrote {overlay_path}")
    if not hands:
        console.say("no hand found, hence no mesh")
        return 0
    clips.write_meshes(mesh_path, hands)
    console.say(f"wrote {mesh_path}")
    return 0


def _describe(hand: Hand) -> str:
    return (
        f"{hand.side} hand, score {hand.score:.2f}, {hand.joints_m[:, 2].mean():.2f} m away, {hand.size_m:.3f} m long"
    )
