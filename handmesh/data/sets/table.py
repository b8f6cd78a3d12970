"""One table for the labels of every research data set, whatever its files look like, and samples drawn from it.

Whatever differs between data sets is gone in a `HandTable`: joints are in keypoint order, metres and the camera's frame
(x right, y down, z forward), a left hand is a left hand with its own labels, and what a set does not say is NaN. A
reader turns a set's files into one; `TableSource` gives its hands to training.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.spatial.transform import Rotation

from handmesh import geometry, skeleton
from handmesh.data.cache import cache_folders, stamp_of, tidy, writable
from handmesh.data.samples import HandSample, are_parameters_of
from handmesh.files import ImageError, read_quickly, write_npz
from handmesh.hand.model import HandModel, PoseCoding
from handmesh.types import Box, Camera, Side


class SetError(ValueError):
    """A data set's folder that is damaged, incomplete or something else; the message says what to do."""


def check_numbers(path: Path, labels: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise SetError where what a file holds under the names of `shapes` has another shape or is not finite."""
    for name, shape in shapes.items():
        if labels[name].shape != shape or not np.isfinite(labels[name]).all():
            raise SetError(f"{path}: {name} must be {shape} finite numbers, got {labels[name].shape}")


# Conventions by name, and what handmesh makes of them.


JOINT_ORDERS: dict[str, tuple[str, ...]] = {
    "keypoints": skeleton.KEYPOINTS,
    "mano": skeleton.MANO_WITH_TIPS,
    "tips-first": ("wrist", *(f"{finger}{k}" for finger in skeleton.FINGERS for k in (4, 3, 2, 1))),
    "interhand": (*(f"{finger}{k}" for finger in skeleton.FINGERS for k in (4, 3, 2, 1)), "wrist"),
}
"""The names of 21 joints in the orders that data sets have them. `keypoints`: FreiHAND, DexYCB, COCO-WholeBody,
OpenPose; `mano`: HO-3D; `tips-first`: the Rendered Hand Pose set; `interhand`: each hand of InterHand2.6M."""

OPENGL_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
"""From a frame with y up and z towards the viewer (OpenGL) to the camera's, y down and z forward (OpenCV); its own
inverse."""


def keypoints_from(points: np.ndarray, order: str) -> np.ndarray:
    """(..., 21, D) points in the order `JOINT_ORDERS[order]`, put into keypoint order."""
    names = JOINT_ORDERS[order]
    return points[..., [names.index(name) for name in skeleton.KEYPOINTS], :]


def keypoints_to(points: np.ndarray, order: str) -> np.ndarray:
    """(..., 21, D) points in keypoint order, put into the order `JOINT_ORDERS[order]`."""
    return points[..., [skeleton.KEYPOINTS.index(name) for name in JOINT_ORDERS[order]], :]


def turned_pose(pose: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(N, 48) pose numbers of hands that are turned by (3, 3) or (N, 3, 3) `rotation`: their first three are."""
    whole = Rotation.from_matrix(rotation) * Rotation.from_rotvec(pose[:, :3])
    return np.concatenate([whole.as_rotvec(), pose[:, 3:]], axis=1)


def mirrored_pose(pose: np.ndarray, coding: PoseCoding) -> np.ndarray:
    """(N, 48) pose numbers of left hands to those of the right hands in the mirror, and back.

    An axis-angle (x, y, z) becomes (x, -y, -z). Coefficients of the components stay: those of MANO_LEFT are taken to be
    the mirrored ones of MANO_RIGHT (`are_parameters_of` finds out).
    """
    mirrored = pose * np.tile([1.0, -1.0, -1.0], 16)
    return np.concatenate([mirrored[:, :3], pose[:, 3:]], axis=1) if coding == "pca" else mirrored


# The table.


@dataclass(frozen=True, eq=False)
class HandTable:
    """N labelled hands of one split of a data set. May be handed to worker processes.

    Positions are in the camera's frame, in metres; joints are in keypoint order. NaN stands for what is not labelled.
    Texts are bytes, which take a quarter of the room.
    """

    name: str  # of the set and the split, for people
    root: Path
    images: np.ndarray  # (N,) bytes: files below the root
    left: np.ndarray  # (N,) bool: whether it is a left hand
    joints_px: np.ndarray  # (N, 21, 2) float32
    joints_m: np.ndarray  # (N, 21, 3) float32
    camera: np.ndarray  # (N, 6) float32: fx, fy, cx, cy, width, height
    ids: np.ndarray | None = None  # (N,) int64: the set's own numbers of the samples
    sequence: np.ndarray | None = None  # (N,) bytes: what a sample was recorded with; a fair split does not cut one
    visible: np.ndarray | None = None  # (N, 21) bool: labelled and not hidden; None: the set does not say
    box: np.ndarray | None = None  # (N, 4) float32: left, top, right, bottom in pixels, where the set gives it
    pose: np.ndarray | None = None  # (N, 48) float32 MANO's pose numbers, of a left hand MANO_LEFT's
    coding: PoseCoding = "absolute"  # of `pose`
    shape: np.ndarray | None = None  # (N, 10) float32 MANO's shape
    masks: np.ndarray | None = None  # (N,) bytes: files below the root
    sides: bool = True  # whether the set says which hand it is; where it does not, `left` means nothing
    read_mask: Callable[[Path, Side], np.ndarray] | None = None  # gives (H, W) uint8, 255 on the hand of that side

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, chosen: np.ndarray) -> HandTable:
        """The same table with some of its rows: indices, or (N,) bool."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value[chosen] for name, value in columns.items() if isinstance(value, np.ndarray)}
        return HandTable(**columns | arrays)

    def image_path(self, i: int) -> Path:
        """The file of the image of hand `i`."""
        return self.root / self.images[i].decode()

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB; SetError where the file is missing or damaged."""
        try:
            return read_quickly(self.image_path(i))
        except ImageError as error:
            raise SetError(f"{error}: unpack {self.name} again") from None

    def mask(self, i: int) -> np.ndarray | None:
        """(H, W) uint8, 255 on the hand; None where there is none."""
        if self.masks is None or self.read_mask is None or not self.masks[i]:
            return None
        return self.read_mask(self.root / self.masks[i].decode(), self.side(i))

    def side(self, i: int) -> Side:
        """Which hand it is, of its owner."""
        return "left" if self.left[i] else "right"

    def camera_of(self, i: int) -> Camera | None:
        """The camera of the image of hand `i`; None where it is unknown."""
        fx, fy, cx, cy, width, height = self.camera[i].tolist()
        return None if np.isnan(fx) else Camera(fx, fy, cx, cy, int(width), int(height))

    def box_of(self, i: int) -> Box:
        """The tight box: turned around all 21 joints where they are labelled, else upright around those that are, or
        around the set's own box."""
        joints_px = self.joints_px[i]
        labelled = np.isfinite(joints_px).all(-1)
        if labelled.all():
            return Box.around(joints_px)
        if self.box is not None and np.isfinite(self.box[i]).all():
            joints_px, labelled = self.box[i].reshape(2, 2), slice(None)
        return Box.around(joints_px[labelled], rotation=False)


