"""Detector data: whole images with labelled hands, the maps that a detector should give for them, batches of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from handmesh.crop import PADDING
from handmesh.data.cutouts import Cutout, CutoutSet, mirrored_beside
from handmesh.data.loader import Stage, StepBatches
from handmesh.data.photos import Photo, list_images, read_photos, split_of
from handmesh.data.samples import vary_colour
from handmesh.data.shards import ShardSet, read_shards
from handmesh.data.teacher import SceneTeacher
from handmesh.detection import STRIDE
from handmesh.files import read_image
from handmesh.geometry import apply_affine
from handmesh.types import OTHER_SIDE, Box, Side

# Whole images with labelled hands, for the detector: pasted scenes, photographs, images without hands.


ENOUGH, HARDLY = 0.5, 0.2
"""A hand counts from this fraction of its joints in sight; below the other it is no hand; between, either may be
said."""

MIN_SIZE_PX = 9.0
"""Smaller hands, in pixels of the detector's input, need not be found."""


class Size(NamedTuple):
    """Of an image, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, eq=False)
class SceneHand:
    """A hand in a scene."""

    side: Side
    joints_px: np.ndarray  # (21, 2)
    in_sight: np.ndarray  # (21,) bool or fraction: 0 where something hides the joint

    @property
    def box(self) -> Box:
        """The box that the detector should give."""
        return Box.around(self.joints_px)


@dataclass(frozen=True, eq=False)
class Scene:
    """An image, its hands, and the places where there may be hands that nobody labelled."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    hands: tuple[SceneHand, ...] = ()
    unsure: tuple[np.ndarray, ...] = ()  # convex polygons, (K, 2) pixels each
    plain: np.ndarray | None = None  # the image before its colours were varied, for a teacher; None: it was not

    @property
    def planes(self) -> np.ndarray:
        """(3, H, W) uint8 as networks take images."""
        return self.image.transpose(2, 0, 1)

    @property
    def plain_planes(self) -> np.ndarray:
        """(3, H, W) uint8 in the scene's own colours."""
        return (self.image if self.plain is None else self.plain).transpose(2, 0, 1)


class SceneSource(Protocol):
    """Something that random scenes can be drawn from."""

    def draw(self, size: Size, rng: np.random.Generator) -> Scene: ...


@dataclass(frozen=True)
class SceneConfig:
    """Where the detector's training images come from."""

    cutouts: tuple[Path, ...] = ()
    """Folders of cutouts (`handmesh data people`, `handmesh data cutouts`)."""
    hand_photos: tuple[Path, ...] = ()
    """Folders of labelled photographs whose every hand is labelled."""
    people_photos: tuple[Path, ...] = ()
    """Folders of labelled photographs of one person; where one hand is labelled, the other may be in view."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of images without hands."""
    shards: tuple[Path, ...] = ()
    """Folders of `handmesh data synthetic`, whose labels list every hand in the image."""
    pasted_fraction: float = 0.5
    pasted_on_photos: float = 0.4
    """Fraction of the pasted scenes that have a labelled photograph behind them: hands before faces, clothes, hands."""
    mirrored: float = 0.0
    """Fraction of the pasted hands, of cutouts of a single one, beside which lies their mirror image, as their owner's
    other hand."""
    people_fraction: float = 0.25
    hands_fraction: float = 0.13
    shards_fraction: float = 0.1
    """The rest are images without hands; fractions of absent sources go to the others."""
    workers: int = 1
    colour: bool = field(default=True)
    teacher: Path | None = None
    """A detector as .onnx, (n, 3, height, width) RGB between 0 and 1 to maps, all of which are matched in training."""
    taught_fraction: float = 0.5
    """Of each batch's images: so many the teacher is asked about, which takes about as long as learning from them."""


def scene_sources(config: SceneConfig) -> list[tuple[float, SceneSource]]:
    """(fraction, source) for everything that `config` names, training split only."""
    empty = [path for folder in config.backgrounds for path in train_images(folder)]
    photographs: list[tuple[float, PhotoScenes]] = []
    people = [photo for root in config.people_photos for photo in read_photos(root, "train")]
    if people:
        photographs.append((config.people_fraction, PhotoScenes(people, expected=2)))
    hands = [photo for root in config.hand_photos for photo in read_photos(root, "train") if photo.hands]
    if hands:
        photographs.append((config.hands_fraction, PhotoScenes(hands, expected=1)))
    found: list[tuple[float, SceneSource]] = []
    sets = [CutoutSet(folder) for folder in config.cutouts]
    if sets:
        grounds = [source for _, source in photographs]
        pasted = PastedScenes(sets, empty, grounds, config.pasted_on_photos, config.mirrored)
        found.append((config.pasted_fraction, pasted))
    found += photographs
    found += [(config.shards_fraction / len(config.shards), ShardScenes(read_shards(path))) for path in config.shards]
    rest = 1.0 - config.pasted_fraction - config.people_fraction - config.hands_fraction
    rest -= config.shards_fraction if config.shards else 0.0
    if empty:
        found.append((rest, EmptyScenes(empty)))
    return found


