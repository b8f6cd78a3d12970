"""Recorded clips: every hand of every frame with all its parameters, in memory and as .npz, .json, .glb and meshes."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from handmesh import console
from handmesh.files import (
    OutputError,
    atomic_write,
    check_not_input,
    make_folder,
    output_errors,
    parsed_json,
    write_bytes,
    write_text,
)
from handmesh.geometry import mirror_faces
from handmesh.hand.lbs import SkinnedHand
from handmesh.render.overlay import SIDE_COLOURS
from handmesh.types import Camera, Hand, Side, hand_record
from handmesh.video.sinks import GrowingFile
from handmesh.xr.bvh import bvh_of
from handmesh.xr.gltf import Track, animated_glb, fit_rig, rigged_glb
from handmesh.xr.mesh_files import WRITABLE, write_meshes

# A recorded clip in memory: one row a hand and frame, as tables, and as `Hand`s where they are asked for.


FORMAT, VERSION = "handmesh clip", 1

HAND_ROW = np.dtype(
    [
        ("frame", "<i4"),  # which frame of the clip, from 0
        ("id", "<i4"),
        ("side", "<U5"),
        ("score", "<f4"),
        ("visible_s", "<f4"),
        ("predicted", "?"),
        ("pose", "<f4", (16, 3, 3)),
        ("shape", "<f4", (10,)),
        ("joints_m", "<f4", (21, 3)),
        ("joints_px", "<f4", (21, 2)),
        ("joints_uncertainty_m", "<f4", (21,)),  # NaN where the tracker tells none
        ("joints_uncertainty_px", "<f4", (21,)),
        ("contact", "<f4", (4,)),  # likewise
    ]
)
"""A hand in a frame: the fields of `Hand` but its mesh."""

_OPTIONAL = ("joints_uncertainty_m", "joints_uncertainty_px", "contact")
_LATER = ("contact",)  # files of before lack these
_SCALARS = {"id": int, "side": str, "score": float, "visible_s": float, "predicted": bool}


class ClipError(ValueError):
    """A recording that cannot be read or used; the message is one line that names it and the remedy."""


class FrameHead(NamedTuple):
    """What is kept of a frame beside its hands."""

    name: str
    time_s: float  # since the clip's first frame, always rising
    camera: Camera


def hand_row(hand: Hand, frame: int) -> np.ndarray:
    """(1,) `HAND_ROW` of a hand."""
    row = np.zeros(1, HAND_ROW)
    row["frame"] = frame
    for name in HAND_ROW.names[1:]:
        value = getattr(hand, name)
        row[name] = np.nan if value is None else value
    return row


@dataclass(frozen=True, eq=False)
class Clip:
    """N frames with M hands in all. Iterating over it gives (FrameHead, list of `Hand`) of every frame."""

    title: str
    fps: float
    heads: list[FrameHead]  # N
    rows: np.ndarray  # (M,) HAND_ROW, frames in order
    faces: np.ndarray  # (F, 3) int32, outward for a right hand
    num_vertices: int
    vertices_m: np.ndarray | None = None  # (M, V, 3) float32; None: posed anew from pose and shape when asked for
    model: SkinnedHand = field(default_factory=SkinnedHand.open_hand)

    @property
    def times_s(self) -> np.ndarray:
        """(N,) the frames' times."""
        return np.array([head.time_s for head in self.heads])

    def __iter__(self) -> Iterator[tuple[FrameHead, list[Hand]]]:
        bounds = np.searchsorted(self.rows["frame"], np.arange(len(self.heads) + 1))
        for k, head in enumerate(self.heads):
            yield head, [self.hand(row) for row in range(bounds[k], bounds[k + 1])]

    def hand(self, row: int) -> Hand:
        """The hand of one row, with its mesh."""
        values = self.rows[row]
        arrays = {name: np.array(values[name]) for name in HAND_ROW.names[1:] if name not in _SCALARS}
        for name in _OPTIONAL:
            arrays[name] = None if np.isnan(arrays[name]).any() else arrays[name]
        scalars = {name: kind(values[name]) for name, kind in _SCALARS.items()}
        right = scalars["side"] == "right"
        vertices = self._posed(values) if self.vertices_m is None else np.array(self.vertices_m[row])
        return Hand(vertices_m=vertices, faces=self.faces if right else mirror_faces(self.faces), **arrays, **scalars)

    def _posed(self, row: np.void) -> np.ndarray:
        """(V, 3) the mesh posed as the row says, placed and scaled so that its joints lie on the row's."""
        self.check_model()
        vertices, joints = self.model.posed(row["pose"], self.model.rest(row["shape"]), row["side"])
        middle, seen_middle = joints.mean(0), row["joints_m"].mean(0)
        scale = np.linalg.norm(row["joints_m"] - seen_middle) / np.linalg.norm(joints - middle)
        return ((vertices - middle) * scale + seen_middle).astype(np.float32)

    def of_side(self, side: Side) -> Clip:
        """The same frames with the hands of one side alone; ClipError where there are none."""
        chosen = self.rows["side"] == side
        if not chosen.any():
            raise ClipError(f"there is no {side} hand in {self.title or 'the clip'}: leave out --side {side}")
        meshes = None if self.vertices_m is None else self.vertices_m[chosen]
        return replace(self, rows=self.rows[chosen], vertices_m=meshes)

    def check_model(self) -> None:
        """Raise ClipError where the poses were recorded with another hand model than `model`."""
        expected = len(self.model.template)
        if self.num_vertices != expected:
            raise ClipError(
                f"{self.title or 'the clip'} was recorded with a hand of {self.num_vertices} vertices, and the model "
                f"given has {expected}: give read_clip the SkinnedHand that it was recorded with"
            )

    def tracks(self) -> list[Track]:
        """Every hand that was followed, by when it was first seen."""
        keys = np.stack([self.rows["id"], self.rows["side"] == "left"], axis=1)
        chosen = [np.flatnonzero((keys == key).all(1)) for key in np.unique(keys, axis=0)]
        return [self._track(rows) for rows in sorted(chosen, key=lambda rows: rows[0])]

    def _track(self, rows: np.ndarray) -> Track:
        _, first = np.unique(self.rows["frame"][rows], return_index=True)
        of = self.rows[rows[first]]
        side: Side = str(of["side"][0])
        return Track(f"{side}_{of['id'][0]}", side, of["frame"], of["pose"], of["shape"], of["joints_m"])


