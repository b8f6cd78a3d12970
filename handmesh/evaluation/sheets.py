"""Contact sheets: what was labelled, and under it what was predicted, for the cases that tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh import skeleton
from handmesh.crop import crop_affine, warp
from handmesh.evaluation.datasets import Case, Example, FalsePositive, camera_of
from handmesh.geometry import apply_affine, project
from handmesh.render.overlay import Colour, Style, draw_skeleton, overlay, shade
from handmesh.render.shading import blend
from handmesh.types import Box, Camera, Hand

# Contact sheets: what was labelled, and under it what was seen, for the cases that tell most.


TILE = 176
COLUMNS = 8
MARGIN = 1.9  # a tile's side in sides of the tight box
CAPTION = 16
GROUND = 24


class Tile(NamedTuple):
    """One square of an image around a hand."""

    example: Example
    joints_px: np.ndarray  # (21, 2) that the tile is centred on, and that are drawn in its upper half
    hand: Hand | None  # drawn in its lower half
    caption: str


def case_sheet(cases: Sequence[Case], errors: np.ndarray, unit: str = "") -> np.ndarray | None:
    """The best, the median and the worst cases by (N,) `errors`, and some of those where it is not a number.

    Gives an RGB image, None where there are no cases.
    """
    order = [int(i) for i in np.argsort(errors) if np.isfinite(errors[i])]
    middle = max(0, (len(order) - COLUMNS) // 2)
    missed = [int(i) for i in np.flatnonzero(~np.isfinite(errors))]
    rows = {
        "best": order[:COLUMNS],
        "median": order[middle : middle + COLUMNS],
        "worst": order[::-1][:COLUMNS],
        "not found": missed[:: max(1, len(missed) // COLUMNS)][:COLUMNS],
    }
    return _sheet({name: [_case_tile(cases[i], errors[i], unit) for i in row] for name, row in rows.items()})


def false_positive_sheet(false_positives: Sequence[FalsePositive]) -> np.ndarray | None:
    """The surest of the hands that nobody labelled; None where there are none."""
    surest = sorted(false_positives, key=lambda false: -false.hand.score)[: 3 * COLUMNS]
    tiles = [Tile(f.example, f.hand.joints_px, f.hand, f"{f.hand.score:.2f} {f.example.name}") for f in surest]
    return _sheet({f"surest {k + 1}-": tiles[k : k + COLUMNS] for k in range(0, len(tiles), COLUMNS)})


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write an RGB image as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tofile(path)


def _case_tile(case: Case, error: float, unit: str) -> Tile:
    caption = f"{error:.3g}{unit} " if np.isfinite(error) else ""
    return Tile(case.example, case.label.joints_px, case.answer.hand, caption + case.example.name)


def _sheet(rows: dict[str, list[Tile]]) -> np.ndarray | None:
    drawn = [_row(name, tiles) for name, tiles in rows.items() if tiles]
    return np.concatenate(drawn) if drawn else None


def _row(name: str, tiles: Sequence[Tile]) -> np.ndarray:
    row = np.full((CAPTION + 2 * TILE + CAPTION, COLUMNS * TILE, 3), GROUND, np.uint8)
    row[:CAPTION] = strip(name, COLUMNS * TILE, (255, 255, 255))
    for k, tile in enumerate(tiles):
        row[CAPTION:, k * TILE : (k + 1) * TILE] = _draw(tile)
    return row


def _draw(tile: Tile) -> np.ndarray:
    views = tile_views(tile, TILE)
    upper = views.plain.copy()
    draw_skeleton(upper, apply_affine(views.affine, tile.joints_px))
    return np.concatenate([upper, views.drawn, strip(tile.caption, TILE)])


class TileViews(NamedTuple):
    """A tile's square of the image."""

    plain: np.ndarray  # (S, S, 3) uint8 RGB
    drawn: np.ndarray  # the same with the tile's hand, if it has one
    affine: np.ndarray  # (2, 3) from the image's pixels to the square's


def tile_views(tile: Tile, size: int, style: Style | None = None) -> TileViews:
    """The square around the tile's joints in `size` pixels, as it is and with the hand drawn over it."""
    image = tile.example.load()
    affine = crop_affine(Box.around(tile.joints_px, MARGIN, rotation=False), size)
    plain = warp(image, affine, size)
    if tile.hand is None:
        return TileViews(plain, plain, affine)
    camera = zoomed(camera_of(tile.example, image), affine, size)
    hand = replace(tile.hand, joints_px=apply_affine(affine, tile.hand.joints_px))
    return TileViews(plain, overlay(plain, [hand], camera, style), affine)


