"""Whether the folder of a research data set is whole and its labels make sense; a sheet of its hands to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

from handmesh import crop, geometry, skeleton
from handmesh.data import freihand_check
from handmesh.data.freihand_check import BONE_M, DEPTH_M, TILE_PX, Finding
from handmesh.data.sets import SETS, read_set
from handmesh.data.sets.table import HandTable, SetError
from handmesh.render.overlay import draw_skeleton
from handmesh.types import Box

FREIHAND = "freihand"
PROJECTION_PX = 2.0
"""How far, on average, joints in space may be drawn from those in the image."""
_MIDDLE = [skeleton.ROOT, skeleton.KEYPOINTS.index("middle2")]
_AROUND = 1.8  # a tile's side in sides of the hand's box
_OUTLINE, _TEXT = (255, 255, 255), (255, 255, 0)


def check_set(name: str, root: Path, splits: Sequence[str] = ()) -> tuple[list[Finding], list[HandTable]]:
    """What there is to say of the splits (default: the training one) of a set, and those tables that can be read."""
    findings, tables = [], []
    for split in splits or SETS[name].splits[:1]:
        try:
            table = read_set(name, root, split)
        except SetError as error:
            findings.append(Finding(f"{SETS[name].title} {split}", "broken", str(error)))
        else:
            tables.append(table)
            findings += check_table(table)
    return findings, tables


def check_table(table: HandTable) -> list[Finding]:
    """Counts, files, ranges and agreements of a table's labels."""
    labelled, in_space = np.isfinite(table.joints_px).all(-1), np.isfinite(table.joints_m).all((1, 2))
    left, known = int(table.left.sum()), 0 if table.pose is None else int(np.isfinite(table.pose).all(1).sum())
    images = np.unique(table.images)
    sides = f"{len(table) - left:,} right, {left:,} left" if table.sides else "nobody says which side"
    found = f"{len(table):,} hands in {len(images):,} images: {sides}"
    labels = (
        f"{labelled.any(1).sum():,} in 2D ({labelled.mean():.0%} of joints), {in_space.sum():,} in 3D, {known:,} MANO"
    )
    findings = [Finding("hands", "ok", found), Finding("labels", "ok", labels), _files(table, images)]
    if in_space.any():
        findings += _space(table.rows(in_space))
    return [finding._replace(what=f"{table.name}: {finding.what}") for finding in findings]


def _files(table: HandTable, images: np.ndarray) -> Finding:
    missing = [name.decode() for name in images if not (table.root / name.decode()).is_file()]
    if missing:
        found = f"{len(missing):,} of {len(images):,} missing, the first {missing[0]}"
        return Finding("images", "broken", found, "unpack them again")
    return Finding("images", "ok", f"all {len(images):,} are there")


def _space(table: HandTable) -> list[Finding]:
    depth = table.joints_m[..., 2].min(1)
    bone = np.linalg.norm(np.diff(table.joints_m[:, _MIDDLE], axis=1)[:, 0], axis=1)
    findings = [
        freihand_check.in_range("depth of joints", depth, DEPTH_M, "m", "another frame or unit than the set's own"),
        freihand_check.in_range("middle finger's first bone", bone, BONE_M, "m", "another unit than the set's own"),
    ]
    rows = np.flatnonzero(np.isfinite(table.camera).all(1) & np.isfinite(table.joints_px).all((1, 2)))
    if len(rows):
        findings.append(_projection(table.rows(rows)))
    return findings


def _projection(table: HandTable) -> Finding:
    focal, centre = table.camera[:, None, :2], table.camera[:, None, 2:4]
    drawn = table.joints_m[..., :2] / table.joints_m[..., 2:] * focal + centre
    apart = np.linalg.norm(drawn - table.joints_px, axis=-1)
    found = f"mean {apart.mean():.2g} px, max {apart.max():.2g} px from the joints in the image"
    if apart.mean() <= PROJECTION_PX:
        return Finding("projected joints", "ok", found)
    return Finding("projected joints", "broken", found, "cameras and joints do not belong together: unpack all again")


