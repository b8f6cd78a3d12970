"""Contact sheets, and held-out images chosen at random, each hand beside its mesh, for a person to judge; the count."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console

from handmesh import skeleton
from handmesh.assets import model_path
from handmesh.crop import crop_affine, warp
from handmesh.data.photos import Split, read_photos
from handmesh.evaluation.datasets import (
    Case,
    Example,
    Mesh,
    Run,
    ask,
    camera_of,
    folder_names,
    from_photos,
    with_detected_boxes,
)
from handmesh.evaluation.metrics import Metric, metric
from handmesh.evaluation.report import setting_of
from handmesh.files import write_csv, write_image, write_json
from handmesh.geometry import apply_affine, project
from handmesh.render.overlay import Colour, Style, draw_skeleton, overlay, shade
from handmesh.render.rasterizer import blend
from handmesh.tracking.backends import open_session
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box, Camera, Hand

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
    missed = np.flatnonzero(~np.isfinite(errors)).tolist()
    rows = best_median_worst(errors, COLUMNS) | {"not found": missed[:: max(1, len(missed) // COLUMNS)][:COLUMNS]}

    def tile(i: int) -> Tile:
        caption = f"{errors[i]:.3g}{unit} " if np.isfinite(errors[i]) else ""
        case = cases[i]
        return Tile(case.example, case.label.joints_px, case.answer.hand, caption + case.example.name)

    return _sheet({name: list(map(tile, row)) for name, row in rows.items()})


def best_median_worst(errors: np.ndarray, count: int) -> dict[str, list[int]]:
    """The numbers of `count` cases each by (N,) `errors`, without those where it is not a number."""
    order = [i for i in np.argsort(errors, kind="stable").tolist() if np.isfinite(errors[i])]
    middle = max(0, (len(order) - count) // 2)
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


def false_positive_sheet(false_positives: Sequence[tuple[Example, Hand]]) -> np.ndarray | None:
    """(H, W, 3) the surest of the hands that nobody labelled; None where there are none."""
    surest = sorted(false_positives, key=lambda pair: -pair[1].score)[: 3 * COLUMNS]
    tiles = [Tile(image, hand.joints_px, hand, f"{hand.score:.2f} {image.name}") for image, hand in surest]
    return _sheet({f"surest {k + 1}-": tiles[k : k + COLUMNS] for k in range(0, len(tiles), COLUMNS)})


def _sheet(rows: dict[str, list[Tile]]) -> np.ndarray | None:
    drawn = []
    for name, tiles in rows.items():
        row = np.full((CAPTION + 2 * TILE + CAPTION, COLUMNS * TILE, 3), GROUND, np.uint8)
        row[:CAPTION] = strip(name, COLUMNS * TILE, (255, 255, 255))
        for k, tile in enumerate(tiles):
            views = tile_views(tile, TILE)
            upper = views.plain.copy()
            draw_skeleton(upper, apply_affine(views.affine, tile.joints_px))
            row[CAPTION:, k * TILE : (k + 1) * TILE] = np.concatenate([upper, views.drawn, strip(tile.caption, TILE)])
        drawn += [row] if tiles else []
    return np.concatenate(drawn) if drawn else None


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
    """The camera whose image is the square of `size` pixels under an upright (2, 3) `affine`."""
    scale = float(affine[0, 0])
    cx, cy = apply_affine(affine, np.array([camera.cx, camera.cy]))
    return Camera(camera.fx * scale, camera.fy * scale, float(cx), float(cy), size, size)


def strip(text: str, width: int, colour: tuple[int, int, int] = (200, 200, 200)) -> np.ndarray:
    """(CAPTION, width, 3) a line of text."""
    ground = np.full((CAPTION, width, 3), GROUND, np.uint8)
    return cv2.putText(ground, text, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)


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


def case_image(
    image: np.ndarray, camera: Camera, predicted: Mesh, truth: Mesh | None, faces: np.ndarray, size: int = 192
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


def _from_the_side(predicted: Mesh, truth: Mesh | None, faces: np.ndarray, size: int) -> np.ndarray:
    """(S, S, 3) uint8: both about their roots along the image's x axis, each hiding what lies behind it."""
    hands = [(predicted, PREDICTED)]
    if truth is not None and len(truth.vertices_m) == len(predicted.vertices_m):
        hands.append((truth, TRUE))
    focal = size / SIDE_VIEW_M * _DISTANCE_M
    camera = Camera(focal, focal, (size - 1) / 2, (size - 1) / 2, size, size)
    centre = (truth or predicted).vertices_m.mean(0) - (truth or predicted).joints_m[skeleton.ROOT]
    layers = []
    for hand, colour in hands:
        x, y, z = (hand.vertices_m - hand.joints_m[skeleton.ROOT] - centre).T
        layers.append(shade(np.stack([z, y, _DISTANCE_M - x], axis=1), faces, camera, colour))
    view = np.full((size, size, 3), _GROUND, np.uint8)
    nearest = np.min([depth for _, depth in layers], axis=0)
    for rgba, depth in layers:
        blend(view, np.where((depth <= nearest)[..., None], rgba, np.uint8(0)), 1.0)
    return view


