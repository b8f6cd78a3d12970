"""Labelled hands, random changes, the crops made of them, and their batches. One list of fields.

The network knows right hands only, and `crop` mirrors a left one. A flipped right hand is thus
labelled as the left hand that it has become, seen by the mirrored camera, and not as a right hand
with mirrored labels; its training crop is the original's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from handmesh import crop, geometry, skeleton
from handmesh.gestures import contacts
from handmesh.hand.model import HandModel
from handmesh.types import OTHER_SIDE, Box, Camera, Side


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly training crops vary."""

    rotation_deg: float = 22.0
    """Standard deviation of the box's rotation away from upright."""
    any_rotation: float = 0.06
    """Fraction of crops turned any which way."""
    scale: tuple[float, float] = (0.85, 1.3)
    shift: float = 0.08
    """Largest displacement of the box as a fraction of its side."""
    colour: bool = True
    wrong_side: float = 0.12
    """Fraction of crops mirrored the wrong way, to learn to tell."""
    between: float = 0.0
    """Of hands that touch or nearly touch one of the other side: the fraction of crops that lie over both, as a
    detector's box may; the one that the crop is mirrored for is labelled."""
    looked: float = 0.0
    """Fraction of crops that lie about the joints that a network sees in such a crop, as a tracker's second look does;
    the config's `looker` says which network."""


Look = Callable[[np.ndarray, Box, bool], np.ndarray]
"""Where a network sees a hand's joints: (H, W, 3) uint8 RGB, a crop's box and whether the crop is mirrored to (21, 2)
pixels of the image."""

_LOOKED = AugmentConfig(rotation_deg=4.0, any_rotation=0.0, scale=(0.9, 1.08), shift=0.03)
"""How crops vary about the joints seen: the network in training sees others than the one that is asked."""


def box_of_second_look(image: np.ndarray, box: Box, mirror: bool, box_scale: float, look: Look) -> Box:
    """The crop's box about the joints seen in the crop of `box`; `box` itself where these lie nowhere near it."""
    seen = Box.around(look(image, box, mirror)).scaled(box_scale)
    away = math.dist(seen.centre_px, box.centre_px)
    return seen if box.size_px / 3 <= seen.size_px <= box.size_px * 2 and away <= box.size_px / 2 else box


_NEIGHBOUR, _FARTHEST_BETWEEN = 1.3, 0.6
"""Up to how many sides of their boxes apart two hands are seen as one, and how far on the way to the other such a box
lies: half is just between them."""


def box_between(box: Box, other: Box, rng: np.random.Generator) -> Box:
    """A box somewhere between two hands' boxes, larger the farther it is from the first; as `box` if they are apart."""
    away = np.subtract(other.centre_px, box.centre_px)
    sizes = sorted((box.size_px, other.size_px))
    if float(np.hypot(*away)) > _NEIGHBOUR * sum(sizes) / 2 or sizes[1] > 1.6 * sizes[0]:
        return box
    part = rng.uniform(0.0, _FARTHEST_BETWEEN)
    centre = np.array(box.centre_px) + part * away
    return replace(box, centre_px=(float(centre[0]), float(centre[1])), size_px=box.size_px * (1 + 0.5 * part))


def jitter_box(box: Box, config: AugmentConfig, rng: np.random.Generator) -> Box:
    """A box moved, turned and scaled at random."""
    spread = math.radians(config.rotation_deg)
    rotation = rng.uniform(-math.pi, math.pi) if rng.random() < config.any_rotation else rng.normal(0, spread)
    shift = rng.uniform(-config.shift, config.shift, 2) * box.size_px
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    centre = (box.centre_px[0] + shift[0], box.centre_px[1] + shift[1])
    return replace(box, centre_px=centre, size_px=box.size_px * scale, angle_rad=box.angle_rad + rotation)


LUMA = np.array([0.299, 0.587, 0.114])
"""How bright red, green and blue look (ITU-R BT.601)."""