# A clip as `.npz`: one array a field, for NumPy and whatever reads its files.


def write_npz(clip: Clip, path: Path) -> None:
    """Write all of the clip. Tables on the disk go there in pieces, so that a long clip needs no memory."""
    cameras = [head.camera for head in clip.heads]
    arrays = {
        **{"format": FORMAT, "version": VERSION, "source": clip.title, "fps": clip.fps},
        "frame_name": np.array([head.name for head in clip.heads], dtype=str),
        "time_s": clip.times_s,
        "camera_K": np.array([camera.K for camera in cameras]).reshape(-1, 3, 3),
        "camera_size_px": np.array([(c.width, c.height) for c in cameras], np.int32).reshape(-1, 2),
        **{name: clip.rows[name] for name in HAND_ROW.names},
        "faces": clip.faces,
        "num_vertices": clip.num_vertices,
    }
    if clip.vertices_m is not None:
        arrays["vertices_m"] = clip.vertices_m
    with open(path, "wb") as file:
        np.savez(file, **arrays)


MOST_EXPANSION, SMALL_BYTES = 20, 64 << 20
"""How much larger than its file a clip may be in memory, beside what is no burden: our own files are as large."""


def read_npz(path: Path, model: SkinnedHand, vertices: bool = True) -> Clip:
    """Read a clip back. Without `vertices`, recorded meshes, which are most of a file, are left out.

    Raises ValueError, or whatever NumPy and zipfile make of what is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        wanted = [*_ABOUT_NPZ, *HAND_ROW.names, *(["vertices_m"] if vertices and "vertices_m" in names else [])]
        wanted = [name for name in wanted if name in names or name not in _LATER]
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(f"it lacks {missing[0]!r}")
        size = sum(archive.getinfo(f"{name}.npy").file_size for name in wanted)
        if size > MOST_EXPANSION * path.stat().st_size + SMALL_BYTES:
            raise ValueError(f"it would expand to {size / 1e9:.1f} GB")
        arrays = {name: _zipped_array(archive, name) for name in wanted}
    _check_format(arrays["format"].item(), arrays["version"].item())
    rows = np.empty(len(arrays["frame"]), HAND_ROW)
    for name in HAND_ROW.names:
        if name in arrays:
            _fill(rows, name, arrays[name], (len(rows),))
        else:
            rows[name] = np.nan
    count = int(arrays["num_vertices"])
    faces, meshes = _checked_faces(arrays["faces"], count), arrays.get("vertices_m")
    if meshes is not None and not _are_meshes(meshes, len(rows), count):
        raise ValueError("'vertices_m' is no finite (hands, vertices, 3)")
    return Clip(str(arrays["source"]), float(arrays["fps"]), _heads(arrays), rows, faces, count, meshes, model)


_ABOUT_NPZ = (
    *("format", "version", "source", "fps", "frame_name", "time_s", "camera_K", "camera_size_px"),
    *("faces", "num_vertices"),
)


def _zipped_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        return _array(stream, archive.getinfo(f"{name}.npy").file_size)


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array in an .npy of `size` bytes; what its header announces is not believed beyond that."""
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = header[np.lib.format.read_magic(stream)](stream)
    length = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or length != size - stream.tell():
        raise ValueError(f"an array of {length} bytes cannot be what {size} bytes hold")
    return np.frombuffer(stream.read(length), dtype, math.prod(shape)).reshape(shape, order="F" if by_column else "C")


