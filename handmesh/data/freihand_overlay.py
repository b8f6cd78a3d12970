"""A sheet of FreiHAND pictures with their labels drawn over them, for the eye to judge."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from handmesh.camera import project
from handmesh.data.freihand import FreihandSet
from handmesh.render import draw_skeleton

TILE_PX = 336
_VERTEX, _OUTLINE, _TEXT = (0, 70, 255), (255, 255, 255), (255, 255, 255)


def write_sheet(freihand: FreihandSet, path: Path, columns: int = 4, rows: int = 4) -> None:
    """Write a picture of `rows` x `columns` samples spread over the set.

    A column is a version, where there are four. Blue dots are the vertices, the white line is the
    mask's border, the coloured bones join the 21 points. Raises FreihandError for a set without
    `xyz`, ValueError for a `path` that ends like no picture, OSError where it cannot be written.
    """
    freihand.require("xyz")
    count = min(rows, len(freihand.K))
    shown = np.linspace(0, len(freihand.K) - 1, count).round().astype(int)
    step = len(freihand.K) if len(freihand.versions) == columns else 1  # the same row, or its neighbours
    tiles = [[tile(freihand, (row + k * step) % len(freihand)) for k in range(columns)] for row in shown.tolist()]
    sheet = np.vstack([np.hstack(line) for line in tiles])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def tile(freihand: FreihandSet, i: int) -> np.ndarray:
    """(TILE_PX, TILE_PX, 3) uint8: picture `i` with what is labelled in it."""
    row, camera = freihand.row(i), freihand.camera(i)
    zoom = np.array([TILE_PX / camera.width, TILE_PX / camera.height])

    def place(points_m: np.ndarray) -> np.ndarray:
        return (project(points_m, camera) + 0.5) * zoom - 0.5

    picture = cv2.resize(freihand.image(i), (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
    if freihand.verts is not None:
        for x, y in place(freihand.verts[row]).round().astype(int).tolist():
            cv2.circle(picture, (x, y), 0, _VERTEX)
    mask = freihand.mask(i)
    if mask is not None:
        large = cv2.resize(mask, (TILE_PX, TILE_PX), interpolation=cv2.INTER_LINEAR)
        outlines, _ = cv2.findContours((large > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _OUTLINE, 1)
    draw_skeleton(picture, place(freihand.xyz[row]))
    cv2.putText(picture, freihand.image_path(i).stem, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
    return picture
