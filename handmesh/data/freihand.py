"""The FreiHAND data set (Zimmermann et al., ICCV 2019): its lists, images and crop protocols, and samples for
training.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, get_args

import cv2
import numpy as np
import rich.progress
from rich.console import Console

from handmesh.data.cache import cache_folders, tidy, writable
from handmesh.data.samples import HandSample, are_parameters_of
from handmesh.files import ImageError, atomic_write, read_image
from handmesh.geometry import project
from handmesh.hand.model import HandModel
from handmesh.types import Box, Camera

# FreiHAND's lists of labels as arrays: JSON read row by row, once, and kept in a cache.
#
# The list of vertices is 1.6 GB of text, so no list is ever held as Python objects as a whole. A
# cached list is an .npy file whose name carries the size and the time of the list it was made of: a
# list that was replaced is read anew, and a reader never sees half a file.


LISTS: dict[str, tuple[int | None, ...]] = {
    "K": (3, 3),
    "scale": (),
    "xyz": (21, 3),
    "verts": (None, 3),
    "mano": (61,),
}
"""Each list and the shape of one of its rows; None: any number, the same in each row."""

_CACHE_VERSION = 1
CHUNK = 1 << 24
_AFTER_ROW = re.compile(r"\s*([,\]])\s*")


class FreihandError(ValueError):
    """A FreiHAND folder that is damaged, incomplete or something else; the message says what to do."""


def load_list(path: Path, name: str, progress: bool = True) -> np.ndarray:
    """(N, ...) float32, memory-mapped: the list at `path`, whose rows have the shape `LISTS[name]`.

    The first reading parses it (35 s for the 1.6 GB of vertices) and writes the cache,
    in `handmesh_cache` beside the list or, where that cannot be written, in the user's cache
    folder. Raises FreihandError where the list is truncated or not of its kind.
    """
    stat = path.stat()
    file = f"{path.stem}.{_CACHE_VERSION}-{stat.st_size}-{stat.st_mtime_ns}.npy"
    folders = cache_folders(path.parent)
    for folder in folders:
        array = _load(folder / file)
        if array is not None:
            return array
    cached = writable(folders) / file
    _write(cached, parsed_rows(path, name, progress))
    tidy(cached, path.stem)
    return np.load(cached, mmap_mode="r")


def _load(cached: Path) -> np.ndarray | None:
    try:
        return np.load(cached, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or damaged: it is made again
        return None


def _write(path: Path, rows: Iterator[np.ndarray]) -> None:
    """Write the rows as one array, in one step: an error or a kill leaves no half file of that name."""
    with atomic_write(path) as part, part.open("wb") as file:
        _write_npy(file, rows)


def _write_npy(file: BinaryIO, rows: Iterator[np.ndarray]) -> None:
    """Write rows of one shape as one array. NumPy leaves room in the header for the count to grow."""
    first = next(rows)
    _write_header(file, 0, first.shape)
    start = file.tell()
    file.write(first.tobytes())
    count = 1
    for row in rows:
        file.write(row.tobytes())
        count += 1
    file.seek(0)
    _write_header(file, count, first.shape)
    assert file.tell() == start, "NumPy's header grew"


def _write_header(file: BinaryIO, count: int, row: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, *row)})


def parsed_rows(path: Path, name: str, progress: bool) -> Iterator[np.ndarray]:
    """The rows of the list at `path`, checked, each float32 of one and the same shape."""
    count, shape = 0, LISTS[name]
    bar = Console(stderr=True)
    try:
        with rich.progress.open(
            path, "r", encoding="utf-8", description=f"reading {path.name}, once",
            console=bar, transient=True, disable=not (progress and bar.is_terminal),
        ) as stream:  # fmt: skip
            for value in read_rows(stream):
                row = _row(value, shape)
                shape = row.shape
                yield row
                count += 1
    except EOFError:
        reason = f"it ends in the middle, after {count} rows: its download or unpacking stopped. Unpack it again"
        raise FreihandError(f"{path}: {reason}") from None
    except (ValueError, TypeError) as error:
        raise FreihandError(f"{path}: row {count}: {error}. Unpack it again") from None


def _row(value: Any, expected: tuple[int | None, ...]) -> np.ndarray:
    row = np.squeeze(np.array(value, np.float32))  # FreiHAND wraps the MANO numbers in a list of one
    fits = row.ndim == len(expected) and all(want in (None, got) for want, got in zip(expected, row.shape, strict=True))
    if not fits or not np.isfinite(row).all():
        wanted = " x ".join("V" if n is None else str(n) for n in expected) or "one"
        raise ValueError(f"expected {wanted} finite numbers, got shape {row.shape}")
    return row


def read_rows(stream: TextIO) -> Iterator[Any]:
    """The elements of the JSON list that `stream` holds, one at a time.

    Raises EOFError where the text ends before the list does, ValueError where it is not a list of
    JSON values.

    >>> import io
    >>> list(read_rows(io.StringIO("[[1, 2], [3, 4.5]]")))
    [[1, 2], [3, 4.5]]
    """
    decode = json.JSONDecoder().raw_decode
    text = stream.read(CHUNK).lstrip()
    if text and text[0] != "[":
        raise ValueError(f"expected a list in JSON, found {text[:20]!r}")
    text, at = text[1:].lstrip(), 0
    while True:
        try:
            row, end = decode(text, at)
            after = _AFTER_ROW.match(text, end)  # a number may go on in the next chunk
        except ValueError:
            after = None
        if after is None:
            text, at = _refill(stream, text[at:]), 0
            continue
        yield row
        at = after.end()
        if after[1] == "]":
            return


def _refill(stream: TextIO, rest: str) -> str:
    """More text behind a row that is not whole. A row longer than a chunk is none."""
    if len(rest) >= CHUNK:
        raise ValueError(f"not JSON: {rest[:40]!r}")
    more = stream.read(CHUNK)
    if not more:
        raise EOFError
    return (rest + more).lstrip()


# The FreiHAND data set (Zimmermann et al., ICCV 2019): its images, its labels, and draws of both for training.
#
# Right hands, metres, the camera's frame. Each row of the training lists belongs to four images
# that differ in background and colours alone: `training/rgb/{row + rows * version:08d}.jpg`.


Version = Literal["gs", "hom", "sample", "auto"]
FreihandSplit = Literal["training", "evaluation"]

VERSIONS: tuple[Version, ...] = get_args(Version)
"""The four versions of each training image, in the order of their ids: green screen, then three recolourings."""

PAGE = "https://lmb.informatik.uni-freiburg.de/projects/freihand/"
ZIP, LABELS_ZIP = "FreiHAND_pub_v2.zip", "FreiHAND_pub_v2_eval.zip"

NEEDED: dict[FreihandSplit, tuple[str, ...]] = {"training": tuple(LISTS), "evaluation": ("K", "scale")}
"""The lists that a split cannot do without."""
POSE, SHAPE, POSITION = slice(0, 48), slice(48, 58), slice(58, 61)
"""Parts of the 61 MANO numbers: axis-angles relative to the mean pose, shape, and the root's u, v, focal / depth."""


