"""Shaded meshes, wireframes and skeletons over an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from handmesh import skeleton
from handmesh.files import Picture, pixels
from handmesh.geometry import project
from handmesh.render import rasterizer
from handmesh.render.rasterizer import Fragments, rasterize
from handmesh.types import Camera, Hand, Side, checked_frame

Renderer = Literal["zbuffer", "pyrender"]
Colour = tuple[float, float, float]

SIDE_COLOURS: dict[Side, Colour] = {"right": (0.58, 0.80, 1.0), "left": (1.0, 0.87, 0.42)}
"""Sky blue and yellow: red-green-blind eyes tell them apart, and neither passes for skin."""

FINGER_COLOURS: dict[str, tuple[int, int, int]] = {
    "thumb": (230, 159, 0),
    "index": (86, 180, 233),
    "middle": (0, 158, 115),
    "ring": (240, 228, 66),
    "little": (204, 121, 167),
}
"""Okabe and Ito's colour-blind-safe palette (2008)."""


_TRANSLUCENT = 0.4
"""How opaque a hand is drawn that was not seen in this frame, of one that was."""


@dataclass(frozen=True)
class Style:
    """What `overlay` draws of each hand."""

    mesh: bool = True
    wireframe: bool = False
    skeleton: bool = False
    opacity: float = 0.9
    renderer: Renderer = "zbuffer"


class Mesh(NamedTuple):
    """Triangles in the camera's frame with a colour at each vertex."""

    vertices_m: np.ndarray  # (V, 3) float32
    faces: np.ndarray  # (F, 3) int32, outward
    albedo: np.ndarray  # (V, 3) float32, 0..1
    translucent: np.ndarray | None = None  # (F,) bool, faces to be drawn fainter; None: no face


class View(NamedTuple):
    """A mesh in the window of the image that it fills; the window's top-left pixel is (left, top) of the whole."""

    points: np.ndarray  # (V, 3) float32 pixel x, pixel y in the window, z
    fragments: Fragments
    left: int
    top: int

    @property
    def position(self) -> tuple[slice, slice]:
        """Where in the whole image the window lies."""
        height, width = self.fragments.face.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def shade(
    vertices_m: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    colour: Colour = SIDE_COLOURS["right"],
    renderer: Renderer = "zbuffer",
) -> tuple[np.ndarray, np.ndarray]:
    """A lit mesh as the camera sees it: (H, W, 4) uint8 RGBA with straight alpha, (H, W) float32 depth.

    vertices_m: (V, 3) in the camera's frame, metres; faces: (F, 3), outward. colour: 0..1 RGB.
    Depth is z in metres, infinity where there is nothing. Raises ValueError for an unknown
    renderer and `pyrender.RendererError` where pyrender finds no OpenGL.
    """
    mesh = Mesh(_float32(vertices_m), _int32(faces), np.tile(np.float32(colour), (len(vertices_m), 1)))
    view = _look_at(mesh, camera)
    rgba = np.zeros((camera.height, camera.width, 4), np.uint8)
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    rgba[view.position], depth[view.position] = _fill(mesh, camera, view, renderer)
    return rgba, depth


def draw(
    image: Picture, hands: Sequence[Hand], camera: Camera | None = None, *, mesh: bool = True, skeleton: bool = False
) -> np.ndarray:
    """The image with the hands drawn over it: a new (H, W, 3) uint8 RGB array.

    image: an (H, W, 3) uint8 RGB array, a file's path, or an image of Pillow's. camera: the one that the hands were
    tracked with. mesh, skeleton: what to draw of them. Raises ValueError for what is no image.
    """
    return overlay(checked_frame(pixels(image)), hands, camera, Style(mesh=mesh, skeleton=skeleton))


def overlay(
    image_rgb: np.ndarray, hands: Sequence[Hand], camera: Camera | None = None, style: Style | None = None
) -> np.ndarray:
    """The image with the hands drawn over it; a new (H, W, 3) uint8 array.

    camera: the one the hands were lifted with; None for the tracker's own assumption,
    `Camera.from_fov` of the image's size. Hands hide each other by depth; a predicted one is drawn fainter.
    """
    style = style or Style()
    camera = camera or Camera.from_fov(image_rgb.shape[1], image_rgb.shape[0])
    image = np.array(image_rgb, order="C")
    if hands and (style.mesh or style.wireframe):
        _overlay_meshes(image, _join(hands), camera, style)
    if style.skeleton:
        for hand in hands:
            _overlay_skeleton(image, hand)
    return image