def zoomed(camera: Camera, affine: np.ndarray, size: int) -> Camera:
    """The camera whose image is the square of `size` pixels under an upright `affine`."""
    scale = float(affine[0, 0])
    cx, cy = apply_affine(affine, np.array([camera.cx, camera.cy]))
    return Camera(camera.fx * scale, camera.fy * scale, float(cx), float(cy), size, size)


def strip(text: str, width: int, colour: tuple[int, int, int] = (200, 200, 200)) -> np.ndarray:
    """(CAPTION, width, 3) a line of text."""
    ground = np.full((CAPTION, width, 3), GROUND, np.uint8)
    return cv2.putText(ground, text, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)


# One sample as three squares: what is labelled, what was predicted, and both from the side.


CASE_MARGIN = 1.6  # a square's side in sides of the tight box
SIDE_VIEW_M = 0.24
"""What the side of the view from the side spans."""

PREDICTED: Colour = (0.58, 0.80, 1.0)
TRUE: Colour = (0.72, 0.72, 0.72)

_GROUND = 248
_DISTANCE_M = 2.0


def tiled(cases: Sequence[tuple[np.ndarray, str]], columns: int = 2, gap: int = 8) -> np.ndarray:
    """(H, W, 3) uint8: images of one size in rows of `columns`, each with its caption below, on a white ground."""
    height, width = cases[0][0].shape[:2]
    step_y, step_x = height + CAPTION + gap, width + gap
    rows, columns = -(-len(cases) // columns), min(columns, len(cases))
    sheet = np.full((rows * step_y - gap, columns * step_x - gap, 3), 255, np.uint8)
    for k, (image, caption) in enumerate(cases):
        top, left = k // columns * step_y, k % columns * step_x
        sheet[top : top + height + CAPTION, left : left + width] = np.concatenate([image, strip(caption, width)])
    return sheet


class Posed(NamedTuple):
    """A hand in the camera's frame, metres."""

    joints_m: np.ndarray  # (21, 3)
    vertices_m: np.ndarray  # (V, 3)


def case_image(
    image: np.ndarray, camera: Camera, predicted: Posed, truth: Posed | None, faces: np.ndarray, size: int = 192
) -> np.ndarray:
    """(S, 3 S, 3) uint8: the image with the true joints, with the predicted mesh, and the meshes seen from the side.

    faces: of the predicted mesh. The true mesh is drawn where it has as many vertices. From the
    side the two roots lie together; the eye is to the image's right, and depth runs to the right.
    """
    joints_px = project((truth or predicted).joints_m, camera)
    affine = crop_affine(Box.around(joints_px, CASE_MARGIN, rotation=False), size)
    plain = warp(image, affine, size)
    labelled, drawn = plain.copy(), plain.copy()
    if truth is not None:
        draw_skeleton(labelled, apply_affine(affine, joints_px))
    rgba, _ = shade(predicted.vertices_m, faces, zoomed(camera, affine, size), PREDICTED)
    blend(drawn, rgba, 0.9)
    return np.concatenate([labelled, drawn, _from_the_side(predicted, truth, faces, size)], axis=1)


def _from_the_side(predicted: Posed, truth: Posed | None, faces: np.ndarray, size: int) -> np.ndarray:
    hands = [(predicted, PREDICTED)]
    if truth is not None and len(truth.vertices_m) == len(predicted.vertices_m):
        hands.append((truth, TRUE))
    focal = size / SIDE_VIEW_M * _DISTANCE_M
    camera = Camera(focal, focal, (size - 1) / 2, (size - 1) / 2, size, size)
    centre = (truth or predicted).vertices_m.mean(0) - (truth or predicted).joints_m[skeleton.ROOT]
    layers = [shade(_rotated(hand, centre), faces, camera, colour) for hand, colour in hands]
    return _nearest(layers, size)


def _rotated(hand: Posed, centre_m: np.ndarray) -> np.ndarray:
    """Vertices about the hand's own root, seen along the image's x axis: depth runs to the right."""
    x, y, z = (hand.vertices_m - hand.joints_m[skeleton.ROOT] - centre_m).T
    return np.stack([z, y, _DISTANCE_M - x], axis=1)


def _nearest(layers: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> np.ndarray:
    """RGBA images with their depths over one ground, each hiding what lies behind it."""
    example = np.full((size, size, 3), _GROUND, np.uint8)
    depths = np.stack([depth for _, depth in layers])
    for rgba, depth in layers:
        blend(example, np.where((depth <= depths.min(0))[..., None], rgba, np.uint8(0)), 1.0)
    return example
