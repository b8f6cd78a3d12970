"""A ring held between thumb and index finger: pinch before the camera. `python demo/ar_hold.py --help`.

The fingers before the ring hide it, and it hides what lies behind it. The hand stays the camera's own
image: its mesh is there for its depth alone, and nothing of it is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh
from gestures import PAD_BACK_M, PAD_DOWN_M, GestureReader  # beside this file
from scipy.spatial.transform import Rotation

from handmesh import Camera, Hand, Joint, console
from handmesh.app.options import CameraOptions
from handmesh.app.webcam import choose_source
from handmesh.app.window import has_display
from handmesh.render.overlay import shade
from handmesh.render.rasterizer import blend
from handmesh.video.sinks import open_sink
from handmesh.xr.poses import FROM_CAMERA

RADIUS_M, THICKNESS_M = 0.018, 0.0035  # 43 mm across
RING = trimesh.creation.torus(RADIUS_M, THICKNESS_M, major_sections=64, minor_sections=24)  # its axis is z
GOLD = (1.0, 0.72, 0.25)
TAKEN_M, DROPPED_M = 0.020, 0.030  # between thumb and index finger; generous, for a ring should not drop by mistake


def held_ring_m(hand: Hand) -> np.ndarray:
    """(V, 3) vertices of the ring in the camera's frame: its band between the pads, its middle nearer to the wrist."""
    pose = hand.to_webxr()
    tips = [pose.names.index(name) for name in ("thumb-tip", "index-finger-tip")]
    axes = Rotation.from_quat(pose.orientations_xyzw[tips]).as_matrix()  # columns: x; y out of the nail; z to the wrist
    on_skin_m = hand.joints_m[[Joint.THUMB_TIP, Joint.INDEX_TIP]] * FROM_CAMERA
    pads_m = on_skin_m + PAD_BACK_M * axes[..., 2] - PAD_DOWN_M * axes[..., 1]
    pinch_m = pads_m.mean(0)
    across = axes[1, :, 1] - axes[0, :, 1]  # the ring's axis, by where the nails face: surer than by places so near
    to_wrist = pose.positions_m[0] - pinch_m  # as far as it is perpendicular to that: the ring's x
    rotation = Rotation.align_vectors([across, to_wrist], [[0, 0, 1], [1, 0, 0]], weights=[np.inf, 1])[0]
    ring_m = rotation.apply(RING.vertices + (RADIUS_M, 0, 0)) + pinch_m
    return ring_m * FROM_CAMERA  # from WebXR's axes to the camera's: y down, z forward


def composed(image_rgb: np.ndarray, hands: Sequence[Hand], rings_m: Sequence[np.ndarray], camera: Camera) -> np.ndarray:
    """The image with the rings in it, as far as nothing that is nearer hides them."""
    image = image_rgb.copy()
    nearest_m = np.full(image.shape[:2], np.inf, np.float32)
    for hand in hands:
        nearest_m = np.minimum(nearest_m, shade(hand.vertices_m, hand.faces, camera)[1])
    for ring_m in rings_m:
        rgba, depth_m = shade(ring_m, RING.faces, camera, GOLD)
        rgba[nearest_m < depth_m, 3] = 0
        blend(image, rgba, opacity=1)
        nearest_m = np.minimum(nearest_m, depth_m)
    return image


@dataclass(frozen=True)
class Options(CameraOptions):
    """Pinch before the camera to hold a ring. In the window: q quits."""

    source: tuple[str, ...] = ()
    """A camera's index, a video, images, a folder or a glob. Default: camera 0 or, where there is none, the bundled
    clip."""
    output: Path | None = None
    """Write what is seen: an .mp4, an image (.png, .jpg) of an image, or a folder."""
    window: bool = True
    """Open a window where there is a display."""


def main(args: Sequence[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run, and return the exit code."""
    words = sys.argv[1:] if args is None else args
    return console.guarded(lambda: run(console.parse(Options, words, "ar_hold.py")))


def run(options: Options) -> int:
    """Put rings into every frame, until it was the last or the user quits."""
    window, pinches = options.window and has_display(), GestureReader(TAKEN_M, DROPPED_M)
    if not (window or options.output):
        raise ValueError("there is no window to show the ring in: name a file to write, --output ring.mp4")
    lens = options.lens()
    with ExitStack() as stack:
        source, _ = choose_source(options)
        stack.callback(source.close)
        output = open_sink(options.output, source.length != 1, source.fps, source.files) if options.output else None
        if output:
            stack.callback(output.close)
        tracker = stack.enter_context(options.load())
        for frame in source:
            height, width = frame.image_rgb.shape[:2]
            image_rgb, camera = lens.rectified(frame.image_rgb), lens.camera_for(width, height)
            hands = tracker.track(image_rgb, frame.time_s, camera)
            rings_m = [held_ring_m(hand) for hand in hands if pinches.read(hand).gesture == "pinch"]
            image = composed(image_rgb, hands, rings_m, camera)
            if output:
                output.write(frame, image, hands)
            if window and not shown(image[:, ::-1] if source.live else image):  # a camera's as in a mirror
                break
    return 0


def shown(image_rgb: np.ndarray) -> bool:
    """Show it in the window; False when the user quits."""
    cv2.imshow("hold a ring", image_rgb[..., ::-1])
    return cv2.waitKey(1) & 0xFF != ord("q")


if __name__ == "__main__":
    sys.exit(main())
