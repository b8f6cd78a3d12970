"""DexYCB (Chao et al., CVPR 2021): left and right hands that grasp objects, seen by eight cameras.

A frame's labels are an .npz: joints in keypoint order, metres, the camera's frame; MANO's pose as three numbers of the
whole hand, 45 coefficients of the pose components and a translation; the segmentation. Frames without a hand have
joints of -1. The four setups s0 (unseen sequences), s1 (subjects), s2 (views) and s3 (objects) are those of the set's
own toolkit, https://github.com/NVlabs/dex-ycb-toolkit.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table, with_bar
from handmesh.types import Side

TIP_VERTICES = {"thumb4": 745, "index4": 317, "middle4": 444, "ring4": 556, "little4": 673}
"""The vertices of MANO's mesh that manopth, with which DexYCB was labelled, takes for fingertips."""

SUBJECTS = tuple(
    f"{date}-subject-{k:02d}"
    for k, date in enumerate(
        (20200709, 20200813, 20200820, 20200903, 20200908, 20200918, 20200928, 20201002, 20201015, 20201022), 1
    )
)
SERIALS = (
    "836212060125", "839512060362", "840412060917", "841412060263",
    "932122060857", "932122060861", "932122061900", "932122062010",
)  # fmt: skip
"""The cameras."""

SEQUENCES = 100
"""Of each subject."""

WIDTH, HEIGHT = 640, 480


class Part(NamedTuple):
    """What of the whole set is a split: indices into `SUBJECTS`, `SERIALS` and each subject's sorted sequences."""

    subjects: Sequence[int]
    serials: Sequence[int]
    sequences: Sequence[int]


def _every_fifth(last: bool) -> list[int]:
    return [i for i in range(SEQUENCES) if (i % 5 == 4) == last]