def _fill(rows: np.ndarray, name: str, values: np.ndarray, first: tuple[int, ...] = ()) -> None:
    """Set a field of rows; values: of the field's own kind and of the shape (*first, *the field's)."""
    field_type = HAND_ROW[name]
    if values.shape != (*first, *field_type.shape) or not np.can_cast(values.dtype, field_type.base, "same_kind"):
        raise ValueError(f"{name!r} is {values.shape} {values.dtype}, not {(*first, *field_type.shape)}")
    rows[name] = values


def _heads(arrays: Mapping[str, np.ndarray]) -> list[FrameHead]:
    names, times = arrays["frame_name"].tolist(), arrays["time_s"].tolist()
    cameras = [
        Camera(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), int(width), int(height))
        for K, (width, height) in zip(arrays["camera_K"], arrays["camera_size_px"], strict=True)
    ]
    return [FrameHead(*head) for head in zip(names, times, cameras, strict=True)]


# A clip as JSON: a record a frame, a line each, with all parameters but the mesh. The schema is in docs/exports.md.


def write_json(clip: Clip, path: Path) -> None:
    """Write the clip without its meshes, which pose and shape give back."""
    about = {"format": FORMAT, "version": VERSION, "source": clip.title, "fps": clip.fps}
    opening = json.dumps({**about, "num_vertices": clip.num_vertices})[:-1]
    bounds = np.searchsorted(clip.rows["frame"], np.arange(len(clip.heads) + 1))
    with open(path, "w") as file:
        file.write(f'{opening}, "frames": [')
        for k, head in enumerate(clip.heads):
            record = _frame_record(head, clip.rows[bounds[k] : bounds[k + 1]])
            file.write((",\n" if k else "\n") + json.dumps(record))
        file.write("\n]}\n")


def _frame_record(head: FrameHead, rows: np.ndarray) -> dict[str, object]:
    hands = [hand_record(row) for row in rows]
    return {"file": head.name, "time_s": round(head.time_s, 6), "camera": asdict(head.camera), "hands": hands}


def read_json(path: Path, model: SkinnedHand) -> Clip:
    """Read a clip back. Raises KeyError, TypeError, ArithmeticError or ValueError where the file is no recording."""
    whole = _record(parsed_json(path.read_bytes(), "it"))
    _check_format(whole.get("format"), whole.get("version"))
    heads = [_read_head(frame, "file") for frame in whole["frames"]]
    rows = [_read_hand(hand, k) for k, frame in enumerate(whole["frames"]) for hand in frame["hands"]]
    table = np.concatenate(rows) if rows else np.empty(0, HAND_ROW)
    count = int(whole["num_vertices"])
    return Clip(str(whole["source"]), float(whole["fps"]), heads, table, model.faces, count, model=model)


def _record(parsed: object) -> dict:
    if not isinstance(parsed, dict):
        raise ValueError(f"it holds a {type(parsed).__name__} where a record belongs")
    return parsed