def train_images(folder: Path) -> list[Path]:
    """The images of a folder that the fixed split leaves for training."""
    return [path for path in list_images(folder) if split_of(path.name) == "train"]


class EmptyScenes:
    """Random parts of images without hands."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def draw(self, size: Size, rng: np.random.Generator) -> Scene:
        image = read_image(self.paths[rng.integers(len(self.paths))])
        return Scene(warp_to(image, random_view(image.shape, size, rng), size, padded=rng.random() < 0.3))


class PhotoScenes:
    """Labelled photographs, turned, mirrored and zoomed.

    With fewer labelled hands than `expected`, the person's other hand may be in view.
    """

    def __init__(self, photos: Sequence[Photo], expected: int) -> None:
        self.photos, self.expected = list(photos), expected

    def draw(self, size: Size, rng: np.random.Generator) -> Scene:
        photo = self.photos[rng.integers(len(self.photos))]
        return viewed(self.scene(photo), size, rng, mirror=rng.random() < 0.5)

    def scene(self, photo: Photo) -> Scene:
        """The whole image with its labels."""
        hands = tuple(SceneHand(hand.side, hand.joints_px, np.ones(21)) for hand in photo.hands)
        missing = 0 < len(hands) < self.expected
        return Scene(photo.load(), hands, tuple(other_hand_position(hand, photo) for hand in hands if missing))


def other_hand_position(hand: SceneHand, photo: Photo) -> np.ndarray:
    """(4, 2) where the other hand of somebody who faces the camera may hang, unlabelled.

    It is on the body's side of the labelled hand, at most five hands away, and in the image's
    lower half, so that the face stays among the places that are surely no hand.
    """
    x, size = hand.box.centre_px[0], hand.box.size_px
    near, far = (x - size, x + 5 * size) if hand.side == "right" else (x + size, x - 5 * size)
    top = 0.45 * photo.height
    return np.array([[near, top], [far, top], [far, photo.height], [near, photo.height]])


class ShardScenes:
    """Synthetic samples, of which the labels say where both hands are."""

    def __init__(self, shards: ShardSet) -> None:
        """Raises ValueError where labels do not list the other hand."""
        if not shards.knows_others.all():
            raise ValueError(
                f"{shards.files[0].parent} was made before labels listed every hand in an image: make it anew with "
                "`handmesh data synthetic`, or leave it out of data.shards"
            )
        self.shards = shards

    def draw(self, size: Size, rng: np.random.Generator) -> Scene:
        return viewed(self.scene(int(rng.integers(len(self.shards)))), size, rng, mirror=rng.random() < 0.5)

    def scene(self, i: int) -> Scene:
        """The whole image of sample `i`; joints that something hides, as far as the mask tells, are out of sight."""
        image, mask = self.shards.decode(i), self.shards.mask(i)
        size = Size(image.shape[1], image.shape[0])

        def hand(side: Side, joints_px: np.ndarray, hidden: np.ndarray) -> SceneHand:
            return covered(SceneHand(side, joints_px, inside(joints_px, size)), hidden)

        shown = cv2.dilate(mask, np.ones((7, 7), np.uint8))  # a tip's joint lies near its edge
        hands = [hand("right", self.shards.joints_px[i], 1 - shown / 255.0)]
        if np.isfinite(self.shards.other_px[i]).all():
            side: Side = "left" if self.shards.other_left[i] else "right"
            hands.append(hand(side, self.shards.other_px[i], mask / 255.0))
        return Scene(image, tuple(hands))


class PastedScenes:
    """Cutouts of people and hands pasted onto images without hands and onto labelled scenes."""

    def __init__(
        self, sets: Sequence[CutoutSet], backgrounds: Sequence[Path], scenes: Sequence[SceneSource] = (),
        fraction: float = 0.0, mirrored: float = 0.0,
    ) -> None:  # fmt: skip
        """scenes: what lies behind a `fraction` of the pasted scenes. mirrored: as `SceneConfig.mirrored`."""
        self.sets, self.backgrounds, self.scenes, self.fraction = list(sets), list(backgrounds), list(scenes), fraction
        self.mirrored = mirrored

    def draw(self, size: Size, rng: np.random.Generator) -> Scene:
        if self.scenes and rng.random() < self.fraction:
            scene = self.scenes[rng.integers(len(self.scenes))].draw(size, rng)
        else:
            scene = Scene(self._background(size, rng))
        for _ in range(rng.choice(5, p=[0.03, 0.42, 0.3, 0.15, 0.1])):
            cutouts = self.sets[rng.integers(len(self.sets))]
            scene = paste(scene, cutouts[int(rng.integers(len(cutouts)))], rng, self.mirrored)
        return scene

    def _background(self, size: Size, rng: np.random.Generator) -> np.ndarray:
        if not self.backgrounds or rng.random() < 0.1:
            return flat_background(size, rng)
        image = read_image(self.backgrounds[rng.integers(len(self.backgrounds))])
        return warp_to(image, random_view(image.shape, size, rng), size)


def flat_background(size: Size, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: a wall, one colour that changes a little from corner to corner."""
    corners = np.clip(rng.uniform(0, 255, 3) + rng.normal(0, 25, (2, 2, 3)), 0, 255)
    return cv2.resize(corners.astype(np.uint8), tuple(size), interpolation=cv2.INTER_LINEAR)