def _objects(*numbers: int, others: bool = False) -> list[int]:
    """The sequences of some of the 20 objects, five of each; or those of all the others."""
    return [i for i in range(SEQUENCES) if (i // 5 in numbers) != others]


_ALL = range(10), range(8), range(SEQUENCES)

PARTS: dict[str, Part] = {
    "s0_train": Part(_ALL[0], _ALL[1], _every_fifth(last=False)),
    "s0_val": Part((0, 1), _ALL[1], _every_fifth(last=True)),
    "s0_test": Part(range(2, 10), _ALL[1], _every_fifth(last=True)),
    "s1_train": Part((0, 1, 2, 3, 4, 5, 9), _ALL[1], _ALL[2]),
    "s1_val": Part((6,), _ALL[1], _ALL[2]),
    "s1_test": Part((7, 8), _ALL[1], _ALL[2]),
    "s2_train": Part(_ALL[0], range(6), _ALL[2]),
    "s2_val": Part(_ALL[0], (6,), _ALL[2]),
    "s2_test": Part(_ALL[0], (7,), _ALL[2]),
    "s3_train": Part(_ALL[0], _ALL[1], _objects(3, 7, 11, 15, 19, others=True)),
    "s3_val": Part(_ALL[0], _ALL[1], _objects(3, 19)),
    "s3_test": Part(_ALL[0], _ALL[1], _objects(7, 11, 15)),
}
"""The toolkit's setups and splits."""


class Recording(NamedTuple):
    """What one camera saw of one sequence."""

    folder: str  # below the root
    serial: str
    frames: int
    side: Side
    betas: np.ndarray  # (10,) MANO's shape of the subject
    first: int  # the number of its first frame in the official order of the split


def read_dexycb(root: Path, split: str) -> HandTable:
    """The frames of a split that show a labelled hand, in the toolkit's order; `ids` are the toolkit's numbers.

    Subjects that are not there are left out with a warning; the numbers are then not the toolkit's.
    """
    part = PARTS[split]
    present = [k for k in part.subjects if (root / SUBJECTS[k]).is_dir()]
    if not present:
        raise SetError(f"{root} has none of the subjects of {split}, {SUBJECTS[part.subjects[0]]} ...; {DEXYCB.help()}")
    if len(present) < len(part.subjects):
        absent = ", ".join(SUBJECTS[k] for k in part.subjects if k not in present)
        warnings.warn(f"{root} lacks subjects of {split}, which are left out: {absent}", stacklevel=2)
    recordings = list(_recordings(root, part._replace(subjects=present)))
    sources = [root / recording.folder for recording in recordings]
    if missing := [folder for folder in sources if not folder.is_dir()]:
        raise SetError(f"{missing[0]} is missing, one of {len(missing):,} recordings: unpack {root} again")
    table = partial(HandTable, f"DexYCB {split}", root, coding="pca", read_mask=read_mask)
    return cached_table(table, root, f"dexycb_{split}", sources, partial(_columns, root, split, recordings))


def _recordings(root: Path, part: Part) -> Iterator[Recording]:
    shapes: dict[str, np.ndarray] = {}
    first = 0
    for subject in (SUBJECTS[k] for k in part.subjects):
        sequences = sorted(path.name for path in (root / subject).iterdir() if path.is_dir())
        if len(sequences) != SEQUENCES:
            raise SetError(
                f"{root / subject} has {len(sequences)} sequences, not the {SEQUENCES} that the splits count by; "
                "unpack it again"
            )
        for sequence in (sequences[k] for k in part.sequences):
            meta = _read_yaml(root / subject / sequence / "meta.yml", ("num_frames", "mano_sides", "mano_calib"))
            calibration = meta["mano_calib"][0]
            if calibration not in shapes:
                path = root / "calibration" / f"mano_{calibration}" / "mano.yml"
                shapes[calibration] = np.array(_read_yaml(path, ("betas",))["betas"], np.float32)
            for serial in (SERIALS[k] for k in part.serials):
                folder = f"{subject}/{sequence}/{serial}"
                if meta["num_frames"]:
                    yield Recording(
                        folder, serial, meta["num_frames"], meta["mano_sides"][0], shapes[calibration], first
                    )
                first += meta["num_frames"]


def _read_yaml(path: Path, names: Sequence[str]) -> Mapping[str, Any]:
    """A small YAML file of the set. Raises SetError where it is missing, damaged or lacks one of `names`."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SetError(f"{path} is missing: unpack the set again; {DEXYCB.help()}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise SetError(f"{path} is damaged: unpack it again") from None
    missing = [name for name in names if not isinstance(content, dict) or name not in content]
    if missing:
        raise SetError(f"{path} lacks {', '.join(missing)}: unpack it again")
    return content


def cameras(root: Path, serials: Iterable[str]) -> dict[str, list[float]]:
    """fx, fy, cx, cy, width and height of each camera."""
    found = {}
    for serial in serials:
        path = root / "calibration" / "intrinsics" / f"{serial}_{WIDTH}x{HEIGHT}.yml"
        colour = _read_yaml(path, ("color",))["color"]
        found[serial] = [*(float(colour[name]) for name in ("fx", "fy", "ppx", "ppy")), WIDTH, HEIGHT]
    return found


def _columns(root: Path, split: str, recordings: Sequence[Recording]) -> dict[str, np.ndarray]:
    intrinsics = cameras(root, sorted({recording.serial for recording in recordings}))
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for recording in with_bar(recordings, f"DexYCB {split}"):
        for frame in range(recording.frames):
            label = read_label(root / recording.folder / f"labels_{frame:06d}.npz")
            if (label["joint_3d"] == -1).all():
                continue
            row = {
                "images": f"{recording.folder}/color_{frame:06d}.jpg",
                "masks": f"{recording.folder}/labels_{frame:06d}.npz",
                "left": recording.side == "left",
                "joints_m": label["joint_3d"],
                "joints_px": label["joint_2d"],
                "pose": label["pose_m"][:48],
                "shape": recording.betas,
                "camera": intrinsics[recording.serial],
                "ids": recording.first + frame,
                "sequence": recording.folder.rpartition("/")[0],
            }
            for name, value in row.items():
                columns[name].append(value)
    return {name: np.array(values, _TYPES[name]) for name, values in columns.items()}


_TYPES: dict[str, Any] = {
    "images": np.bytes_, "masks": np.bytes_, "sequence": np.bytes_, "left": bool, "ids": np.int64,
    **dict.fromkeys(("joints_m", "joints_px", "pose", "shape", "camera"), np.float32),
}  # fmt: skip

_SHAPES = {"joint_3d": (21, 3), "joint_2d": (21, 2), "pose_m": (51,)}


def read_label(path: Path) -> dict[str, np.ndarray]:
    """`joint_3d` (21, 3), `joint_2d` (21, 2) and `pose_m` (51,) of a frame. Raises SetError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name].reshape(shape) for name, shape in _SHAPES.items()}
    except FileNotFoundError:
        raise SetError(f"{path} is missing: unpack the set again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SetError(f"{path} is damaged ({error}): unpack it again") from None


def read_mask(path: Path, side: Side) -> np.ndarray:
    """(480, 640) uint8, 255 on the hand: where the segmentation of a frame says 255."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.where(archive["seg"] == 255, 255, 0).astype(np.uint8)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SetError(f"{path} is damaged or missing ({error}): unpack it again") from None


DEXYCB = HandSet(
    title="DexYCB",
    page="https://dex-ycb.github.io",
    licence="CC BY-NC 4.0",
    labels="21 joints in 2D and 3D, MANO, masks; left and right",
    splits=tuple(PARTS),
    layout="the ten subjects' folders 20200709-subject-01 ... and calibration/",
    read=read_dexycb,
)
