"""A contact sheet of synthetic crops: what a network is shown, to be looked at."""

from __future__ import annotations

import cv2
import numpy as np

from handmesh.crop import crop_affine, warp
from handmesh.data.synthetic.generator import Generator, Sample
from handmesh.data.synthetic.order import Order
from handmesh.structs import Box

CROP_PX, COLUMNS = 96, 12
BOX_SCALE = 1.5
"""Of the tight box: what the network's crops are cut with (`HandNet`'s default)."""
_JPEG_QUALITY = 86


def write_sheet(order: Order) -> None:
    """Draw the first `order.count` samples as one JPEG at `order.out`.

    Raises ValueError where that is not the name of a .jpg file, and as `Generator` for the ingredients.
    """
    if order.out.suffix.lower() not in (".jpg", ".jpeg"):
        raise ValueError(f"--sheet writes a picture: --out must be a .jpg file, got {order.out}")
    samples = Generator(order.sources).samples(order.seed, range(order.count), order.picture_size)
    bgr = cv2.cvtColor(draw_sheet(samples), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(order.out), bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise OSError(f"cannot write {order.out}")


def draw_sheet(samples: list[Sample]) -> np.ndarray:
    """(rows * CROP_PX, columns * CROP_PX, 3) uint8: each sample's upright crop, row by row, white where none is."""
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    sheet = np.full((rows, columns, CROP_PX, CROP_PX, 3), 255, np.uint8)
    for k, sample in enumerate(samples):
        box = Box.around(sample.joints_px, BOX_SCALE, turn=False)
        sheet[k // columns, k % columns] = warp(sample.image, crop_affine(box, CROP_PX), CROP_PX)
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * CROP_PX, columns * CROP_PX, 3)