def warm_up() -> None:
    """Compile, or load from its cache, what `overlay` needs: seconds on the first run, none later."""
    triangle = np.array([[0, 0, 1], [0, 0.5, 1], [0.5, 0, 1]], np.float32)
    mesh = Mesh(triangle, np.array([[0, 1, 2]], np.int32), np.ones((3, 3), np.float32))
    camera = Camera.from_fov(16, 16)
    _overlay_meshes(np.zeros((16, 16, 3), np.uint8), mesh, camera, Style(wireframe=True))


def draw_skeleton(image: np.ndarray, joints_px: np.ndarray) -> None:
    """Draw the bones and joints of (21, 2) `joints_px` into `image`, in place, a colour a finger; none that are NaN."""
    there = np.isfinite(joints_px).all(1)
    if not there.any() or not np.abs(joints_px[there]).max() < _FARTHEST_PX:
        return
    width = max(1, round(float(np.ptp(joints_px[there], axis=0).max()) / 90))
    for parent, child in skeleton.BONES:
        if there[parent] and there[child]:
            ends = _fixed_point(joints_px[[parent, child]])
            cv2.line(image, *ends, _finger_colour(child), width, cv2.LINE_AA, _SHIFT)
    for joint, centre in zip(np.flatnonzero(there).tolist(), _fixed_point(joints_px[there]), strict=True):
        radius = round(1.5 * width * 2**_SHIFT)
        cv2.circle(image, centre, radius, _finger_colour(joint), cv2.FILLED, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, centre, radius, (255, 255, 255), 1, cv2.LINE_AA, _SHIFT)


def _overlay_skeleton(image: np.ndarray, hand: Hand) -> None:
    if not hand.predicted:
        return draw_skeleton(image, hand.joints_px)
    drawn = image.copy()
    draw_skeleton(drawn, hand.joints_px)
    cv2.addWeighted(drawn, _TRANSLUCENT, image, 1 - _TRANSLUCENT, 0, dst=image)


_SHIFT = 4  # OpenCV draws at fractions of 1/16 pixel
_FARTHEST_PX = 1e5  # beyond, OpenCV's fixed-point coordinates overflow


def _fixed_point(points_px: np.ndarray) -> list[tuple[int, int]]:
    return [(round(float(x) * 2**_SHIFT), round(float(y) * 2**_SHIFT)) for x, y in points_px]


def _finger_colour(joint: int) -> tuple[int, int, int]:
    return FINGER_COLOURS.get(skeleton.KEYPOINTS[joint][:-1], (255, 255, 255))


def _join(hands: Sequence[Hand]) -> Mesh:
    """All hands as one mesh, each in the colour of its side."""
    counts = [len(hand.vertices_m) for hand in hands]
    offsets = np.cumsum([0, *counts[:-1]])
    colours = np.array([SIDE_COLOURS[hand.side] for hand in hands], np.float32)
    predicted = [np.full(len(hand.faces), hand.predicted) for hand in hands]
    return Mesh(
        _float32(np.concatenate([hand.vertices_m for hand in hands])),
        _int32(np.concatenate([hand.faces + offset for hand, offset in zip(hands, offsets, strict=True)])),
        np.repeat(colours, counts, axis=0),
        np.concatenate(predicted) if any(hand.predicted for hand in hands) else None,
    )


def _overlay_meshes(image: np.ndarray, mesh: Mesh, camera: Camera, style: Style) -> None:
    view = _look_at(mesh, camera)
    rgba, _ = _fill(mesh, camera, view, style.renderer)
    if style.wireframe:
        _draw_edges(rgba, rasterizer.edge_weights(view.fragments, view.points, mesh.faces), keep_fill=style.mesh)
    if mesh.translucent is not None:
        _fade(rgba, view.fragments.face, mesh.translucent)
    rasterizer.blend(image[view.position], rgba, style.opacity)