def rotations_of(table: HandTable, hand: HandModel) -> np.ndarray | None:
    """(N, 16, 3, 3) float32 rotations relative to the parent, as `HandSample` has them; None where the table has no
    pose."""
    if table.pose is None or table.shape is None:
        return None
    left = table.left[:, None]
    as_right = np.where(left, mirrored_pose(table.pose, table.coding), table.pose)
    rotations = hand.rotations_from(as_right, table.coding)
    return np.where(left[..., None, None], geometry.mirror_rotations(rotations), rotations)


class TableSource:
    """Hands of a `HandTable`, to be drawn for training or taken in order; see `loader.Source`."""

    def __init__(self, table: HandTable, hand: HandModel | None, masks: bool = False) -> None:
        """hand: the model that is trained; without one, or where the set's parameters are another's, only joints are
        labels. masks: whether to read these, too.

        Raises SetError for a table without hands.
        """
        if not len(table):
            raise SetError(f"{table.name} in {table.root} has no labelled hands: choose another split")
        self.table, self.masks = table, masks
        self.rotations, self.known = None, np.zeros(len(table), bool)
        self.has_3d = np.isfinite(table.joints_m).all((1, 2))
        rotations = None if hand is None else rotations_of(table, hand)
        if rotations is not None:
            for side in (table.left, ~table.left):
                rows = np.flatnonzero(side & self.has_3d & np.isfinite(table.pose).all(1))
                of = (values[rows] for values in (rotations, table.shape, table.joints_m, table.left))
                self.known[rows] = are_parameters_of(hand, *of)
            self.rotations = rotations if self.known.any() else None

    def __len__(self) -> int:
        return len(self.table)

    def draw(self, rng: np.random.Generator) -> HandSample:
        """One of the hands, each as likely as any other."""
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> HandSample:
        table = self.table
        known = self.rotations is not None and self.known[i]
        return HandSample(
            image=table.image(i),
            box=table.box_of(i),
            joints_px=table.joints_px[i],
            side=table.side(i),
            side_known=table.sides,
            joints_m=table.joints_m[i] if self.has_3d[i] else None,
            rotations=self.rotations[i] if known else None,
            shape=table.shape[i] if known else None,
            camera=table.camera_of(i),
            mask=table.mask(i) if self.masks else None,
        )


# Reading a set's files once.


Item = TypeVar("Item")


@dataclass(frozen=True)
class HandSet:
    """What there is to say of a data set, and how its files are read."""

    title: str
    page: str  # where to register and download
    licence: str
    labels: str  # what is labelled, for people
    splits: tuple[str, ...]  # the first is the one to train with
    layout: str  # what its folder holds, for people
    read: Callable[[Path, str], HandTable]  # raises SetError
    trains: bool = True  # False: it is there to measure with

    def help(self) -> str:
        """Where to get it, on what terms."""
        return f"{self.title} is to be had at {self.page} ({self.licence}); its folder holds {self.layout}"


def cached_table(
    table: Callable[..., HandTable], root: Path, name: str, sources: Iterable[Path], parse: Callable[[], dict]
) -> HandTable:
    """The table of `parse()`'s columns, which is called once for the same `sources`, files and folders below `root`.

    table: makes the table of the columns. name: of the cached file. The columns are kept as .npz in `handmesh_cache`
    in the root or, where that cannot be written, in the user's cache folder.
    """
    file = f"{name}.{_CACHE_VERSION}-{stamp_of(sources)}.npz"
    folders = cache_folders(root)
    for folder in folders:
        columns = _load(folder / file)
        if columns is not None:
            return table(**columns)
    columns = parse()
    cached = writable(folders) / file
    write_npz(cached, **columns)
    tidy(cached, name)
    return table(**columns)


_CACHE_VERSION = 1


def _load(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # not there, or damaged: it is made again
        return None


def with_bar(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a bar that goes on where somebody looks at a terminal."""
    console = Console(stderr=True)
    return track(items, f"reading {what}, once", console=console, transient=True, disable=not console.is_terminal)