@dataclass(frozen=True, eq=False)
class FreihandSet:
    """N labelled rows of a split and their images; `len()` counts images.

    Image `i` shows row `i % N` in version `versions[i // N]`. May be handed to worker processes.
    """

    root: Path
    split: FreihandSplit
    versions: tuple[Version, ...]
    size_px: tuple[int, int]  # width and height of every image
    K: np.ndarray  # (N, 3, 3) float32
    scale: np.ndarray  # (N,) float32, metres: the length of the middle finger's first bone
    xyz: np.ndarray | None  # (N, 21, 3) float32 metres, keypoint order
    verts: np.ndarray | None  # (N, V, 3) float32 metres, memory-mapped
    mano: np.ndarray | None  # (N, 61) float32, see `POSE`, `SHAPE` and `POSITION`

    def __len__(self) -> int:
        return len(self.K) * len(self.versions)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return read_freihand, (self.root, self.split, self.versions)  # a worker maps the vertices for itself

    def row(self, i: int) -> int:
        """The row of the labels of image `i`."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return i % len(self.K)

    def image_path(self, i: int) -> Path:
        """The file of image `i`."""
        row = self.row(i)
        return image_path(self.root, self.split, row, self.versions[i // len(self.K)], len(self.K))

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB; FreihandError where the file is missing or damaged."""
        return _read_image(self.image_path(i))

    def mask(self, i: int) -> np.ndarray | None:
        """(H, W) uint8, 255 on the hand; None in the evaluation split, which has none.

        There is a mask file for each row, not for each image: all versions show the hand in the same pixels.
        """
        if self.split != "training":
            return None
        mask = _read_image(mask_path(self.root, self.row(i)), "L")
        return cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1]  # JPEG blurs its border

    def camera(self, i: int) -> Camera:
        """The camera of image `i`."""
        K = self.K[self.row(i)].tolist()
        return Camera(K[0][0], K[1][1], K[0][2], K[1][2], *self.size_px)

    def require(self, *names: str) -> None:
        """Raise FreihandError, with where to get them, unless the lists `names` (see `LISTS`) are there."""
        missing = [f"{self.split}_{name}.json" for name in names if getattr(self, name) is None]
        if missing:
            raise FreihandError(
                f"{self.root} lacks {', '.join(missing)}: the labels of the evaluation split come in an archive of "
                f"their own, {LABELS_ZIP} at {PAGE}; unpack its evaluation_*.json into that folder. "
                "Predictions for the submission server need no labels"
            )