def _look_at(mesh: Mesh, camera: Camera) -> View:
    points = _project_with_depth(mesh.vertices_m, camera)
    left, top, width, height = _window(points, camera)
    points[:, :2] -= (left, top)
    return View(points, rasterize(points, mesh.faces, height, width), left, top)


def _fill(mesh: Mesh, camera: Camera, view: View, renderer: str) -> tuple[np.ndarray, np.ndarray]:
    """RGBA and depth of the view's window."""
    if not view.fragments.face.size:
        return np.zeros((*view.fragments.face.shape, 4), np.uint8), view.fragments.depth
    if renderer == "zbuffer":
        return _fill_zbuffer(mesh, camera, view), view.fragments.depth
    if renderer == "pyrender":
        from handmesh.render.pyrender import render_pyrender

        rgba, depth = render_pyrender(mesh.vertices_m, mesh.faces, mesh.albedo, camera)
        return rgba[view.position], depth[view.position]
    raise ValueError(f"unknown renderer {renderer!r}; known are {', '.join(get_args(Renderer))}")


def _fill_zbuffer(mesh: Mesh, camera: Camera, view: View) -> np.ndarray:
    normals = rasterizer.vertex_normals(mesh.vertices_m, mesh.faces)
    colours = rasterizer.light(mesh.vertices_m, normals, mesh.albedo)
    inside = rasterizer.seen_from_within(view.points, mesh.faces)
    shadow = rasterizer.depth_occlusion(view.fragments.depth, _depth_occlusion_radius_px(view.points, camera))
    return rasterizer.paint(view.fragments, mesh.faces, colours, inside, shadow)


def _draw_edges(rgba: np.ndarray, weights: np.ndarray, keep_fill: bool) -> None:
    """Dark lines on the filled mesh, or the mesh's own colours along the lines and nothing between them."""
    if keep_fill:
        rgba[..., :3] = rgba[..., :3] * (1 - 0.65 * weights[..., None])
    else:
        rgba[..., 3] = rgba[..., 3] * weights


def _fade(rgba: np.ndarray, face: np.ndarray, translucent: np.ndarray) -> None:
    """Make all but the solid faces and their soft outlines, a pixel wide, fainter."""
    solid = ((face >= 0) & ~translucent[face]).astype(np.uint8)
    fading = cv2.dilate(solid, np.ones((3, 3), np.uint8)) == 0
    rgba[fading, 3] = rgba[fading, 3] * _TRANSLUCENT


def _project_with_depth(vertices_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(V, 3) float32 pixel x, pixel y, z. Points at or behind the camera keep their z, which marks them."""
    z = vertices_m[:, 2:]
    in_front = np.where(z > 0, z, np.float32(1))
    pixels = project(np.concatenate([vertices_m[:, :2], in_front], axis=1), camera)
    return np.concatenate([pixels, z], axis=1).astype(np.float32)


def _window(points: np.ndarray, camera: Camera) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the part of the image in which the points in front of the camera lie.

    A pixel of margin on each side lets the outline fade; empty (width or height 0) where nothing is in view.
    """
    x, y, z = points.T
    visible = np.isfinite(x + y) & (z > 0)
    if not visible.any():
        return 0, 0, 0, 0
    left, width = _span(x[visible], camera.width)
    top, height = _span(y[visible], camera.height)
    return left, top, width, height


def _span(values: np.ndarray, limit: int) -> tuple[int, int]:
    """(start, length) of the pixels of 0..limit that hold `values` and a margin of one."""
    start = math.floor(min(max(float(values.min()) - 1, 0), limit))
    end = math.ceil(min(max(float(values.max()) + 2, start), limit))
    return start, end - start


def _depth_occlusion_radius_px(points: np.ndarray, camera: Camera) -> float:
    """Half a finger's width at the mesh's middle distance, within bounds that keep the blur cheap."""
    return float(np.clip(camera.fx * 0.008 / max(np.median(points[:, 2]), 1e-3), 1, 100))


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _int32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)
