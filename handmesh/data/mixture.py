"""The sources that a training mixes: shards, labelled photographs, cutouts, hard negatives, backgrounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import tyro
from rich.progress import track
from scipy.spatial.transform import Rotation

from handmesh import crop, geometry
from handmesh.console import warn
from handmesh.data.cutouts import LIST_FILE as CUTOUT_FILE
from handmesh.data.cutouts import Cutout, CutoutHand, CutoutSet, mirrored_beside
from handmesh.data.detection import Scene, SceneSource, Size
from handmesh.data.freihand import CropProtocol, FreihandSource, crop_box, read_freihand
from handmesh.data.loader import Changing, MixConfig, Source
from handmesh.data.photos import (
    CONTEXT,
    CONTEXT_PX,
    LABEL_FILE,
    Context,
    Fit,
    Key,
    LabelledHand,
    Photo,
    Split,
    contexts_of,
    list_images,
    read_accepted,
    read_photos,
    with_fits,
)
from handmesh.data.remote import Stream
from handmesh.data.samples import HandSample, are_parameters_of
from handmesh.data.sets import read_set
from handmesh.data.sets.table import TableSource
from handmesh.data.shards import PhotoShard, ShardSet, read_shard_files, read_shards
from handmesh.data.teacher import TaughtSource, open_landmark_teacher, read_banks, write_bank
from handmesh.detection import Detection
from handmesh.files import parsed_json, read_image, write_image, write_json
from handmesh.hand.model import HandModel
from handmesh.types import Box

# Candidates that a detector takes for hands and that are none: what teaches the mesh network to say no.
#
# A folder of them holds JPEG files, each the surroundings of one region, and `hard_negatives.json`, a list of
# `{file, size_px, angle_rad, score}`: the region is a box around the middle of its file.


LIST_FILE = "hard_negatives.json"
_CONTEXT = 2.6  # of the region's box: room for the training's own rotations and shifts
_CONTEXT_PX = 200


class HardNegative(NamedTuple):
    """A region that is no hand, in the middle of its surroundings."""

    image: np.ndarray  # (S, S, 3) uint8 RGB
    box: Box
    score: float  # the detector's


def mine(
    source: SceneSource, size: Size, count: int, detect: Callable[[np.ndarray], Sequence[Detection]], seed: int
) -> Iterator[list[HardNegative]]:
    """For each of `count` scenes drawn from `source`, what `detect` sees there where no hand is or may be."""
    for k in range(count):
        scene = source.draw(size, np.random.default_rng([seed, k]))
        found = [hand for hand in detect(scene.image) if _is_false(hand.box, scene)]
        yield [_cut(scene.image, hand) for hand in found]


def _is_false(box: Box, scene: Scene) -> bool:
    """Whether the box lies clear of every hand, even a hidden one, and of places that may hold one."""
    centre = np.array(box.centre_px)
    for hand in scene.hands:
        if np.linalg.norm(hand.joints_px - centre, axis=1).min() < 0.5 * box.size_px + 0.1 * hand.box.size_px:
            return False
    return all(cv2.pointPolygonTest(p.astype(np.float32), box.centre_px, False) < 0 for p in scene.unsure)


def _cut(image: np.ndarray, found: Detection) -> HardNegative:
    around = Box(found.box.centre_px, found.box.size_px * _CONTEXT)
    surroundings = crop.warp(image, crop.crop_affine(around, _CONTEXT_PX), _CONTEXT_PX)
    middle = (_CONTEXT_PX - 1) / 2
    return HardNegative(surroundings, Box((middle, middle), _CONTEXT_PX / _CONTEXT, found.box.angle_rad), found.score)


def write_hard_negatives(folder: Path, positions: Iterable[HardNegative]) -> int:
    """Write regions and their list to `folder`; gives their number. An existing list is replaced last."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for k, position in enumerate(positions):
        file = f"{k:06d}.jpg"
        write_image(folder / file, position.image, jpeg_quality=92)
        numbers = {"size_px": position.box.size_px, "angle_rad": position.box.angle_rad, "score": position.score}
        entries.append({"file": file} | {name: round(value, 4) for name, value in numbers.items()})
    write_json(folder / LIST_FILE, entries, indent=None)
    return len(entries)


class HardNegativeSource:
    """Mined regions, for the mesh network's training; see `loader.Source`."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where `folder` holds none."""
        path = folder / LIST_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {LIST_FILE} in {folder}: write one with `handmesh data hard-negatives`")
        self.folder, self.entries = folder, parsed_json(path.read_bytes(), path)

    def __len__(self) -> int:
        return len(self.entries)

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> HandSample:
        entry = self.entries[i]
        image = read_image(self.folder / entry["file"])
        middle = (image.shape[1] - 1) / 2
        return HandSample(image, Box((middle, middle), entry["size_px"], entry["angle_rad"]))