def random_view(shape: tuple[int, ...], size: Size, rng: np.random.Generator, rotation_rad: float = 0.2) -> np.ndarray:
    """A (2, 3) affine from an image of `shape` to a random part of it, sometimes with space around."""
    height, width = shape[:2]
    fit = min(size.width / width, size.height / height)
    zoom = 1.0 if rng.random() < 0.3 else math.exp(rng.uniform(math.log(0.6), math.log(2.5)))
    scale, rotation = fit * zoom, rng.normal(0, rotation_rad)
    linear = scale * np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    spare = np.abs(np.array(size) - scale * np.array([width, height])) / 2
    centre = np.array([(size.width - 1) / 2, (size.height - 1) / 2]) + rng.uniform(-1, 1, 2) * spare
    return np.column_stack([linear, centre - linear @ [(width - 1) / 2, (height - 1) / 2]])


def warp_to(image: np.ndarray, affine: np.ndarray, size: Size, padded: bool = False) -> np.ndarray:
    """An (H, W, 3 or 4) image under a (2, 3) affine, shrunk without aliasing; outside lies grey if `padded`, else the
    border goes on."""
    shrink = math.sqrt(abs(np.linalg.det(affine[:, :2])))
    while shrink < 0.6 and min(image.shape[:2]) >= 2:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        affine = affine @ np.array([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]])
        shrink *= 2
    border = cv2.BORDER_CONSTANT if padded else cv2.BORDER_REPLICATE
    value = (PADDING,) * 3 if image.shape[2] == 3 else (0,) * 4
    return cv2.warpAffine(image, affine, tuple(size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=value)


def viewed(scene: Scene, size: Size, rng: np.random.Generator, mirror: bool) -> Scene:
    """A random part of `scene` at `size`, with its labels; `mirror` swaps left and right, hands too."""
    rotation = 0.2 if rng.random() < 0.85 else 1.5
    affine = random_view(scene.image.shape, size, rng, rotation)
    if mirror:
        affine = np.array([[-1.0, 0], [0, 1]]) @ affine + np.array([[0, 0, size.width - 1.0], [0, 0, 0]])
    image = warp_to(scene.image, affine, size, padded=rng.random() < 0.5)
    hands = tuple(_moved(hand, affine, size, mirror) for hand in scene.hands)
    return Scene(image, hands, tuple(apply_affine(affine, polygon) for polygon in scene.unsure))


def _moved(hand: SceneHand, affine: np.ndarray, size: Size, mirror: bool) -> SceneHand:
    joints = apply_affine(affine, hand.joints_px)
    side = OTHER_SIDE[hand.side] if mirror else hand.side
    return SceneHand(side, joints, hand.in_sight * inside(joints, size))


def inside(points_px: np.ndarray, size: Size) -> np.ndarray:
    """(N,) which points lie in an image."""
    return ((points_px > -0.5) & (points_px < np.array(size) - 0.5)).all(1)


def paste(scene: Scene, cutout: Cutout, rng: np.random.Generator, mirrored: float = 0.0) -> Scene:
    """`cutout` at a random position, size and rotation over `scene`; hands that it covers lose sight.

    mirrored: how often a single hand's mirror image is laid beside it, before it or after.
    """
    size = Size(scene.image.shape[1], scene.image.shape[0])
    affine, mirror = _placement(cutout, size, rng), rng.random() < 0.5
    if mirror:
        affine = affine @ np.array([[-1.0, 0, cutout.rgba.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
    rgba = cutout.rgba.astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255 * rng.uniform(0.75, 1.25)
    laid = [(affine, mirror)]
    if mirrored and len(cutout.hands) == 1 and rng.random() < mirrored:
        beside = mirrored_beside(affine, cutout.hands[0], rng)
        laid.insert(int(rng.integers(2)), (beside, not mirror))
    for affine, mirror in laid:
        scene = _laid(scene, cutout, rgba, affine, mirror)
    return scene


def _laid(scene: Scene, cutout: Cutout, rgba: np.ndarray, affine: np.ndarray, mirror: bool) -> Scene:
    """The scene below a cutout's (H, W, 4) float image with premultiplied alpha; mirror: its hands' sides change."""
    size = Size(scene.image.shape[1], scene.image.shape[0])
    cover = warp_to(rgba, affine, size, padded=True)
    alpha = cover[..., 3:] / 255
    image = np.clip(scene.image * (1 - alpha) + cover[..., :3], 0, 255).astype(np.uint8)
    before = tuple(covered(hand, alpha[..., 0]) for hand in scene.hands)
    own = tuple(
        _moved(SceneHand(h.side, h.joints_px, np.full(21, h.visible)), affine, size, mirror) for h in cutout.hands
    )
    return replace(scene, image=image, hands=before + own)


def _placement(cutout: Cutout, size: Size, rng: np.random.Generator) -> np.ndarray:
    """An affine that gives the cutout's hand a random size and position, or shows the cutout as it was framed."""
    if rng.random() < 0.35:
        return random_view(cutout.rgba.shape, size, rng)
    shown = [hand for hand in cutout.hands if hand.visible > HARDLY]
    smallest, largest = math.log(10.0), math.log(1.05 * min(size))
    wanted = math.exp(rng.uniform(smallest, largest))
    if shown:
        box = Box.around(shown[rng.integers(len(shown))].joints_px)
        scale, anchor = wanted / box.size_px, np.array(box.centre_px)
    else:
        scale = rng.uniform(0.3, 1.2) * size.height / cutout.rgba.shape[0]
        anchor = np.array(cutout.rgba.shape[1::-1]) / 2
    scale = min(scale, 3.0)  # larger would be a blur
    rotation = rng.normal(0, 0.25) if rng.random() < 0.88 else rng.uniform(-math.pi, math.pi)
    linear = scale * np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])
    position = rng.uniform(0.02, 0.98, 2) * size
    return np.column_stack([linear, position - linear @ anchor])


def covered(hand: SceneHand, alpha: np.ndarray) -> SceneHand:
    """The hand without sight of the joints that an (H, W) cover of 0..1 hides."""
    column, row = np.round(hand.joints_px).astype(int).T
    hidden = alpha[row.clip(0, alpha.shape[0] - 1), column.clip(0, alpha.shape[1] - 1)] > 0.5
    return replace(hand, in_sight=hand.in_sight * ~hidden)


# What the detector should say of a scene, as maps, and endless batches of it.
#
# A cell of the maps is `STRIDE` pixels wide. Each hand raises a bump on the `heat` map around its
# box's centre and tells the cells near it where the centre lies, how large the box is, how it is
# turned and whose side it is (the scheme of CenterNet: Zhou et al., Objects as Points, 2019).


_SPREAD, _LEAST_SPREAD = 0.1, 0.7
"""Standard deviation of a bump: this fraction of the box's side, but at least so many cells."""
_NEAR = 0.45
"""Cells with at least this much heat are told about the hand."""


class DetectionBatch(NamedTuple):
    """B images with their maps, h = H / STRIDE, w = W / STRIDE."""

    image: Tensor  # (B, 3, H, W) uint8 RGB
    heat: Tensor  # (B, h, w) 1 in the cell of a hand's centre, falling off around it
    sure: Tensor  # (B, h, w) 1 where `heat` is known, 0 where a hand may be unlabelled
    near: Tensor  # (B, h, w) weight of the labels below: the heat close to a centre, else 0
    offset: Tensor  # (B, 2, h, w) from the cell's centre to the box's, cells
    log_size: Tensor  # (B, h, w) logarithm of the box's side in cells
    direction: Tensor  # (B, 2, h, w) cosine and sine of the box's angle
    right: Tensor  # (B, h, w) 1 for the subject's own right hand
    taught: tuple[Tensor, ...] = ()  # (K, C, h', w') each: what a teacher says of the first K; see `SceneTeacher`


def input_size(width: int) -> Size:
    """The size of the images whose width is given: 4 by 3, rounded to the network's coarsest stride."""
    return Size(width, max(32, round(width * 0.75 / 32) * 32))


def encode(scene: Scene) -> dict[str, np.ndarray]:
    """The (h, w) and (2, h, w) maps of one scene, float32; see `DetectionBatch`."""
    height, width = scene.image.shape[0] // STRIDE, scene.image.shape[1] // STRIDE
    maps = {name: np.zeros((height, width), np.float32) for name in ("heat", "near", "log_size", "right")}
    maps |= {name: np.zeros((2, height, width), np.float32) for name in ("offset", "direction")}
    maps["sure"] = np.ones((height, width), np.float32)
    for polygon in scene.unsure:
        _fill(maps["sure"], polygon, 0.0)
    for hand in scene.hands:
        if not _counts(hand, scene) and hand.in_sight.mean() > HARDLY:
            _fill(maps["sure"], hand.box.scaled(1.2).corners_px(), 0.0)
    labelled = [hand for hand in scene.hands if _counts(hand, scene)]
    for hand in labelled:
        _fill(maps["sure"], hand.box.scaled(1.2).corners_px(), 1.0)
    for hand in sorted(labelled, key=lambda hand: -hand.box.size_px):
        _raise_bump(maps, hand)
    return maps


def _counts(hand: SceneHand, scene: Scene) -> bool:
    (x, y), (height, width) = hand.box.centre_px, scene.image.shape[:2]
    centred = -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5
    return bool(centred and hand.in_sight.mean() >= ENOUGH and hand.box.size_px >= MIN_SIZE_PX)


def _fill(mask: np.ndarray, polygon_px: np.ndarray, value: float) -> None:
    cells = (polygon_px + 0.5) / STRIDE - 0.5
    cv2.fillConvexPoly(mask, np.round(cells).astype(np.int32), value)


def _raise_bump(maps: dict[str, np.ndarray], hand: SceneHand) -> None:
    box = hand.box
    x, y = ((c + 0.5) / STRIDE - 0.5 for c in box.centre_px)
    rows, columns = np.mgrid[: maps["heat"].shape[0], : maps["heat"].shape[1]]
    spread = max(_LEAST_SPREAD, _SPREAD * box.size_px / STRIDE)
    bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2)).astype(np.float32)
    row = min(max(round(y), 0), bump.shape[0] - 1)
    bump[row, min(max(round(x), 0), bump.shape[1] - 1)] = 1.0
    own = (bump >= _NEAR) & (bump >= maps["near"])
    maps["heat"] = np.maximum(maps["heat"], bump)
    maps["near"][own] = bump[own]
    maps["offset"][:, own] = np.stack([x - columns, y - rows])[:, own]
    maps["log_size"][own] = np.log(box.size_px / STRIDE)
    maps["direction"][:, own] = np.array([[np.cos(box.angle_rad)], [np.sin(box.angle_rad)]])
    maps["right"][own] = hand.side == "right"


