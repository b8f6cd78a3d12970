"""What commands with a tracker can be told: the tracker, the camera, the source, the drawing; and `webcam`'s own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from handmesh import console
from handmesh.app.keys import View, ViewSettings
from handmesh.assets import DEFAULT, Backend, Device, model_help
from handmesh.render.overlay import Renderer, Style
from handmesh.tracking.smoothing import Smooth
from handmesh.types import MIN_SCORE
from handmesh.video.lens import Lens, chosen_lens

if TYPE_CHECKING:
    from handmesh.tracking.tracker import HandTracker


@dataclass(frozen=True)
class RuntimeOptions:
    """What runs networks."""

    backend: Backend = "onnxruntime"
    """What runs the networks."""
    device: Device = "auto"
    """What they run on; auto takes CUDA where there is it."""
    threads: int | None = None
    """Cores that a network may use. Default: all but one."""


@dataclass(frozen=True)
class TrackerOptions(RuntimeOptions):
    """How hands are found: what every command with a tracker can be told."""

    model: Annotated[str, tyro.conf.arg(help=model_help())] = DEFAULT
    num_hands: int = 2
    """The most hands to look for."""
    min_score: float = MIN_SCORE
    """The least score, 0 to 1, of a hand that is newly found: higher is surer, and finds fewer."""

    def load(self) -> HandTracker:
        """The tracker that the options describe."""
        from handmesh.tracking.tracker import HandTracker

        tracker = HandTracker.load(self.model, **self.settings())
        if self.backend == "openvino":
            console.say(f"networks run on {tracker.provider}")  # its precision is OpenVINO's choice
        return tracker

    def settings(self) -> dict[str, Any]:
        """What `HandTracker.load` is told beside the model."""
        return {name: getattr(self, name) for name in ("num_hands", "min_score", "backend", "device", "threads")}


@dataclass(frozen=True)
class CameraOptions(TrackerOptions):
    """The same, with what gives hands their size and distance."""

    fov_deg: float | None = None
    """The camera's field of view along the image's longer side; depths scale with it. Default: 60, or what the EXIF
    data of an image say."""
    intrinsics: Path | None = None
    """The camera, as `handmesh calibrate-camera`, OpenCV or ROS write it. Distorted images are rectified first."""
    hand_size: float | None = None
    """Metres along the middle finger's bones from the wrist to the tip, of all hands: it fixes the scale. Default: a
    usual size."""

    @property
    def files(self) -> list[Path]:
        """The files that these options name, over which nothing may be written."""
        model = Path(self.model)
        return [path for path in (self.intrinsics, model if model.suffix else None) if path]

    def lens(self, image: Path | None = None) -> Lens:
        """What takes the images, or an image file. Raises ValueError where the options do not describe one."""
        return chosen_lens(self.intrinsics, self.fov_deg, image)

    def settings(self) -> dict[str, Any]:
        """What `HandTracker.load` is told beside the model."""
        return super().settings() | {"hand_size_m": self.hand_size}


@dataclass(frozen=True)
class SourceOptions(CameraOptions):
    """The same, with what the hands are looked for in."""

    source: tuple[str, ...] = ()
    """A camera's index, a video, an image, a folder of images, or a glob. Default: camera 0 or, where there is none,
    the bundled clip."""
    calibrate_hand: float | None = None
    """Measure the hand's size at the start: hold it open, for five seconds, this many metres from the camera."""
    smooth: Smooth = "low"
    """How much to steady the hands of a video."""

    def settings(self) -> dict[str, Any]:
        """What `HandTracker.load` is told beside the model."""
        return super().settings() | {"smooth": self.smooth}


@dataclass(frozen=True)
class DrawingOptions:
    """How hands are drawn."""

    renderer: Renderer = "zbuffer"
    """What draws the mesh: the fast one, or pyrender (needs OpenGL) for stills."""
    wireframe: bool = False
    """Draw the mesh's edges."""
    skeleton: bool = False
    """Draw the joints."""

    @property
    def style(self) -> Style:
        """The same for `overlay`."""
        return Style(wireframe=self.wireframe, skeleton=self.skeleton, renderer=self.renderer)


@dataclass(frozen=True)
class Options(DrawingOptions, SourceOptions):
    """3D hand meshes over a camera, a video or images.

    With a display it opens a window, otherwise it writes files. In the window: q quits, h shows all keys.
    """

    list_cameras: bool = False
    """List the cameras of this machine, and do nothing else."""
    record: Path | None = None
    """Record what is drawn as a video (.mp4). In the window, r starts and stops a recording as well."""
    export: Path | None = None
    """Write the hands of every frame as numbers or meshes: .npz, .json, .glb (animated), .bvh, or a folder, which gets
    a mesh file a frame."""
    output: Path | None = None
    """For images: an image (.png, .jpg, .webp), or a folder, which gets an overlay of every frame and hands.json. An
    .mp4 is the same as --record. Default: with a window none of the three, otherwise a place under outputs/."""
    view: View = "overlay"
    """What to begin with and, without a window, what to write: the meshes over the image, beside it seen from
    the side, or alone."""
    window: bool = True
    """Open a window where there is a display."""
    mirror: bool = True
    """Show a camera's image as a mirror does. Only the window is mirrored, never what is written."""

    @property
    def writes(self) -> bool:
        """Whether anything is asked to be written."""
        return bool(self.record or self.export or self.output)

    @property
    def view_settings(self) -> ViewSettings:
        """What to begin with."""
        return ViewSettings(self.style, self.view)