# Where training crops are drawn from: shards, labelled photographs, cutouts, and images without hands.


class Mixed(NamedTuple):
    """A source with its part in a mixture."""

    name: str  # what the config calls it: `photos/people`, `freihand`
    fraction: float  # of the crops, before all are made to sum to 1
    source: Source | Changing


def sources_of(
    mix: MixConfig, hand: HandModel, box_scale: float, masks: bool = False, seed: int = 0
) -> list[tuple[float, Source | Changing]]:
    """(fraction, source) for everything that `mix` names; see `mixed_sources`."""
    return [(mixed.fraction, mixed.source) for mixed in mixed_sources(mix, hand, box_scale, masks, seed)]


def mixed_sources(mix: MixConfig, hand: HandModel, box_scale: float, masks: bool = False, seed: int = 0) -> list[Mixed]:
    """Everything that `mix` names; photographs share by their number.

    hand and box_scale: those that are trained with. masks: whether masks are labels too. seed: of the order
    in which streamed shards come.
    """
    banks = {bank.info["source"]: bank for bank in read_banks(mix.taught)}
    named = (*mix.shards, *mix.photos, *mix.stretched_photos, *mix.cutouts, *mix.hard_negatives)
    if unknown := banks.keys() - {bank_name(folder) for folder in named}:
        raise ValueError(f"data.taught: a bank is of {min(unknown)}, which the data does not name")

    def taught(root: Path, source: Source) -> tuple[str, Source]:
        name = bank_name(root)
        return name, (TaughtSource(source, banks[name], mix.taught_fraction) if name in banks else source)

    found = _synthetic_sources(mix, hand, masks, seed, taught)
    found += [
        Mixed(name, of.fraction, TableSource(read_set(name, of.root, of.split), hand, masks))
        for name, of in mix.sets.items()
        if of.root
    ]
    freihand = None
    if mix.freihand:
        freihand = FreihandSource(read_freihand(mix.freihand, "training", mix.freihand_versions), hand, masks)
        boxed = WithCropProtocol(freihand, mix.freihand_boxes, box_scale)
        found.append(Mixed("freihand", mix.freihand_fraction, boxed))
    fits = _fits(mix, hand)
    photos = [with_fits(read_photos(root, "train"), fits) for root in mix.photos]
    labelled = [taught(root, PhotoSource(group)) for root, group in zip(mix.photos, photos, strict=True)]
    labelled += [taught(root, PhotoSource(read_photos(root, "train"), flat=True)) for root in mix.stretched_photos]
    if mix.stream.photos:
        stream = Stream(mix.stream.photos, mix.stream, partial(_open_photos, hand=hand), seed)
        labelled.append(("stream/photos", stream))
    cutouts = [CutoutSource(CutoutSet(root), mix.backgrounds, fits, mix.mirrored) for root in mix.cutouts]
    labelled += [taught(root, source) for root, source in zip(mix.cutouts, cutouts, strict=True)]
    taken = sum(mixed.fraction for mixed in found) + mix.background_fraction
    fraction = max(0.0, 1.0 - taken) / max(1, len(labelled))
    found += [Mixed(name, fraction, source) for name, source in labelled]
    return found + _handless_sources(mix, photos, freihand, taught)


Named = Callable[[Path, Source], tuple[str, Source]]
"""From a folder and its source to what it is called and, where a teacher saw the folder, the source with that."""


def _handless_sources(
    mix: MixConfig, photos: Sequence[Sequence[Photo]], freihand: FreihandSource | None, taught: Named
) -> list[Mixed]:
    """Images without hands, and parts without any of those with hands; mined regions have half where there are some."""
    empty: list[tuple[str, Source]] = []
    for folder in mix.backgrounds:
        if freihand and not folder.is_dir():
            warn(f"there is no folder {folder}: of images without hands, only FreiHAND's own surroundings are seen")
            continue
        empty.append((bank_name(folder), BackgroundSource(folder)))
    for root, group in zip(mix.photos, photos, strict=True):
        if any(len(photo.hands) >= 2 for photo in group):
            empty.append((f"beside {bank_name(root)}", NegativeSource(group)))
    if freihand:
        empty.append(("beside freihand", BesideHands(freihand)))
    mined = [taught(folder, HardNegativeSource(folder)) for folder in mix.hard_negatives]
    fraction = mix.background_fraction / 2 if empty and mined else mix.background_fraction
    groups = [group for group in (empty, mined) if group]
    return [Mixed(name, fraction / len(group), source) for group in groups for name, source in group]