def _read_image(path: Path, mode: Literal["RGB", "L"] = "RGB") -> np.ndarray:
    try:
        return read_image(path, mode)
    except ImageError as error:
        raise FreihandError(f"{error}: unpack it again; `handmesh data check-freihand` lists all such files") from None


def image_path(root: Path, split: FreihandSplit, row: int, version: Version, rows: int) -> Path:
    """The file that shows `row` in `version`, in a split whose lists have so many `rows`."""
    return root / split / "rgb" / f"{row + rows * VERSIONS.index(version):08d}.jpg"


def mask_path(root: Path, row: int) -> Path:
    """The file with the mask of a training row."""
    return root / "training" / "mask" / f"{row:08d}.jpg"


def read_freihand(
    root: Path | str, split: FreihandSplit, versions: Sequence[Version] = VERSIONS, progress: bool = True
) -> FreihandSet:
    """The split of the set in `root`, the folder that holds `training_K.json` and `training/rgb`.

    The first reading parses the lists (40 s for the real training split) and keeps them in a
    cache; later ones take a fraction of a second. The evaluation split has one version, and loads
    without `xyz`, `verts` and `mano`, which come in an archive of their own. Raises FreihandError
    where the folder is not the set or lacks a part of it.
    """
    root = Path(root)
    if split not in get_args(FreihandSplit):
        raise ValueError(f"unknown split {split!r}; valid: {', '.join(get_args(FreihandSplit))}")
    versions = _checked(versions) if split == "training" else VERSIONS[:1]
    _check_lists(root, split)
    paths = {name: root / f"{split}_{name}.json" for name in LISTS}
    lists = {name: load_list(path, name, progress) if path.is_file() else None for name, path in paths.items()}
    rows = _count(root, lists)
    _check_images(root, split, versions, rows)
    height, width = _read_image(image_path(root, split, 0, versions[0], rows)).shape[:2]
    in_memory = {name: np.array(values) for name, values in lists.items() if values is not None and name != "verts"}
    return FreihandSet(root, split, versions, (width, height), **{**lists, **in_memory})


def _checked(versions: Sequence[Version]) -> tuple[Version, ...]:
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise ValueError(f"unknown versions {unknown}; choose at least one of {', '.join(VERSIONS)}")
    return tuple(versions)


def check_folder(root: Path, split: FreihandSplit) -> None:
    """Raise FreihandError, with what to do, where `root` has none of the lists of the split."""
    names = [f"{split}_{name}.json" for name in NEEDED[split]]
    if not any((root / name).is_file() for name in names):
        what = f"{root} is not FreiHAND's folder, which holds {names[0]} and {split}/rgb"
        raise FreihandError(f"{what}: {_hint(root, split)}")


def _check_lists(root: Path, split: FreihandSplit) -> None:
    check_folder(root, split)
    missing = [f"{split}_{name}.json" for name in NEEDED[split] if not (root / f"{split}_{name}.json").is_file()]
    if missing:
        raise FreihandError(f"{root} lacks {', '.join(missing)}: unpack {ZIP} again, it holds them beside {split}/")


def _hint(root: Path, split: FreihandSplit) -> str:
    """What to do about a path that is not the set's folder."""
    if root.suffix == ".zip" and root.is_file():
        return f"unpack it (unzip {root} -d {root.with_suffix('')}) and name the new folder"
    if not root.is_dir():
        return f"there is no such folder; the set is to be had at {PAGE}"
    name = f"{split}_K.json"
    near = [*root.glob(f"*/{name}"), *root.glob(f"*/*/{name}")]
    near += [above / name for above in root.resolve().parents[:2] if (above / name).is_file()]
    if near:
        return f"name {near[0].parent} instead"
    return f"unpack {ZIP} there, to be had at {PAGE}"


def _count(root: Path, lists: dict[str, np.ndarray | None]) -> int:
    counts = {name: len(values) for name, values in lists.items() if values is not None}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise FreihandError(f"the lists in {root} have different numbers of rows ({found}): unpack {ZIP} again")
    return counts["K"]


def _check_images(root: Path, split: FreihandSplit, versions: Sequence[Version], rows: int) -> None:
    """The first and the last file of each run of ids: enough to notice what was never unpacked."""
    missing = [path for path in _ends(root, split, versions, rows) if not path.is_file()]
    if missing:
        only = " or read other versions" if split == "training" else ""
        reason = f"{missing[0]} is missing: the images were not all downloaded or unpacked"
        raise FreihandError(
            f"{reason}; unpack {ZIP} again{only} (`handmesh data check-freihand` lists all that is missing)"
        )


