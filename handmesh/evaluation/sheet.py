"""Contact sheets: what was labelled, and under it what was seen, for the cases that tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.crop import apply_affine, crop_affine, warp
from handmesh.evaluation.answers import Picture, camera_of
from handmesh.evaluation.pictures import Case, FalseHand
from handmesh.render import Style, draw_skeleton, overlay
from handmesh.structs import Box, Camera, Hand

TILE = 176
COLUMNS = 8
MARGIN = 1.9  # a tile's side in sides of the tight box
CAPTION = 16
GROUND = 24


class Tile(NamedTuple):
    """One square of a picture around a hand."""

    picture: Picture
    joints_px: np.ndarray  # (21, 2) that the tile is centred on, and that are drawn in its upper half
    hand: Hand | None  # drawn in its lower half
    caption: str


def case_sheet(cases: Sequence[Case], errors: np.ndarray, unit: str = "") -> np.ndarray | None:
    """The best, the median and the worst cases by (N,) `errors`, and some of those where it is not a number.

    Gives an RGB picture, None where there are no cases.
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


def false_hand_sheet(false_hands: Sequence[FalseHand]) -> np.ndarray | None:
    """The surest of the hands that nobody labelled; None where there are none."""
    surest = sorted(false_hands, key=lambda false: -false.hand.score)[: 3 * COLUMNS]
    tiles = [Tile(f.picture, f.hand.joints_px, f.hand, f"{f.hand.score:.2f} {f.picture.name}") for f in surest]
    return _sheet({f"surest {k + 1}-": tiles[k : k + COLUMNS] for k in range(0, len(tiles), COLUMNS)})


def write_sheet(path: Path, sheet: np.ndarray) -> None:
    """Write an RGB picture as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tofile(path)


def _case_tile(case: Case, error: float, unit: str) -> Tile:
    caption = f"{error:.3g}{unit} " if np.isfinite(error) else ""
    return Tile(case.picture, case.label.joints_px, case.answer.hand, caption + case.picture.name)


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
    views = look_at(tile, TILE)
    upper = views.plain.copy()
    draw_skeleton(upper, apply_affine(views.affine, tile.joints_px))
    return np.concatenate([upper, views.drawn, strip(tile.caption, TILE)])


class Views(NamedTuple):
    """A tile's square of the picture."""

    plain: np.ndarray  # (S, S, 3) uint8 RGB
    drawn: np.ndarray  # the same with the tile's hand, if it has one
    affine: np.ndarray  # (2, 3) from the picture's pixels to the square's


def look_at(tile: Tile, size: int, style: Style | None = None) -> Views:
    """The square around the tile's joints in `size` pixels, as it is and with the hand drawn over it."""
    image = tile.picture.load()
    affine = crop_affine(Box.around(tile.joints_px, MARGIN, turn=False), size)
    plain = warp(image, affine, size)
    if tile.hand is None:
        return Views(plain, plain, affine)
    camera = zoomed(camera_of(tile.picture, image), affine, size)
    hand = replace(tile.hand, joints_px=apply_affine(affine, tile.hand.joints_px))
    return Views(plain, overlay(plain, [hand], camera, style), affine)


def zoomed(camera: Camera, affine: np.ndarray, size: int) -> Camera:
    """The camera whose picture is the square of `size` pixels under an upright `affine`."""
    scale = float(affine[0, 0])
    cx, cy = apply_affine(affine, np.array([camera.cx, camera.cy]))
    return Camera(camera.fx * scale, camera.fy * scale, float(cx), float(cy), size, size)


def strip(text: str, width: int, colour: tuple[int, int, int] = (200, 200, 200)) -> np.ndarray:
    """(CAPTION, width, 3) a line of text."""
    ground = np.full((CAPTION, width, 3), GROUND, np.uint8)
    return cv2.putText(ground, text, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)