def bank_name(root: Path) -> str:
    """What a data set is called in the bank of a teacher's features of it: `photos/people`, `cutouts/people`."""
    return "/".join(root.parts[-2:])


def _fits(mix: MixConfig, hand: HandModel) -> dict[Key, Fit]:
    fits = read_accepted(mix.fits)
    if fits and not _are_fits_of(hand, list(fits.values())):
        raise ValueError("data.fits are of another hand than the one trained with: leave them out, or fit it anew")
    return fits


def _are_fits_of(hand: HandModel, fits: Sequence[Fit]) -> bool:
    rotations, shape, joints_m = (
        np.array([getattr(fit, name) for fit in fits]) for name in ("rotations", "shape", "joints_m")
    )
    return are_parameters_of(hand, rotations, shape, joints_m)


def _synthetic_sources(mix: MixConfig, hand: HandModel, masks: bool, seed: int, taught: Named) -> list[Mixed]:
    """Local folders and the stream share by their numbers of samples; a streamed shard counts as a mean local one."""
    sets = [read_shards(folder) for folder in mix.shards]
    sized = [
        Mixed(name, len(shards), source)
        for folder, shards in zip(mix.shards, sets, strict=True)
        for name, source in [taught(folder, ShardSource(shards, hand, masks))]
    ]
    if mix.stream.shards:
        stream = Stream(mix.stream.shards, mix.stream, partial(open_synthetic, hand=hand, masks=masks), seed)
        mean = sum(map(len, sets)) / max(1, sum(len(shards.files) for shards in sets)) or 1
        sized.append(Mixed("stream/shards", len(stream.shards) * mean, stream))
    total = sum(mixed.fraction for mixed in sized)
    return [mixed._replace(fraction=mix.synthetic_fraction * mixed.fraction / total) for mixed in sized]


def open_synthetic(file: Path, hand: HandModel, masks: bool) -> ShardSource:
    return ShardSource(read_shard_files([file]).hold(), hand, masks)


def _open_photos(file: Path, hand: HandModel) -> ContextSource:
    shard = PhotoShard(file)
    fits = [fit for fit in (hand.fit for hand in shard.hands()) if fit]
    return ContextSource(shard, fitted=not fits or _are_fits_of(hand, fits))


class ShardSource:
    """Synthetic right hands with exact labels; their parameters where they are those of the hand trained with."""

    def __init__(self, shards: ShardSet, hand: HandModel | None, masks: bool = False) -> None:
        """hand: the model that is trained; without one, parameters are no labels."""
        self.shards, self.masks = shards, masks
        rotations = Rotation.from_rotvec(shards.pose.reshape(-1, 3)).as_matrix().astype(np.float32)
        rotations = rotations.reshape(-1, 16, 3, 3)
        known = hand is not None and are_parameters_of(hand, rotations, shards.shape, shards.joints_m)
        self.rotations = rotations if known else None

    def __len__(self) -> int:
        return len(self.shards)

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> HandSample:
        shards = self.shards
        item = HandSample(
            shards.decode(i), Box.around(shards.joints_px[i]), shards.joints_px[i], "right", shards.joints_m[i],
            camera=shards.camera_of(i), mask=shards.mask(i) if self.masks else None, other=self._other(i),
        )  # fmt: skip
        return item if self.rotations is None else item._replace(rotations=self.rotations[i], shape=shards.shape[i])

    def _other(self, i: int) -> Box | None:
        """Of sample `i`: the box of the left hand that its image shows beside the right one."""
        joints_px = self.shards.other_px[i]
        return Box.around(joints_px) if self.shards.other_left[i] and np.isfinite(joints_px).all() else None


class WithCropProtocol:
    """A source whose hands are boxed as a crop protocol says; see `data.freihand`."""

    def __init__(self, source: FreihandSource, boxes: CropProtocol | Literal["rotated"], box_scale: float) -> None:
        self.source, self.boxes, self.box_scale = source, boxes, box_scale

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self._with_crop_protocol(self.source.draw(rng))

    def __getitem__(self, i: int) -> HandSample:
        return self._with_crop_protocol(self.source[i])

    def _with_crop_protocol(self, item: HandSample) -> HandSample:
        if self.boxes == "rotated":
            return item
        height, width = item.image.shape[:2]
        whole = crop_box(self.boxes, item.joints_px, width, height, self.box_scale)
        return item._replace(box=whole.scaled(1 / self.box_scale))