_TONE, _HUE, _GREY, _SWAP, _LIGHT, _NIGHT = 0.8, 0.25, 0.18, 0.16, 0.25, 0.06
_BLUR, _NOISE, _JPEG = 0.15, 0.25, 0.15
"""How often each change is made."""


def vary_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A new (H, W, 3) uint8 RGB image, of random tone, blur, noise and compression."""
    varied = cv2.transform(image, _random_tone(np.array(cv2.mean(image)[:3]), rng))
    if rng.random() < _BLUR:
        varied = cv2.GaussianBlur(varied, (5, 5), rng.uniform(0.4, 1.6))
    if rng.random() < _NOISE:
        varied = _add_noise(varied, rng)
    if rng.random() < _JPEG:
        varied = _compress(varied, int(rng.integers(25, 91)))
    return varied


def _random_tone(mean_rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, 4) affine map of colours: random brightness, contrast, saturation and hue, then at times coloured
    light, night, and channels in another order (as of a camera whose red and blue are swapped).

    Contrast is stretched about the grey of the image's mean colour. As nothing is clipped in
    between, the changes are one map.
    """
    brightness, contrast, saturation, rotation = 1.0, 1.0, 1.0, 0.0
    if rng.random() < _TONE:
        brightness, contrast, saturation = rng.uniform([0.6, 0.4, 0.5], [1.4, 1.4, 1.5])
    if rng.random() < _HUE:
        rotation = rng.uniform(-0.06, 0.06) * 2 * math.pi
    if rng.random() < _GREY:
        saturation = 0.0
    hue, _ = cv2.Rodrigues(np.full(3, rotation / math.sqrt(3)))  # about the axis of the greys
    linear = saturation * hue + (1 - saturation) * LUMA  # each row: what remains of a colour, and its grey
    offset = (1 - contrast) * LUMA @ mean_rgb
    tone = brightness * np.column_stack([contrast * linear, np.full(3, offset)])
    if rng.random() < _LIGHT:
        tone *= np.exp(rng.normal(0, 0.3, (3, 1)))
    if rng.random() < _NIGHT:
        tone *= rng.uniform(0.12, 0.4)
    if rng.random() < _SWAP:
        tone = tone[rng.permutation(3) if rng.random() < 0.5 else [2, 1, 0]]
    return tone


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a dark room's sensor, mostly faint."""
    spread = math.exp(rng.uniform(math.log(2), math.log(30)))
    noise = rng.standard_normal(image.shape, np.float32) * spread
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def cover_patch(image: np.ndarray, rng: np.random.Generator, probability: float = 0.15) -> np.ndarray:
    """(S, S, 3) with, at times, a flat rectangle over a part of it."""
    if rng.random() >= probability:
        return image
    size = image.shape[0]
    x, y = rng.integers(0, size, 2)
    width, height = rng.integers(size // 10, size // 3, 2)
    image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return image


# Whose parameters are they? Rotations and shapes mean a hand only together with the model that they are of.


SAME_HAND_M = 1.5e-3
"""How far, on average, joints may lie from their labels when a hand is posed by the labelled parameters. FreiHAND's
own miss theirs by 0.6 mm."""
_COMPARED = 32
_NOT_TIPS = [k for k in range(len(skeleton.KEYPOINTS)) if k not in skeleton.KEYPOINT_TIPS]


def are_parameters_of(
    hand: HandModel, rotations: np.ndarray, shape: np.ndarray, joints_m: np.ndarray, left: np.ndarray | None = None
) -> bool:
    """Whether parameters are those of this very hand model: posed by them, it has the labelled joints.

    rotations: (N, 16, 3, 3), the first to the camera; shape: (N, 10); joints_m: (N, 21, 3); left: (N,) whose rotations
    and joints are a left hand's; None: they may be either's. Some of the N are looked at. Fingertips do not count:
    data sets take different vertices for them.
    """
    if not len(rotations):
        return False
    rows = np.unique(np.linspace(0, len(rotations) - 1, _COMPARED).round().astype(int))
    rotations, shape, joints_m = (np.asarray(values, np.float32)[rows] for values in (rotations, shape, joints_m))
    as_right = _posing_errors_m(hand, rotations, shape, joints_m)
    as_left = _posing_errors_m(hand, geometry.mirror_rotations(rotations), shape, geometry.mirror_points_m(joints_m))
    errors_m = np.minimum(as_right, as_left) if left is None else np.where(left[rows], as_left, as_right)
    return float(errors_m.mean()) < SAME_HAND_M


def _posing_errors_m(hand: HandModel, *of: np.ndarray) -> np.ndarray:
    """(N,) mean distances of the posed right hand's joints from their labels, the roots together."""
    rotations, shape, joints_m = (torch.from_numpy(values).to(hand.template) for values in of)
    with torch.inference_mode():
        posed = hand(rotations, shape).joints
        apart = posed - posed[:, [skeleton.ROOT]] - joints_m + joints_m[:, [skeleton.ROOT]]
    return apart[:, _NOT_TIPS].norm(dim=-1).mean(1).cpu().numpy()


# Labelled hands, the crops made of them, and the batches these are collated to. One list of fields.


MASK_STRIDE = 8
"""A crop's mask is labelled in cells of so many pixels."""


class Taught(NamedTuple):
    """What a teacher saw in a view, in standard deviations of each channel; see `data.teacher`."""

    mean: np.ndarray  # (P,)
    map: np.ndarray  # (C, h, w) over the student's crop


class HandSample(NamedTuple):
    """An image with at most one labelled hand. Metric fields are in the camera's axes."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    box: Box  # the tight, turned box of the hand, or any box where there is no hand
    joints_px: np.ndarray | None = None  # (21, 2), NaN where a joint is not labelled; None: no hand
    side: Side = "right"
    joints_m: np.ndarray | None = None  # (21, 3)
    rotations: np.ndarray | None = None  # (16, 3, 3), the first to the camera
    shape: np.ndarray | None = None  # (10,)
    camera: Camera | None = None  # None: unknown
    vertices_m: np.ndarray | None = None  # (V, 3), from the same origin as joints_m
    mask: np.ndarray | None = None  # (H, W) uint8, 255 on the hand
    weak_3d: bool = False  # joints_m is an estimate, up to scale; so are rotations and shape where given
    side_known: bool = True  # otherwise the hand is looked at as if it were of `side`, and teaches none
    view: Box | None = None  # the tight box to be looked at in place of a randomly changed one
    wrong_side: bool = False  # look at `view` mirrored the wrong way
    stretch: np.ndarray | None = None  # (2, 2) of `view`'s crop about its middle; what it shows has no 3D labels
    taught: Taught | None = None  # what a teacher saw there
    other: Box | None = None  # the tight box of a hand of the other side that the image shows, too


class Batch(NamedTuple):
    """B labelled crops. A mask of 0 says that the sample has no such label."""

    image: Tensor  # (B, 3, S, S) uint8 RGB
    joints_crop: Tensor  # (B, 21, 2), -1 and 1 are the crop's outer borders
    joints_m: Tensor  # (B, 21, 3) root-relative, crop's view; for weak 3D labels up to scale
    vertices_m: Tensor  # (B, V, 3) likewise; V is 0 where no sample has them
    rotations: Tensor  # (B, 16, 3, 3) relative to the parent, the first to the crop's view
    shape: Tensor  # (B, 10)
    mask: Tensor  # (B, S/8, S/8) fraction of each cell that is hand
    contact: Tensor  # (B, 4) 1: the thumb touches that finger; see `handmesh.gestures`
    has_joints_crop: Tensor  # (B, 21) 0 or 1
    has_joints_m: Tensor  # (B,) joints_m is exact
    has_weak_3d: Tensor  # (B,) joints_m is an estimate
    has_vertices: Tensor  # (B,)
    has_parameters: Tensor  # (B,) rotations and shape are known, and give the vertices where these are not
    has_mask: Tensor  # (B,)
    has_contact: Tensor  # (B, 4) it is known, and clear
    has_side: Tensor  # (B,) whose hand it is is known
    presence: Tensor  # (B,) 1: a hand, 0: none
    right: Tensor  # (B,) 1: a right hand as shown, 0: a left one; without meaning where has_side is 0
    taught_mean: Tensor | None = None  # (B, P) a teacher's mean feature; P is 0 where none was taught
    taught_map: Tensor | None = None  # (B, C, h, w) its map over the crop
    has_taught: Tensor | None = None  # (B,)
    source: Tensor | None = None  # (B,) the number of the source that the crop came from


class CropSample(NamedTuple):
    """One crop of a batch, as NumPy; the fields are those of `samples.Batch`."""

    image: np.ndarray
    joints_crop: np.ndarray
    joints_m: np.ndarray
    vertices_m: np.ndarray
    rotations: np.ndarray
    shape: np.ndarray
    mask: np.ndarray
    contact: np.ndarray
    has_joints_crop: np.ndarray
    has_joints_m: float
    has_weak_3d: float
    has_vertices: float
    has_parameters: float
    has_mask: float
    has_contact: np.ndarray
    has_side: float
    presence: float
    right: float
    taught_mean: np.ndarray
    taught_map: np.ndarray
    has_taught: float
    source: float = 0.0


def make_crop_sample(
    item: HandSample, size: int, box_scale: float, augment: AugmentConfig | None, rng: np.random.Generator,
    look: Look | None = None,
) -> CropSample:  # fmt: skip
    """Crop one labelled image to `size` pixels; without `augment`, just as the tracker would.

    look: what `augment.looked` asks; without one, nothing is.
    """
    box = (item.view or item.box).scaled(box_scale)
    wrong_side = item.wrong_side
    varied = augment is not None and item.view is None
    if varied:
        is_between = item.other is not None and rng.random() < augment.between
        box = box_between(item.box, item.other, rng).scaled(box_scale) if is_between else box
        box = jitter_box(box, augment, rng)
        wrong_side = item.joints_px is not None and not is_between and rng.random() < augment.wrong_side
    mirror = (item.side == "left") != wrong_side
    if varied and look is not None and rng.random() < augment.looked:
        box = jitter_box(box_of_second_look(item.image, box, mirror, box_scale, look), _LOOKED, rng)
    affine = crop.crop_affine(box, size, mirror)
    if item.stretch is not None:
        affine = crop.stretched(affine, item.stretch, size)
    image = crop.warp(item.image, affine, size)
    if augment is not None and augment.colour:
        image = cover_patch(vary_colour(image, rng), rng)
    labels = _labels(item, box, affine, size, mirror, with_3d=not wrong_side and item.stretch is None)
    return CropSample(np.ascontiguousarray(image.transpose(2, 0, 1)), **labels)


def _labels(item: HandSample, box: Box, affine: np.ndarray, size: int, mirror: bool, with_3d: bool) -> dict[str, Any]:
    labels = _no_labels(size)
    if item.taught is not None:
        labels |= {"taught_mean": item.taught.mean, "taught_map": item.taught.map, "has_taught": 1.0}
    if item.joints_px is None:
        return labels
    in_crop = geometry.apply_affine(affine, item.joints_px)
    labelled = np.isfinite(in_crop).all(-1)
    labels["joints_crop"] = np.where(labelled[:, None], crop.normalised_from_px(in_crop, size), 0).astype(np.float32)
    labels["has_joints_crop"] = labelled.astype(np.float32)
    labels |= {"presence": 1.0, "has_side": float(item.side_known), "right": float(mirror == (item.side == "left"))}
    if item.mask is not None:
        labels |= {"mask": _small_mask(item.mask, affine, size), "has_mask": 1.0}
    if item.joints_m is not None and with_3d:
        labels |= _metric_labels(item, box, mirror)
    return labels


def _no_labels(size: int) -> dict[str, Any]:
    nothing = {name: 0.0 for name in CropSample._fields if name.startswith("has_")}
    return nothing | {
        "joints_crop": np.zeros((21, 2), np.float32),
        "has_joints_crop": np.zeros(21, np.float32),
        "joints_m": np.zeros((21, 3), np.float32),
        "vertices_m": np.zeros((0, 3), np.float32),
        "rotations": np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        "shape": np.zeros(10, np.float32),
        "mask": np.zeros((size // MASK_STRIDE, size // MASK_STRIDE), np.float32),
        "contact": np.zeros(4, np.float32),
        "has_contact": np.zeros(4, np.float32),
        "presence": 0.0,
        "right": 0.0,
        "taught_mean": np.zeros(0, np.float32),
        "taught_map": np.zeros((0, 1, 1), np.float32),
    }


def _small_mask(mask: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """(S/8, S/8) float32: how much of each cell of the crop is hand."""
    whole = cv2.warpAffine(mask, affine, (size, size), flags=cv2.INTER_LINEAR)
    cells = cv2.resize(whole, (size // MASK_STRIDE, size // MASK_STRIDE), interpolation=cv2.INTER_AREA)
    return cells.astype(np.float32) / 255


def _metric_labels(item: HandSample, box: Box, mirror: bool) -> dict[str, Any]:
    """Joints and rotations turned into the crop's own view, of a right hand."""
    upright = Camera(1.0, 1.0, *box.centre_px, 0, 0)  # an unknown camera is taken to look at the box
    view = crop.view_rotation(item.camera or upright, box).astype(np.float32)

    def seen(points_m: np.ndarray) -> np.ndarray:
        points = ((points_m - item.joints_m[skeleton.ROOT]) @ view).astype(np.float32)
        return geometry.mirror_points_m(points) if mirror else points

    labels: dict[str, Any] = {"joints_m": seen(item.joints_m), "has_joints_m": float(not item.weak_3d)}
    if item.weak_3d and item.rotations is None:  # fitted parameters stand for what they were fitted to
        labels["has_weak_3d"] = 1.0
    if not item.weak_3d:
        labels |= dict(zip(("contact", "has_contact"), contacts(item.joints_m), strict=True))
    if item.vertices_m is not None:
        labels |= {"vertices_m": seen(item.vertices_m), "has_vertices": 1.0}
    if item.rotations is not None:
        rotations = item.rotations.astype(np.float32).copy()
        rotations[0] = view.T @ rotations[0]
        rotations = geometry.mirror_rotations(rotations) if mirror else rotations
        labels |= {"rotations": rotations, "shape": item.shape, "has_parameters": 1.0}
    return labels


def collate(samples: Sequence[CropSample]) -> Batch:
    """Stack crops into a batch of tensors; without vertices in any of them the batch's are (B, 0, 3), and so on."""
    columns = dict(zip(CropSample._fields, zip(*samples, strict=True), strict=True))
    for name in ("vertices_m", "taught_mean", "taught_map"):
        most = max(columns[name], key=len)
        columns[name] = [values if len(values) else np.zeros_like(most) for values in columns[name]]
    tensors = {name: torch.from_numpy(np.stack([np.asarray(v) for v in column])) for name, column in columns.items()}
    return Batch(tensors.pop("image"), **{name: tensor.float() for name, tensor in tensors.items()})


def mirrored(item: HandSample) -> HandSample:
    """The item as a mirror shows it: image, mask, camera and labels flipped, the hand the other side's."""
    last = item.image.shape[1] - 1  # the column that column 0 becomes
    (x, y), camera = item.box.centre_px, item.camera
    return HandSample(
        image=np.ascontiguousarray(item.image[:, ::-1]),
        box=Box((last - x, y), item.box.size_px, -item.box.angle_rad),
        joints_px=None if item.joints_px is None else item.joints_px * (-1, 1) + (last, 0),
        side=OTHER_SIDE[item.side],
        side_known=item.side_known,
        joints_m=None if item.joints_m is None else geometry.mirror_points_m(item.joints_m),
        rotations=None if item.rotations is None else geometry.mirror_rotations(item.rotations),
        shape=item.shape,
        camera=None if camera is None else replace(camera, cx=last - camera.cx),
        vertices_m=None if item.vertices_m is None else geometry.mirror_points_m(item.vertices_m),
        mask=None if item.mask is None else np.ascontiguousarray(item.mask[:, ::-1]),
        weak_3d=item.weak_3d,
    )