# The sheet.


def write_sheet(tables: Sequence[HandTable], path: Path, columns: int = 6, rows: int = 3) -> None:
    """Write an image of `rows` x `columns` hands spread over each table.

    The coloured bones join the labelled joints, hollow ones are hidden, the white line is the mask's border, the thin
    box is the set's own. Raises SetError for an image that cannot be read, OSError where `path` cannot be written.
    """
    lines = []
    for table in tables:
        shown = np.unique(np.linspace(0, len(table) - 1, rows * columns).round().astype(int)).tolist()
        tiles = [tile(table, i) for i in shown]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
        lines += [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path)


def tile(table: HandTable, i: int) -> np.ndarray:
    """(TILE_PX, TILE_PX, 3) uint8: hand `i` and its surroundings, with what is labelled there."""
    tight = table.box_of(i)
    affine = crop.crop_affine(Box(tight.centre_px, max(tight.size_px, 8.0) * _AROUND), TILE_PX)
    image = crop.warp(table.image(i), affine, TILE_PX)
    mask = table.mask(i)
    if mask is not None:
        outlines, _ = cv2.findContours(crop.warp(mask, affine, TILE_PX), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, _OUTLINE, 1)
    if table.box is not None and np.isfinite(table.box[i]).all():
        corners = geometry.apply_affine(affine, table.box[i].reshape(2, 2)).round().astype(int).tolist()
        cv2.rectangle(image, *map(tuple, corners), _OUTLINE, 1, cv2.LINE_AA)
    joints_px = geometry.apply_affine(affine, table.joints_px[i])
    draw_skeleton(image, joints_px)
    if table.visible is not None:
        for joint in np.flatnonzero(~table.visible[i] & np.isfinite(joints_px).all(1)).tolist():
            cv2.circle(image, tuple(joints_px[joint].round().astype(int).tolist()), 3, (0, 0, 0), cv2.FILLED)
    path, side = table.image_path(i), table.side(i) if table.sides else "either"
    caption = f"{side} {path.parent.parent.name}/{path.stem}"
    image[:22] //= 3
    cv2.putText(image, caption[:44], (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _TEXT, 1, cv2.LINE_AA)
    return image


@dataclass(frozen=True)
class CheckSetOptions:
    """Check the folder of a research data set: what is missing, how many hands it has, whether its labels agree.

    Prints a line for each finding, where the set is to be had and on what terms; the exit code is 1 where something is
    broken. docs/datasets.md lists the sets.
    """

    name: tyro.conf.Positional[str]
    """freihand, ho3d, dexycb, ... as docs/datasets.md has them."""
    root: tyro.conf.Positional[Path]
    """Its folder."""
    splits: tuple[str, ...] = ()
    """Default: the one to train with."""
    output: Path | None = None
    """Write a .png of some hands with their labels."""


def run(options: CheckSetOptions) -> int:
    """`handmesh data check`: check and print; 0 where nothing is broken."""
    if options.name == FREIHAND:
        return freihand_check.run(freihand_check.CheckOptions(options.root, output=options.output))
    if options.name not in SETS:
        raise ValueError(f"unknown data set {options.name!r}; known are {FREIHAND}, {', '.join(SETS)}")
    findings, tables = check_set(options.name, options.root, options.splits)
    for finding in findings:
        print(f"{finding.verdict:<6} {finding.what}: {finding.found}{finding.remedy and '; '}{finding.remedy}")
    known = SETS[options.name]
    print(f"{known.title}: {known.page}; licence: {known.licence}; splits: {', '.join(known.splits)}")
    if options.output and tables:
        write_sheet(tables, options.output)
        print(f"wrote {options.output}")
    return freihand_check.verdict(findings)
