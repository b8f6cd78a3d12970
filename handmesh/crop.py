"""From a box in an image to the network's crop and back, and the letterbox of whole images: the only warp.

Training and runtime both call these functions. The network knows right hands only: the crop of a
left hand is mirrored here, and what the network says of it is mirrored back here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.geometry import invert_affine
from handmesh.types import Box, Camera

LARGEST_BOX_PX = 1e6
"""Beyond this a box has nothing to do with an image, and pixels can no longer be counted."""


def crop_affine(box: Box, size: int, mirror: bool = False) -> np.ndarray:
    """(2, 3) float64 affine from image pixels to pixels of a `size` x `size` crop of `box`.

    The box's border falls on the outer border of the crop's outer pixels. With `mirror` the crop
    is flipped left to right. Raises ValueError for a box beyond `LARGEST_BOX_PX` or without a side.
    """
    near = all(abs(position) <= LARGEST_BOX_PX for position in box.centre_px)  # false for NaN
    if not (1e-3 <= box.size_px <= LARGEST_BOX_PX and near and math.isfinite(box.angle_rad)):
        raise ValueError(f"a box needs a positive, finite side, and a position in or about the image, got {box}")
    scale = size / box.size_px
    c, s = math.cos(box.angle_rad) * scale, math.sin(box.angle_rad) * scale
    x, y = box.centre_px
    middle, sign = (size - 1) / 2, -1 if mirror else 1
    return np.array(
        [[sign * c, sign * s, middle - sign * (c * x + s * y)], [-s, c, middle - (c * y - s * x)]], dtype=np.float64
    )


def stretched(affine: np.ndarray, stretch: np.ndarray, size: int) -> np.ndarray:
    """The (2, 3) affine to a `size` x `size` crop, followed by a (2, 2) map about the crop's middle."""
    middle = np.full(2, (size - 1) / 2)
    return np.column_stack([stretch @ affine[:, :2], stretch @ (affine[:, 2] - middle) + middle])


def warp(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """The `size` x `size` crop of (H, W, 3) `image` under `affine`; the outside repeats the border.

    Where the crop shrinks the image more than twice, the image is halved first, so that fine
    texture does not alias.
    """
    shrink = 1.0 / math.sqrt(abs(affine[0, 0] * affine[1, 1] - affine[0, 1] * affine[1, 0]))
    if shrink > 2.0:
        image, affine = _part_under(image, affine, size, shrink)
    while shrink > 2.0 and min(image.shape[:2]) >= 2:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        affine = affine @ np.array([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]])
        shrink /= 2.0
    return cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _part_under(image: np.ndarray, affine: np.ndarray, size: int, shrink: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, as a view, and the affine from there: less to halve."""
    grain = 2 ** math.ceil(math.log2(shrink))  # on this grid, halving the part gives what halving the whole does
    to_image, middle = invert_affine(affine), (size - 1) / 2
    x, y = (to_image @ (middle, middle, 1.0)).tolist()
    reach_x, reach_y = (np.abs(to_image[:, :2]).sum(axis=1) * size / 2).tolist()
    left, right = _span_on_grid(x, reach_x, grain, image.shape[1])
    top, bottom = _span_on_grid(y, reach_y, grain, image.shape[0])
    moved = affine.copy()
    moved[:, 2] += affine[:, :2] @ (left, top)
    return image[top:bottom, left:right], moved


def _span_on_grid(middle: float, reach: float, grain: int, limit: int) -> tuple[int, int]:
    """Start and end of the pixels of 0..limit within `reach` of the middle and a margin, on multiples of `grain`."""
    start = int(min(max(middle - reach - 2 * grain, 0), limit - 1)) // grain * grain
    end = int(min(max(middle + reach + 2 * grain, 0), limit - 1)) // grain * grain + grain
    return start, end


def normalised_from_px(points_px: np.ndarray, size: int) -> np.ndarray:
    """(..., 2) crop pixels to the network's coordinates: -1 and 1 are the crop's outer borders."""
    return (points_px + 0.5) * (2.0 / size) - 1.0


def px_from_normalised(points: np.ndarray, size: int) -> np.ndarray:
    """The inverse of `normalised_from_px`."""
    return (points + 1.0) * (size / 2.0) - 0.5


def image_px_from_normalised(points: np.ndarray, box: Box, mirror: bool = False) -> np.ndarray:
    """The network's coordinates in the crop of `box` to pixels of the image: (..., 2) to (..., 2)."""
    half = box.size_px / 2
    c, s = half * math.cos(box.angle_rad), half * math.sin(box.angle_rad)
    right = (-c, -s) if mirror else (c, s)
    return points @ np.array([right, (-s, c)]) + box.centre_px


def view_rotation(camera: Camera, box: Box) -> np.ndarray:
    """(3, 3) R_camera_view: from the crop's own view to the camera's frame.

    The crop is taken as the image of a camera that looks straight at the box's centre and is
    rolled with the box. Its forward axis is the ray through the centre, reached from the camera's
    own by the smallest rotation; then comes the roll.
    """
    x = (box.centre_px[0] - camera.cx) / camera.fx
    y = (box.centre_px[1] - camera.cy) / camera.fy
    ray = np.array([x, y, 1.0]) / math.sqrt(x * x + y * y + 1.0)
    return _rotation_forward_to(ray) @ _roll(box.angle_rad)


def _rotation_forward_to(ray: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes (0, 0, 1) to the unit vector `ray` with positive z."""
    x, y, z = ray.tolist()
    fraction = 1.0 / (1.0 + z)
    return np.array(
        [[1 - x * x * fraction, -x * y * fraction, x], [-x * y * fraction, 1 - y * y * fraction, y], [-x, -y, z]]
    )


def _roll(angle_rad: float) -> np.ndarray:
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0, 0, 1.0]])


PADDING = 114
"""Grey level around an image that does not fill the network's input."""


class Letterbox(NamedTuple):
    """An image fitted into the network's input, and how: input = scale * image + shift, in pixels."""

    image: np.ndarray  # (H, W, 3) uint8
    scale: float
    shift_px: tuple[float, float]

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """A position in the input as a position in the image."""
        return (x - self.shift_px[0]) / self.scale, (y - self.shift_px[1]) / self.scale


def letterbox(image_rgb: np.ndarray, height: int, width: int) -> Letterbox:
    """(H, W, 3) uint8 `image_rgb` as large as fits into `height` x `width`, centred, grey around it."""
    rows, columns = image_rgb.shape[:2]
    scale = min(width / columns, height / rows)
    fit = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    resized = cv2.resize(image_rgb, fit, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - fit[0]) // 2, (height - fit[1]) // 2
    canvas = np.full((height, width, 3), PADDING, np.uint8)
    canvas[top : top + fit[1], left : left + fit[0]] = resized
    half = 0.5 * scale - 0.5  # pixel centres, not corners, lie at whole numbers
    return Letterbox(canvas, scale, (left + half, top + half))