class ContextSource:
    """Labelled hands of photographs, each a compressed image of its surroundings."""

    def __init__(self, items: Sequence[Context], flat: bool = False, fitted: bool = True) -> None:
        """flat: leave out what labels say of space. fitted: learn from the hands' fits, where they have some."""
        self.items, self.flat, self.fitted = items, flat, fitted

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> HandSample:
        context = self.items[i]
        item = _of_photograph(context.image(), context.hand, context.hand.fit if self.fitted else None)
        return item._replace(joints_m=None, rotations=None, shape=None) if self.flat else item


def _of_photograph(image: np.ndarray, hand: LabelledHand | CutoutHand, fit: Fit | None) -> HandSample:
    """A labelled hand with its weak 3D joints or, where it was fitted, with what the fit says."""
    item = HandSample(image, Box.around(hand.joints_px), hand.joints_px, hand.side, hand.joints_m, weak_3d=True)
    if fit is None:
        return item
    return item._replace(joints_m=fit.joints_m, rotations=fit.rotations, shape=fit.shape, camera=fit.camera)


class PhotoSource(ContextSource):
    """The usable hands of photographs, in memory."""

    def __init__(self, photos: Sequence[Photo], flat: bool = False) -> None:
        super().__init__([context for photo in photos for context in contexts_of(photo)], flat)
        if not self.items:
            raise ValueError("no usable labelled hand in the photographs (all too small, cut off or of low score)")


class CutoutSource:
    """Hands cut out of photographs, each pasted anew onto a part of an image without hands.

    As a sequence it holds each of them VERSIONS times, always pasted alike, for a teacher to see.
    """

    VERSIONS = 4

    def __init__(
        self, cutouts: CutoutSet, backgrounds: Sequence[Path], fits: Mapping[Key, Fit] | None = None,
        mirrored: float = 0.0,
    ) -> None:  # fmt: skip
        """mirrored: the fraction of what is drawn that lies beside its own mirror image, as its owner's other hand."""
        self.cutouts, self.fits, self.mirrored = cutouts, fits or {}, mirrored
        self.paths = [path for folder in backgrounds for path in list_images(folder, "train")]
        if not self.paths:
            raise ValueError("cutouts need something to lie on: name folders of images in data.backgrounds")

    def __len__(self) -> int:
        return self.VERSIONS * len(self.cutouts)

    def __getitem__(self, i: int) -> HandSample:
        return self._pasted(self.cutouts[i % len(self.cutouts)], np.random.default_rng([i, len(self)]))

    def draw(self, rng: np.random.Generator) -> HandSample:
        return self._pasted(self.cutouts[int(rng.integers(len(self.cutouts)))], rng, rng.random() < self.mirrored)

    def _pasted(self, cutout: Cutout, rng: np.random.Generator, mirrored: bool = False) -> HandSample:
        """mirrored: the owner's other hand lies beside it, in front or behind, as its mirror image."""
        hand = cutout.hands[0]
        box = Box(Box.around(hand.joints_px).centre_px, Box.around(hand.joints_px, rotation=False).size_px * CONTEXT)
        affine = crop.crop_affine(box, CONTEXT_PX)
        joints_px = geometry.apply_affine(affine, hand.joints_px).astype(np.float32)
        affines, other = [affine], None
        if mirrored:
            beside = mirrored_beside(affine, hand, rng)
            affines.insert(int(rng.integers(2)), beside)
            other = Box.around(geometry.apply_affine(beside, hand.joints_px))
        image = _paste(cutout.rgba, affines, self._background(rng), rng)
        sample = _of_photograph(image, replace(hand, joints_px=joints_px), self._fit(hand, affine))
        return sample._replace(other=other)

    def _fit(self, hand: CutoutHand, affine: np.ndarray) -> Fit | None:
        """The fit of the photograph's hand, moved to where the cutout is pasted."""
        fit = hand.origin and self.fits.get((hand.origin.photo, hand.origin.index))
        return fit and fit.moved(hand.origin.affine).moved(affine)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        image = read_image(self.paths[int(rng.integers(len(self.paths)))])
        box = _any_box(image, rng).scaled(1.5)
        return crop.warp(image, crop.crop_affine(box, CONTEXT_PX), CONTEXT_PX)