# A sheet that somebody fills in finger by finger, and what it comes to.


FINGERS = ("thumb", "index", "middle", "ring", "little")
YES, NO = "y", "n"


class Shown(NamedTuple):
    """A hand that is to be judged."""

    number: int  # in its caption
    page: str
    file: str
    side: str
    found: bool  # or there is no mesh, and no finger lies right


class Judged(NamedTuple):
    """A judged hand."""

    number: int
    file: str
    is_correct: dict[str, bool]  # by finger
    note: str


def write_blank(path: Path, shown: Sequence[Shown]) -> None:
    """A row for each hand, with a column for each finger, y or n; those that were not found are filled in already.

    ValueError where the file is there and somebody has begun to fill it in.
    """
    if path.exists() and any(row[finger].strip() == YES for row in _rows(path) for finger in FINGERS):
        raise ValueError(f"{path} has been filled in: take another --output, or move it away")
    columns = {name: [getattr(one, name) for one in shown] for name in ("number", "page", "file", "side")}
    answers = ["" if one.found else NO for one in shown]
    notes = ["" if one.found else "not found" for one in shown]
    write_csv(path, columns | dict.fromkeys(FINGERS, answers) | {"note": notes})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value or "" for name, value in row.items()} for row in csv.DictReader(file)]


def read_review(path: Path) -> list[Judged]:
    """The filled-in sheet; ValueError naming the hand where an answer is missing or neither y nor n."""
    judged = []
    for row in _rows(path):
        answers = {finger: row.get(finger, "").strip().lower() for finger in FINGERS}
        if wrong := {finger: answer for finger, answer in answers.items() if answer not in (YES, NO)}:
            raise ValueError(f"{path}: hand {row.get('number')}: expected {YES} or {NO} for each finger, got {wrong}")
        is_correct = {finger: answer == YES for finger, answer in answers.items()}
        judged.append(Judged(int(row["number"]), row["file"], is_correct, row.get("note", "")))
    return judged


def review_metrics(judged: Sequence[Judged]) -> list[Metric]:
    """The fraction of images in which every finger of every hand lies right, of such hands, and of each finger.

    judged: the largest hand of each image before its others.
    """
    hands = [all(one.is_correct.values()) for one in judged]
    of_files: dict[str, list[bool]] = {}
    for one, right in zip(judged, hands, strict=True):
        of_files.setdefault(one.file, []).append(right)
    return [
        metric("images, all fingers of the largest hand", [100.0 * some[0] for some in of_files.values()], "%"),
        metric("images, all fingers of all hands", [100.0 * all(some) for some in of_files.values()], "%"),
        metric("hands, all fingers", [100.0 * right for right in hands], "%"),
        *(metric(name, [100.0 * one.is_correct[name] for one in judged], "%") for name in FINGERS),
    ]


def count_review(path: Path) -> list[Metric]:
    """Print what the sheet comes to, and the hands that are not right with their notes."""
    console, judged = Console(), read_review(path)
    metrics = review_metrics(judged)
    for one in metrics:
        console.print(f"{round(one.value * one.count / 100)} of {one.count} {one.name}: {one} %", highlight=False)
    for one in judged:
        if wrong := [finger for finger, right in one.is_correct.items() if not right]:
            console.print(f"{one.number} {one.file}: {', '.join(wrong)}. {one.note}", highlight=False)
    return metrics


SIZE = 300
"""Pixels of a square's side."""

PAGE_COLUMNS, PAGE_ROWS = 3, 4

