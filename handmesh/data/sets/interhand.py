"""InterHand2.6M v1.0 (Moon et al., ECCV 2020; arXiv:2008.09309), at 5 or 30 frames a second: one hand, or two together.

Each hand of an image is a sample of its own. Joints are millimetres in the world of a capture, from fingertips to the
wrist, the right hand's first; a camera sees `camrot @ (x - campos)`. MANO's numbers are NeuralAnnot's fits in the same
world, in metres, axis-angles about the mean pose; the fits miss the joints by some 5 mm. Source: the set's page and its
tools, https://github.com/facebookresearch/InterHand2.6M.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handmesh.data.sets.labels_json import read_labels
from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table, keypoints_from, turned_pose, with_bar
from handmesh.types import Side

LEAST_JOINTS = 11
"""A hand is left out with fewer of its joints labelled and inside the image."""

PARTS = ("data", "camera", "joint_3d")
FITS = "MANO_NeuralAnnot"

_ROWS: dict[Side, slice] = {"right": slice(0, 21), "left": slice(21, 42)}
_MM_A_METRE = 1000.0


class _Calibration(NamedTuple):
    """One camera of a capture."""

    rotation: np.ndarray  # (3, 3)
    position_mm: np.ndarray  # (3,)
    focal: np.ndarray  # (2,)
    centre: np.ndarray  # (2,)


def read_interhand(root: Path, split: str) -> HandTable:
    """The hands of the images that `annotations/SPLIT/InterHand2.6M_SPLIT_data.json` lists, in its order."""
    folder = root / "annotations" / split
    files = {part: folder / f"InterHand2.6M_{split}_{part}.json" for part in (*PARTS, FITS)}
    missing = [files[part] for part in PARTS if not files[part].is_file()]
    if missing:
        raise SetError(f"{root} lacks {missing[0].relative_to(root)}; {INTERHAND.help()}")
    table = partial(HandTable, f"InterHand2.6M {split}", root, coding="relative")
    sources = [path for path in files.values() if path.is_file()]
    return cached_table(table, root, f"interhand_{split}", sources, partial(_columns, split, files))


def to_camera_m(world_mm: np.ndarray, rotation: np.ndarray, position_mm: np.ndarray) -> np.ndarray:
    """(N, J, 3) millimetres in the world to metres in the frames of (N, 3, 3), (N, 3) cameras."""
    return (world_mm - position_mm[:, None]) @ rotation.transpose(0, 2, 1) / _MM_A_METRE


def to_world_mm(joints_m: np.ndarray, rotation: np.ndarray, position_mm: np.ndarray) -> np.ndarray:
    """The inverse of `to_camera_m`."""
    return _MM_A_METRE * joints_m @ rotation + position_mm[:, None]


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    """Lists of numbers as arrays: of 1.4 million images they would take some gigabytes."""
    if "joint_valid" in entry:
        entry["joint_valid"] = np.array(entry["joint_valid"], bool).ravel()
    for name in ("world_coord", "pose", "shape"):
        if name in entry:
            entry[name] = np.array(entry[name], np.float32)
    return entry


def _columns(split: str, files: dict[str, Path]) -> dict[str, np.ndarray]:
    data, joints = (read_labels(files[part], _slim) for part in ("data", "joint_3d"))
    fits = read_labels(files[FITS], _slim) if files[FITS].is_file() else {}
    cameras = _calibrations(files["camera"])
    try:
        hands = _hands(data, joints, fits, cameras, split)
    except (KeyError, TypeError) as error:
        raise SetError(f"the files of {files['data'].parent} do not agree (no {error}): unpack them again") from None
    if not hands["left"]:
        raise SetError(f"no hand is labelled in {files['data']}: unpack it again")
    return _in_the_camera({name: np.array(values) for name, values in hands.items()})


def _calibrations(path: Path) -> dict[tuple[str, str], _Calibration]:
    """By capture and camera."""
    found = {}
    for capture, of in read_labels(path).items():
        for camera in of["campos"]:
            numbers = (np.array(of[name][camera], np.float64) for name in ("camrot", "campos", "focal", "princpt"))
            found[capture, camera] = _Calibration(*numbers)
    return found


def _hands(
    data: dict[str, Any], joints: dict[str, Any], fits: dict[str, Any],
    cameras: dict[tuple[str, str], _Calibration], split: str,
) -> dict[str, list[Any]]:  # fmt: skip
    """Columns as the files have them, a row a hand that is labelled and mostly inside its image."""
    images = {image["id"]: image for image in data["images"]}
    rows: list[tuple[Any, ...]] = []
    nobody = {"pose": np.full(48, np.nan), "shape": np.full(10, np.nan)}
    for entry in with_bar(data["annotations"], f"InterHand2.6M {split}"):
        image = images[entry["image_id"]]
        capture, frame = str(image["capture"]), str(image["frame_idx"])
        at, camera = joints[capture][frame], cameras[capture, str(image["camera"])]
        for side, part in _ROWS.items():
            if entry["joint_valid"][part].sum() < LEAST_JOINTS:
                continue
            fit = fits.get(capture, {}).get(frame, {}).get(side) or nobody
            world_mm = np.where(at["joint_valid"][part, None], at["world_coord"][part], np.nan)
            rows.append((
                f"images/{split}/{image['file_name']}".encode(), side == "left", world_mm, *camera,
                (image["width"], image["height"]), image["id"], f"{capture}/{image['seq_name']}".encode(),
                fit["pose"], fit["shape"],
            ))  # fmt: skip
    names = ("images", "left", "world_mm", "rotation", "position_mm", "focal", "centre", "size", "ids", "sequence",
             "pose", "shape")  # fmt: skip
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {"left": []}


def _in_the_camera(hands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of a `HandTable`."""
    rotation, focal, centre = (hands[name] for name in ("rotation", "focal", "centre"))
    joints_m = to_camera_m(keypoints_from(hands["world_mm"], "interhand"), rotation, hands["position_mm"])
    joints_px = joints_m[..., :2] / joints_m[..., 2:] * focal[:, None] + centre[:, None]
    kept = {name: hands[name] for name in ("images", "left", "ids", "sequence")}
    known = np.isfinite(hands["pose"]).all(1)
    pose = hands["pose"].astype(np.float64)
    pose[known] = turned_pose(pose[known], rotation[known])
    return kept | {
        "joints_m": joints_m.astype(np.float32),
        "joints_px": joints_px.astype(np.float32),
        "camera": np.concatenate([focal, centre, hands["size"]], axis=1).astype(np.float32),
        "pose": pose.astype(np.float32),
        "shape": hands["shape"].astype(np.float32),
    }


INTERHAND = HandSet(
    title="InterHand2.6M",
    page="https://mks0601.github.io/InterHand2.6M",
    licence="CC BY-NC 4.0: no commercial use",
    labels="21 joints of each hand in 2D and 3D, which of them are valid; MANO fits",
    splits=("train", "val", "test"),
    layout="annotations/{train,val,test}/InterHand2.6M_*.json and images/{train,val,test}/Capture*",
    read=read_interhand,
)