def _read_head(record: object, name: str) -> FrameHead:
    """name: what the frame's name is called there."""
    record = _record(record)
    camera = record["camera"]
    focal_and_centre = [float(camera[key]) for key in ("fx", "fy", "cx", "cy")]
    camera = Camera(*focal_and_centre, int(camera["width"]), int(camera["height"]))
    return FrameHead(str(record[name]), float(record["time_s"]), camera)


def _read_hand(record: dict, frame: int) -> np.ndarray:
    row = np.zeros(1, HAND_ROW)
    row["frame"] = frame
    row["pose"] = Rotation.from_quat(record["pose_xyzw"]).as_matrix()
    for name in HAND_ROW.names:
        if name in _OPTIONAL and (record.get(name) if name in _LATER else record[name]) is None:
            row[name] = np.nan
        elif name not in ("frame", "pose"):
            _fill(row[0], name, np.asarray(record[name]))
    return row


# A recording while it grows: a folder beside the file it will become, complete after every frame.
#
# `clip.json` says what it is, `frames.jsonl` has a line a frame, `hands.bin` a `HAND_ROW` a hand and
# `vertices.bin` its mesh. What a killed process leaves can be read; memory does not grow with time.


SPOOL_SUFFIX = ".part"

_ABOUT, _FRAMES, _HANDS, _VERTICES, _FACES = "clip.json", "frames.jsonl", "hands.bin", "vertices.bin", "faces.npy"


class Spool:
    """Takes a clip frame by frame, to the disk at once."""

    def __init__(self, folder: Path, title: str, fps: float, model: SkinnedHand, vertices: bool) -> None:
        """vertices: whether to keep the meshes, 20 kB a hand and frame.

        Raises OutputError where the folder cannot be made, or holds a recording that was never finished.
        """
        self.folder = folder
        self.frames = 0
        self._about = {"format": FORMAT, "version": VERSION, "title": title, "fps": fps}
        self._about |= {"num_vertices": len(model.template), "fields": list(HAND_ROW.names)}
        self._model, self._keeps_vertices = model, vertices
        self._failed = False
        _check_free(folder)
        with ExitStack() as stack, self._disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            names = (_FRAMES, _HANDS, _VERTICES) if vertices else (_FRAMES, _HANDS)
            self._files = {name: stack.enter_context(GrowingFile(folder / name, "w+")) for name in names}
            self._describe()
            self._open = stack.pop_all()

    def _describe(self) -> None:
        np.save(self.folder / _FACES, self._model.faces)
        (self.folder / _ABOUT).write_text(json.dumps(self._about))

    def add(self, head: FrameHead, hands: Sequence[Hand]) -> None:
        """Keep a frame. Raises OutputError where it cannot be written, and then for every later one."""
        if self._failed:
            raise OutputError(f"cannot write to {self.folder} since an earlier error; what was recorded is there")
        with self._disk_errors():
            for hand in hands:
                self._add_hand(hand)
            line = {"name": head.name, "time_s": head.time_s, "camera": asdict(head.camera)}
            self._files[_FRAMES].write(json.dumps(line).encode() + b"\n")
        self.frames += 1

    def _add_hand(self, hand: Hand) -> None:
        if len(hand.vertices_m) != len(self._model.template):
            raise OutputError(
                f"cannot record a hand of {len(hand.vertices_m)} vertices with a model of "
                f"{len(self._model.template)}: give the export the tracker's own hand"
            )
        row = hand_row(hand, self.frames)
        if _are_wrong(row, self.frames + 1).any() or not np.isfinite(hand.vertices_m).all():
            return  # numbers that are not finite can be told by no format, and would spoil all others
        if self._keeps_vertices:
            self._files[_VERTICES].write(np.asarray(hand.vertices_m, "<f4").tobytes())
        self._files[_HANDS].write(row.tobytes())

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            kept = "; what was recorded before is kept" if self.frames else ""
            raise OutputError(f"cannot write to {self.folder}: {error.strerror or error}{kept}") from error

    @property
    def failed(self) -> bool:
        """Whether the disk refused something; what was written before stays readable."""
        return self._failed

    def close(self) -> None:
        """Close the files; the folder stays. Raises OutputError where it was removed and cannot be made again."""
        with self._open, self._disk_errors():
            if not is_spool(self.folder):
                self._restore()

    def _restore(self) -> None:
        """Write the folder anew from the files that are still open, where someone has removed it meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, file in self._files.items():
            file.seek(0)
            with open(self.folder / name, "wb") as copy:
                shutil.copyfileobj(file, copy)
        self._describe()

    def remove(self) -> None:
        """Delete the folder, after it has become a file."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _check_free(folder: Path) -> None:
    if is_spool(folder):
        raise OutputError(
            f"{folder} holds a recording that was not finished: save it with "
            f"`handmesh convert-clip {folder} --output FILE`, or delete it"
        )
    if folder.is_dir() and any(folder.iterdir()):  # it is removed in the end
        raise OutputError(f"{folder} is needed while recording, and holds something else: move or delete it")


