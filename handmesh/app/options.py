"""What `demo/webcam.py` can be told, and what of it every tool with a tracker can."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from handmesh.app.keys import Look, View
from handmesh.assets import DEFAULT, Backend, Device, model_help
from handmesh.render.overlay import Renderer, Style
from handmesh.tracking.smoothing import Smooth
from handmesh.video.lens import Lens, chosen_lens


@dataclass(frozen=True)
class TrackerOptions:
    """What is looked at, and how hands are found in it."""

    source: tuple[str, ...] = ()
    """A camera's index, a video, a picture, a folder of pictures, or a glob."""
    num_hands: int = 2
    """The most hands to look for."""
    model: Annotated[str, tyro.conf.arg(help=model_help())] = DEFAULT
    backend: Backend = "onnxruntime"
    """What runs the networks."""
    device: Device = "auto"
    """What they run on; auto takes CUDA where there is it."""
    threads: int | None = None
    """Cores that a network may use. Default: all but one."""
    fov_deg: float | None = None
    """The camera's field of view along the picture's longer side; depths scale with it. Default: 60 is assumed."""
    intrinsics: Path | None = None
    """The camera, as scripts/calibrate_camera.py, OpenCV or ROS write it. Bent pictures are straightened first."""
    hand_size: float | None = None
    """Metres along the middle finger's bones from the wrist to the tip, of all hands in it: it fixes the scale."""
    calibrate_hand: float | None = None
    """Measure the hand's size at the start: hold it open, for five seconds, this many metres from the camera."""
    smooth: Smooth = "low"
    """How much to steady the hands of a video."""

    @property
    def lens(self) -> Lens:
        """What takes the pictures. Raises ValueError where the options do not describe one."""
        return chosen_lens(self.intrinsics, self.fov_deg)


@dataclass(frozen=True)
class Options(TrackerOptions):
    """3D hand meshes over a camera, a video or pictures.

    Without a source, it takes camera 0 or, where there is none, the bundled clip. With a display it
    opens a window, otherwise it writes files. In the window: q quits, h shows all keys.
    """

    list_cameras: bool = False
    """List the cameras of this machine, and do nothing else."""
    record: Path | None = None
    """Record what is drawn as a video (.mp4). In the window, r starts and stops a recording as well."""
    export: Path | None = None
    """Write the hands of every frame as numbers or meshes: .npz, .json, .glb (animated), or a folder, which gets
    a mesh file a frame."""
    output: Path | None = None
    """For pictures: a picture (.png, .jpg, .webp), or a folder, which gets an overlay of every frame and hands.json.
    An .mp4 is the same as --record. Default of the three: nothing with a window, otherwise a place under outputs/."""
    view: View = "overlay"
    """What to begin with and, without a window, what to write: the meshes over the picture, beside it seen from
    the side, or alone."""
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

    @property
    def writes(self) -> bool:
        """Whether anything is asked to be written."""
        return bool(self.record or self.export or self.output)

    @property
    def look(self) -> Look:
        """What to begin with."""
        return Look(Style(wireframe=self.wireframe, skeleton=self.skeleton, renderer=self.renderer), self.view)