def _ends(root: Path, split: FreihandSplit, versions: Sequence[Version], rows: int) -> Iterator[Path]:
    for row in (0, rows - 1):
        yield from (image_path(root, split, row, version, rows) for version in versions)
        if split == "training":
            yield mask_path(root, row)


class FreihandSource:
    """Hands of a `FreihandSet` with exact labels, to be drawn for training or taken in order for evaluation."""

    def __init__(self, freihand: FreihandSet, hand: HandModel, masks: bool = True) -> None:
        """hand: the model that is trained. masks: whether to read these, too.

        Vertices, rotations and shapes are labels for a mesh like the set's own alone; for another
        (the bundled open hand, on the real set) only joints remain, with a warning.
        Raises FreihandError for a set without `xyz`.
        """
        freihand.require("xyz")
        self.freihand, self.masks = freihand, masks
        self.vertices = freihand.verts if freihand.verts is not None and _fits(freihand, hand) else None
        self.rotations = None
        if freihand.mano is not None and self.vertices is not None:
            rotations = rotations_from_mano(freihand.mano, hand)
            known = are_parameters_of(hand, rotations, freihand.mano[:, SHAPE], freihand.xyz)
            self.rotations = rotations if known else None

    def __len__(self) -> int:
        return len(self.freihand)

    def draw(self, rng: np.random.Generator) -> HandSample:
        """One of the images, each as likely as any other."""
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> HandSample:
        freihand, row = self.freihand, self.freihand.row(i)
        camera, joints_m = freihand.camera(i), freihand.xyz[row]
        joints_px = project(joints_m, camera).astype(np.float32)
        known = self.rotations is not None
        return HandSample(
            image=freihand.image(i),
            box=Box.around(joints_px),
            joints_px=joints_px,
            joints_m=joints_m,
            rotations=self.rotations[row] if known else None,
            shape=freihand.mano[row, SHAPE] if known else None,
            camera=camera,
            vertices_m=None if self.vertices is None else np.array(self.vertices[row]),
            mask=freihand.mask(i) if self.masks else None,
        )


def _fits(freihand: FreihandSet, hand: HandModel) -> bool:
    count = freihand.verts.shape[1]
    if count != hand.num_vertices:
        warnings.warn(
            f"the meshes in {freihand.root} have {count} vertices, the hand model has {hand.num_vertices}: of the "
            "labels only joints are used. For the rest give the model that the set was made with (MANO's has 778)",
            stacklevel=3,
        )
    return count == hand.num_vertices


def rotations_from_mano(mano: np.ndarray, hand: HandModel) -> np.ndarray:
    """(N, 61) MANO numbers to (N, 16, 3, 3) float32 rotations relative to the parent joint, the first to the camera.

    hand: whose mean pose the fingers' numbers are relative to.
    """
    return hand.rotations_from(mano[:, POSE], "relative")


# How the hand is found in a FreiHAND image before its crop is taken: a number means nothing without it.


CropProtocol = Literal["gt-keypoints", "given-box", "centre-130", "detected"]
"""`gt-keypoints`: an upright square around the labelled points. `given-box`: one around the box that a data set gives
with its images. `centre-130`: the 130 pixels in the image's middle, known without labels. `detected`: wherever the
tracker's own detector finds the hand."""

CENTRE_PX = 130.0


def crop_box(protocol: CropProtocol, around_px: np.ndarray | None, width: int, height: int, scale: float) -> Box:
    """The upright box that the crop is taken of, under a protocol that needs no detector.

    around_px: (K, 2) labelled points or two corners of the given box, whose tight square is made `scale` times
    as large. It is not turned with the hand: that would tell the network a part of the pose.
    Raises ValueError for `detected`, for a protocol that does not exist and where labels are missing.

    >>> crop_box("centre-130", None, 224, 224, 1.5)
    Box(centre_px=(111.5, 111.5), size_px=130.0, angle_rad=0.0)
    """
    if protocol in ("gt-keypoints", "given-box"):
        if around_px is None:
            needs = "labelled points" if protocol == "gt-keypoints" else "a given box"
            raise ValueError(f"the crop protocol {protocol} needs {needs}; without labels take centre-130")
        return Box.around(around_px, scale, rotation=False)
    if protocol == "centre-130":
        return Box(((width - 1) / 2, (height - 1) / 2), CENTRE_PX)
    if protocol == "detected":
        raise ValueError("the crop protocol detected takes its boxes from the detector, not from here")
    raise ValueError(f"unknown crop protocol {protocol!r}; valid: {', '.join(get_args(CropProtocol))}")