def is_spool(path: Path) -> bool:
    """Whether a recording that was not finished is there."""
    return (path / _ABOUT).is_file()


def read_spool(folder: Path, model: SkinnedHand) -> Clip:
    """The clip in a spool's folder, as far as it was written; its tables stay on the disk.

    What a power cut has left at the ends of its files, as zeros, is left out with a warning.
    """
    about = _record(parsed_json((folder / _ABOUT).read_bytes(), _ABOUT))
    _check_format(about.get("format"), about.get("version"))
    if about.get("fields") != list(HAND_ROW.names):
        raise ClipError(f"{folder} was begun by another version of handmesh: save it with that one")
    count = int(about["num_vertices"])
    with open(folder / _FACES, "rb") as file:
        faces = _checked_faces(_array(file, (folder / _FACES).stat().st_size), count)
    heads = list(_whole_lines(folder / _FRAMES))
    rows = _mapped(folder / _HANDS, HAND_ROW, ())
    damaged = np.flatnonzero(_are_wrong(rows, len(heads)))
    if len(damaged):
        if rows["frame"][damaged[0]] != len(heads):  # the hands of a frame are written before its line
            console.warn(f"{folder}: hands after frame {rows['frame'][: damaged[0]].max(initial=0)} are damaged")
        rows = rows[: damaged[0]]
    vertices = None
    if (folder / _VERTICES).exists():
        vertices = _mapped(folder / _VERTICES, np.dtype("<f4"), (count, 3))[: len(rows)]
        if not _are_meshes(vertices, len(rows), count):
            console.warn(f"{folder}: meshes are damaged, and are posed anew from what else is known of the hands")
            vertices = None
    return Clip(str(about["title"]), float(about["fps"]), heads, rows, faces, count, vertices, model)


def _whole_lines(path: Path) -> Iterator[FrameHead]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            try:
                yield _read_head(parsed_json(line, path), "name")
            except (ValueError, KeyError, TypeError, ArithmeticError):
                if lines.read(1):  # more than what a kill cut off in the middle of being written
                    console.warn(f"{path} is damaged after {number} frames; what follows is left out")
                return


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """(M, *shape) the whole records of a file, read from the disk where they are used."""
    count = path.stat().st_size // (dtype.itemsize * math.prod(shape))
    if count == 0:
        return np.empty((0, *shape), dtype)
    return np.memmap(path, dtype, "r", shape=(count, *shape))


# What all recordings must be, whoever wrote them. Errors say what is wrong; `read_clip` says of which file.


_PIECE = 4096  # rows looked at together, so that a long clip needs no memory


def _check_format(found: object, version: object) -> None:
    if found != FORMAT:
        raise ValueError(f"it has not 'format': {FORMAT!r}")
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(f"its version is {version!r}; this handmesh reads {VERSION}: update it")


def _check(clip: Clip) -> None:
    """Raise ValueError for what no recording can hold, and later steps would stumble over."""
    times, cameras = clip.times_s, np.array([astuple(head.camera) for head in clip.heads], np.float64).reshape(-1, 6)
    checks = {
        "frames a second": math.isfinite(clip.fps) and clip.fps > 0,
        "number of vertices": clip.num_vertices > 0,
        "names of frames": all(_is_name(head.name) for head in clip.heads),
        "times": np.isfinite(times).all() and (np.diff(times) >= 0).all(),
        "cameras": np.isfinite(cameras).all() and (cameras[:, [0, 1, 4, 5]] > 0).all(),
        "hands": not _are_wrong(clip.rows, len(clip.heads)).any(),
    }
    if wrong := [name for name, right in checks.items() if not right]:
        raise ValueError(f"its {wrong[0]} are not what a recording has")