def _paste(rgba: np.ndarray, affines: Sequence[np.ndarray], ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cutout in other light over an image of the same size as the result, once for each (2, 3) affine."""
    light = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3)).astype(np.float32)
    for affine in affines:
        cover = cv2.warpAffine(rgba, affine, ground.shape[1::-1], flags=cv2.INTER_LINEAR)  # outside, the alpha is 0
        alpha = cover[..., 3:].astype(np.float32) / 255
        ground = ground * (1 - alpha) + np.clip(cover[..., :3] * light, 0, 255) * alpha
    return np.round(ground).astype(np.uint8)


class BackgroundSource:
    """Boxes anywhere in images without hands."""

    def __init__(self, folder: Path | str, split: Split = "train") -> None:
        self.paths = list_images(folder, split)

    def draw(self, rng: np.random.Generator) -> HandSample:
        image = read_image(self.paths[int(rng.integers(len(self.paths)))])
        return HandSample(image, _any_box(image, rng))


class NegativeSource:
    """Boxes beside the two labelled hands of one person: faces, arms, clothes."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.photos = [photo for photo in photos if len(photo.hands) >= 2]

    def draw(self, rng: np.random.Generator) -> HandSample:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        image = photo.load()
        for _ in range(20):
            box = _any_box(image, rng)
            if not any(_near(box, hand.box()) for hand in photo.hands):
                return HandSample(image, box)
        return HandSample(image, Box((0.0, 0.0), 16.0))


class BesideHands:
    """Upright boxes beside the hand in FreiHAND's images: arms, objects, other ground."""

    SIZE = (0.12, 0.35)
    """Least and largest side of a tight box, of the image's."""

    def __init__(self, hands: FreihandSource) -> None:
        self.hands = hands

    def draw(self, rng: np.random.Generator) -> HandSample:
        item = self.hands.draw(rng)
        height, width = item.image.shape[:2]
        hand = Box.around(item.joints_px, rotation=False)
        for _ in range(40):
            size = float(rng.uniform(*self.SIZE)) * min(height, width)
            centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
            apart = max(abs(a - b) for a, b in zip(centre, hand.centre_px, strict=True))
            if apart > 0.75 * size + 0.6 * hand.size_px:  # its crop ends where the hand's box with a margin begins
                return HandSample(item.image, Box(centre, size))
        return HandSample(item.image, Box((0.0, 0.0), 0.1 * min(height, width)))


def _any_box(image: np.ndarray, rng: np.random.Generator) -> Box:
    """A tight box as a hand might have, anywhere in the image, at any turn."""
    height, width = image.shape[:2]
    size = math.exp(rng.uniform(math.log(0.08), math.log(0.7))) * min(height, width)
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    return Box(centre, size, float(rng.uniform(-math.pi, math.pi)))


def _near(box: Box, other: Box) -> bool:
    distance = math.dist(box.centre_px, other.centre_px)
    return distance < 0.75 * (box.size_px + other.size_px)


# `handmesh data cache-teacher`: what a teacher sees in the crops of a data set.


@dataclass(frozen=True)
class TeacherOptions:
    """Cache what a teacher sees in crops.

    Its mean feature and its last map are matched in training (data.taught); it is never needed afterwards.
    """

    teacher: tyro.conf.Positional[Path]
    """A hand landmark network as .onnx that takes (n, 3, 224, 224) RGB between 0 and 1, such as MediaPipe's
    hand_landmark_full (Apache-2.0) converted."""
    data: tyro.conf.Positional[Path]
    """Folder with shard-*.tar, pseudo_labels.json (the training split is taken), hard_negatives.json or cutouts."""
    output: Path
    """Folder of the bank."""
    views: int = 1
    """Views of each sample: some 4 of photographs, 1 of the many synthetic images."""
    box_scale: float = 1.5
    """Side of the student's crop over the side of the hand's tight box, as in the training's config."""
    limit: int | None = None
    """Take the first so many samples. Default: all."""
    backgrounds: tuple[Path, ...] = ()
    """What cutouts are pasted onto: the same folders as the training's data.backgrounds."""


def cache_teacher(options: TeacherOptions) -> None:
    """Write the bank that the options ask for, and say how many views it has."""
    name = bank_name(options.data)
    if (options.data / LABEL_FILE).is_file():
        source = PhotoSource(read_photos(options.data, "train"))
    elif (options.data / LIST_FILE).is_file():
        source = HardNegativeSource(options.data)
    elif (options.data / CUTOUT_FILE).is_file():
        source = CutoutSource(CutoutSet(options.data), options.backgrounds)
    else:
        source = ShardSource(read_shards(options.data), None)
    rows = write_bank(
        options.output, source, name, open_landmark_teacher(options.teacher), options.box_scale, options.views,
        options.limit, lambda samples: track(samples, f"teacher sees {name}"),
    )  # fmt: skip
    print(f"{options.output}: {rows} views of {name}")