def collate(scenes: Sequence[Scene], teacher: SceneTeacher | None = None) -> DetectionBatch:
    """Scenes of one size as a batch, with what a teacher says of them.

    The teacher sees them before their colours are varied: a hand in grey, at night or with red and blue swapped is to
    be found as if it were in daylight.
    """
    maps = [encode(scene) for scene in scenes]
    stacked = {name: torch.from_numpy(np.stack([each[name] for each in maps])) for name in maps[0]}
    images = np.stack([scene.planes for scene in scenes])
    taught = tuple(map(torch.from_numpy, teacher([scene.plain_planes for scene in scenes]))) if teacher else ()
    return DetectionBatch(image=torch.from_numpy(images), taught=taught, **stacked)


class DetectionBatches(StepBatches):
    """Batches of labelled scenes; a stage's crop size is the width of its images."""

    folders = "data.cutouts, data.hand_photos, data.people_photos, data.backgrounds"

    def __init__(
        self, sources: Sequence[tuple[float, SceneSource]], stages: Sequence[Stage], colour: bool = True,
        seed: int = 0, rank: int = 0, world: int = 1, teacher: SceneTeacher | None = None, parts: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(sources, stages, seed, rank, world, parts)
        self.colour, self.teacher = colour, teacher

    def make(self, source: SceneSource, size: int, rng: np.random.Generator) -> Scene:
        scene = source.draw(input_size(size), rng)
        return replace(scene, image=vary_colour(scene.image, rng), plain=scene.image) if self.colour else scene

    def collate(self, samples: list[Scene]) -> DetectionBatch:
        return collate(samples, self.teacher)