def _is_name(name: str) -> bool:
    """Whether a frame's name stands for a file below a folder: clips of strangers write nowhere else."""
    path = Path(name)
    return bool(path.name) and "\0" not in name and not path.anchor and ".." not in path.parts


def _are_wrong(rows: np.ndarray, frames: int) -> np.ndarray:
    """(M,) whether each `HAND_ROW` is none of a clip with so many frames: out of order, not finite, no rotations."""
    of = rows["frame"]
    wrong = (of < 0) | (of >= frames) | ~np.isin(rows["side"], ("left", "right"))
    wrong[1:] |= of[1:] < of[:-1]
    for start in range(0, len(rows), _PIECE):
        piece = rows[start : start + _PIECE]
        for name in ("score", "visible_s", "pose", "shape", "joints_m", "joints_px"):
            wrong[start : start + _PIECE] |= ~np.isfinite(piece[name].reshape(len(piece), -1)).all(1)
        with np.errstate(invalid="ignore"):
            rigid = np.abs(np.linalg.det(piece["pose"]) - 1) < 0.1
        wrong[start : start + _PIECE] |= ~rigid.all(1)
    return wrong


def _checked_faces(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or num_vertices < 1:
        raise ValueError(f"'faces' are {faces.shape} {faces.dtype}")
    if faces.min(initial=0) < 0 or faces.max(initial=0) >= num_vertices:
        raise ValueError(f"'faces' name vertices that are not among {num_vertices}")
    return faces


def _are_meshes(vertices_m: np.ndarray, hands: int, num_vertices: int) -> bool:
    if vertices_m.shape != (hands, num_vertices, 3) or vertices_m.dtype.kind != "f":
        return False
    return all(np.isfinite(vertices_m[k : k + _PIECE]).all() for k in range(0, hands, _PIECE))


# Clips to and from files, by suffix.


def read_clip(path: str | Path, model: SkinnedHand | None = None, vertices: bool = True) -> Clip:
    """Read a recorded clip: `.npz`, `.json`, or the `.part` folder that a recording which was killed leaves.

    model: the hand it was recorded with, by default the bundled one. vertices: whether to load recorded
    meshes; without them, meshes are posed anew when asked for. Raises ClipError where it cannot be read.
    """
    path, model = Path(path), model or SkinnedHand.open_hand()
    if not (is_spool(path) or path.is_file()):
        raise ClipError(f"no recorded clip at {path}")
    try:
        clip = _read(path, model, vertices)
        _check(clip)
    except MemoryError as error:
        raise ClipError(f"{path} needs more memory than there is: record less at a time") from error
    except Exception as error:  # broken files make readers raise almost anything
        if isinstance(error, ClipError) or (isinstance(error, OSError) and error.filename):
            raise
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise ClipError(
            f"{path} is damaged, or not a recorded clip as docs/exports.md has it ({reason or type(error).__name__}): "
            "use a copy of it, or record again"
        ) from error
    return clip


def _read(path: Path, model: SkinnedHand, vertices: bool) -> Clip:
    if is_spool(path):
        return read_spool(path, model)
    if path.suffix.lower() == ".npz":
        return read_npz(path, model, vertices)
    if path.suffix.lower() == ".json":
        return read_json(path, model)
    raise ClipError(f"cannot read {path}: a recorded clip is an .npz or .json file, or a .part folder")


def save_clip(clip: Clip, path: str | Path) -> Path:
    """Write a clip as the path's suffix says, whole or not at all; where it lies then.

    `.npz`: all parameters and, where the clip has them, meshes. `.json`: all parameters. `.glb`: the
    hands rigged and animated. `.bvh`: the hand that was seen longest. No suffix: a folder with a `.glb` of every
    frame that shows a hand; `.obj`, `.ply`, `.stl` or `.usdz`: the same folder, without the suffix, in that
    format. Raises OutputError.
    """
    path = Path(path)
    check_savable(path)
    if is_mesh_folder(path):
        folder = MeshFolder(path)
        for head, hands in clip:
            folder.write(head.name, hands)
        return folder.path
    if path.suffix.lower() == ".glb":
        write_bytes(path, _animated(clip))
    elif path.suffix.lower() == ".bvh":
        write_text(path, bvh_of(_seen_longest(clip, path), clip.times_s, clip.fps, clip.model))
    else:
        with output_errors(path), atomic_write(path) as part:
            (write_npz if path.suffix.lower() == ".npz" else write_json)(clip, part)
    return path


def save_rigged_hand(clip: Clip, path: str | Path, flat: bool = False) -> Path:
    """Write the hand that was seen longest, in its own shape and size, as a rigged `.glb` at rest.

    flat: joints side by side, as WebXR's `generic-hand` has them. Raises OutputError, also for a clip
    without hands.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise OutputError(f"cannot write {path}: a rigged hand is written as .glb")
    track = _seen_longest(clip, path)
    shape = track.shapes.mean(0)
    write_bytes(path, rigged_glb(clip.model, shape, track.side, fit_rig(track, clip.model).scale, flat=flat))
    return path


def _seen_longest(clip: Clip, path: Path) -> Track:
    tracks = clip.tracks()
    if not tracks:
        raise OutputError(f"cannot write {path}: there is no hand in {clip.title or 'the clip'}")
    clip.check_model()
    return max(tracks, key=lambda track: len(track.frames))


def _animated(clip: Clip) -> bytes:
    clip.check_model()
    tracks = clip.tracks()
    if not tracks:
        raise OutputError(f"there is no hand in {clip.title or 'the clip'}, so there is nothing to animate")
    return animated_glb(tracks, clip.times_s, clip.model, SIDE_COLOURS)


def check_savable(path: Path) -> None:
    """Raise OutputError unless clips can be written as the path's suffix says."""
    if path.suffix.lower() not in (".npz", ".json", ".glb", ".bvh") and not is_mesh_folder(path):
        known = ", ".join((".npz", ".json", ".bvh", *WRITABLE))
        raise OutputError(f"cannot write {path}: clips are written as {known}, or into a folder")


def is_mesh_folder(path: Path) -> bool:
    """Whether the path stands for a folder of one mesh file a frame."""
    suffix = path.suffix.lower()
    return path.is_dir() or not suffix or (suffix in WRITABLE and suffix != ".glb")


class MeshFolder:
    """A folder with the hands of each frame as one mesh file, under the frame's name."""

    def __init__(self, path: Path) -> None:
        """path: the folder, with `.obj`, `.ply` or `.stl` after its name for another format than `.glb`.

        Raises OutputError where the folder cannot be made.
        """
        is_plain = path.is_dir() or not path.suffix
        self.path = path if is_plain else path.with_suffix("")
        self._suffix = ".glb" if is_plain else path.suffix.lower()
        make_folder(self.path)

    def write(self, name: str, hands: Sequence[Hand]) -> None:
        """Write the hands of a frame, if there are any. Raises OutputError."""
        if hands:
            write_meshes(self.path / Path(name).with_suffix(self._suffix), hands)


@dataclass(frozen=True)
class ConvertOptions:
    """Convert recorded hands: .npz and .json to each other, to an animated .glb, or to meshes.

    clip.npz.part, which a recording that was killed leaves, becomes a clip with --output clip.npz.
    """

    clip: tyro.conf.Positional[Path]
    """An .npz or .json file, or a .part folder."""
    output: Path
    """The file to write (.npz, .json, .glb, .bvh), or a folder for a mesh a frame: frames.obj is the folder
    `frames`."""
    side: Side | None = None
    """Only the left or the right hands. Default: both; of what holds one hand, .bvh and --rigged, the one seen
    longest."""
    rigged: bool = False
    """Write a hand at rest, in its own shape and size, ready to be posed, as .glb."""
    webxr: bool = False
    """The same with a flat skeleton, as WebXR's `generic-hand` has."""


def convert_clip(options: ConvertOptions) -> None:
    """`handmesh convert-clip`: read, write, and say where."""
    check_not_input([options.output], [options.clip, *(options.clip.iterdir() if options.clip.is_dir() else ())])
    clip = read_clip(options.clip, vertices=options.output.suffix.lower() not in (".glb", ".json", ".bvh"))
    clip = clip if options.side is None else clip.of_side(options.side)
    if options.rigged or options.webxr:
        written = save_rigged_hand(clip, options.output, flat=options.webxr)
    else:
        written = save_clip(clip, options.output)
    console.say(f"wrote {written}: {len(clip.heads)} frames, {len(clip.tracks())} hands")