STYLE = Style(opacity=0.6, skeleton=True)
"""The finger shows through its mesh, and colours say which finger the mesh takes it for."""

REVIEW = "review.csv"


@dataclass(frozen=True)
class ReviewOptions:
    """Held-out images chosen at random, beside the meshes found in them, to be judged finger by finger.

    Fill in review.csv, y or n for each finger; `--sheet review.csv` counts it.
    """

    root: tuple[Path, ...] = ()
    """Folders with a pseudo_labels.json; images are drawn from all of them together."""
    sheet: Path | None = None
    """Count the review in this review.csv, and draw nothing."""
    count: int = 60
    """How many images."""
    seed: int = 0
    """Another one gives other images."""
    split: Split = "val"
    """The held-out files (val), those for training, or all."""
    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    num_hands: int = 2
    """The most hands that the tracker may find in an image."""
    threads: int | None = None
    """Cores that the network may use. Default: all but one."""
    output: Path = Path("outputs/review")
    """Folder for the pages, index.json and review.csv."""


def review(options: ReviewOptions) -> None:
    """`handmesh evaluate review`: draw a sheet, or count one that is filled in."""
    if options.sheet:
        count_review(options.sheet)
    else:
        draw_overlays(options)


def draw_overlays(options: ReviewOptions) -> list[Case]:
    """Choose, look, write pages and the sheet to fill in; gives the labelled hands, an image's largest first."""
    if not options.root:
        raise ValueError("no data sets: name at least one folder with a pseudo_labels.json, with --root")
    images = [
        example._replace(name=f"{name}/{example.name}")
        for name, root in zip(folder_names(options.root), options.root, strict=True)
        for example in from_photos(read_photos(root, options.split))
        if example.hands
    ]
    chosen = choose(images, options.count, options.seed)
    tracker = HandTracker.load(options.model, num_hands=options.num_hands, threads=options.threads)
    said = ask(with_detected_boxes(tracker), chosen, "looking").said
    cases = [case for one in said for case in sorted(Run([one]).cases, key=lambda case: -case.label.box().size_px)]
    step = PAGE_COLUMNS * PAGE_ROWS
    pages = [f"page-{k // step + 1:02d}.png" for k in range(len(cases))]
    shown = [
        Shown(k + 1, page, case.example.name, case.label.side, case.answer.hand is not None)
        for k, (page, case) in enumerate(zip(pages, cases, strict=True))
    ]
    write_blank(options.output / REVIEW, shown)
    for start in range(0, len(cases), step):
        write_image(options.output / pages[start], _page(cases[start : start + step], shown[start : start + step]))
    session = open_session(model_path(options.model), "mesh", options.threads)
    index = {"setting": setting_of(model_path(options.model), session, options.threads).as_json()}
    index |= {"seed": options.seed, "split": options.split, "images": [example.name for example in chosen]}
    write_json(options.output / "index.json", index | {"hands": [one._asdict() for one in shown]})
    Console().print(f"{len(shown)} hands in {len(chosen)} images, written to {options.output}; fill in {REVIEW}")
    return cases


def choose(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` of the images, each as likely as any other, the same for the same seed; ValueError for too few."""
    if not 1 <= count <= len(examples):
        raise ValueError(f"--count must be between 1 and {len(examples)}, as many images with hands as there are")
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:count]]


def _page(cases: Sequence[Case], shown: Sequence[Shown]) -> np.ndarray:
    """For each case a caption over the hand as it is, and with the mesh."""
    height, width = CAPTION + SIZE, 2 * SIZE
    page = np.full((PAGE_ROWS * height, PAGE_COLUMNS * width, 3), GROUND, np.uint8)
    for k, (case, one) in enumerate(zip(cases, shown, strict=True)):
        views = tile_views(Tile(case.example, case.label.joints_px, case.answer.hand, ""), SIZE, STYLE)
        drawn = views.drawn if one.found else np.full_like(views.drawn, GROUND)
        text = f"{one.number}  {'' if one.found else 'NOT FOUND '}{one.side}  {one.file}"
        pair = [strip(text, width, (255, 255, 255)), np.concatenate([views.plain, drawn], axis=1)]
        top, left = k // PAGE_COLUMNS * height, k % PAGE_COLUMNS * width
        page[top : top + height, left : left + width] = np.concatenate(pair)
    return page
