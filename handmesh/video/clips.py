"""Recorded clips: every hand of every frame with all its parameters, in memory and as .npz, .json, .glb and meshes."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from handmesh import console
from handmesh.files import OutputError, atomic_write, make_folder, output_errors, write_bytes
from handmesh.geometry import mirror_faces
from handmesh.hand.lbs import SkinnedHand
from handmesh.render.overlay import SIDE_COLOURS
from handmesh.types import Camera, Hand, Side
from handmesh.video.sinks import GrowingFile
from handmesh.xr.gltf import Track, animated_glb, fit_rig, rigged_glb
from handmesh.xr.poses import FROM_CAMERA

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
    ]
)
"""A hand in a frame: the fields of `Hand` but its mesh."""

_OPTIONAL = ("joints_uncertainty_m", "joints_uncertainty_px")
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


def read_npz(path: Path, model: SkinnedHand, vertices: bool = True) -> Clip:
    """Read a clip back. Without `vertices`, recorded meshes, which are most of a file, are left out.

    Raises ClipError where the file is no recording.
    """
    if not zipfile.is_zipfile(path):
        raise ClipError(f"{path} is damaged or not an .npz archive")
    with np.load(path, allow_pickle=False) as archive:
        if "format" not in archive.files or str(archive["format"]) != FORMAT:
            raise ClipError(f"{path} is not a recorded clip, which has the field 'format' with {FORMAT!r}")
        if int(archive["version"]) > VERSION:
            raise ClipError(f"{path} was recorded by a newer handmesh (version {archive['version']}): update this one")
        try:
            return _clip(archive, model, vertices)
        except (KeyError, ValueError) as error:
            raise ClipError(f"{path} is not a recorded clip as docs/exports.md has it: {error}") from error


def _clip(archive: np.lib.npyio.NpzFile, model: SkinnedHand, vertices: bool) -> Clip:
    rows = np.empty(len(archive["frame"]), HAND_ROW)
    for name in HAND_ROW.names:
        rows[name] = archive[name]
    kept = archive["vertices_m"] if vertices and "vertices_m" in archive.files else None
    title, fps = str(archive["source"]), float(archive["fps"])
    return Clip(title, fps, _heads(archive), rows, archive["faces"], int(archive["num_vertices"]), kept, model)


def _heads(archive: np.lib.npyio.NpzFile) -> list[FrameHead]:
    names, times = archive["frame_name"].tolist(), archive["time_s"].tolist()
    cameras = [
        Camera(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), int(width), int(height))
        for K, (width, height) in zip(archive["camera_K"], archive["camera_size_px"], strict=True)
    ]
    return [FrameHead(*head) for head in zip(names, times, cameras, strict=True)]


# A clip as JSON: a record a frame, a line each, with all parameters but the mesh. The schema is in docs/exports.md.


_DECIMALS = {"joints_m": 6, "joints_px": 2, "shape": 5, "joints_uncertainty_m": 6, "joints_uncertainty_px": 2}


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
    hands = [_hand_record(row) for row in rows]
    return {"file": head.name, "time_s": round(head.time_s, 6), "camera": asdict(head.camera), "hands": hands}


def _hand_record(row: np.void) -> dict[str, object]:
    scalars = {
        **{"id": int(row["id"]), "side": str(row["side"]), "score": round(float(row["score"]), 4)},
        **{"visible_s": round(float(row["visible_s"]), 4), "predicted": bool(row["predicted"])},
    }
    arrays = {name: _rounded(row[name], decimals) for name, decimals in _DECIMALS.items()}
    rotations = Rotation.from_matrix(row["pose"].astype(np.float64)).as_quat(canonical=True)
    return {**scalars, "pose_xyzw": _rounded(rotations, 6), **arrays}


def _rounded(values: np.ndarray, decimals: int) -> list | None:
    """The values as a list; None where they are unknown."""
    return None if np.isnan(values).any() else values.astype(np.float64).round(decimals).tolist()


def read_json(path: Path, model: SkinnedHand) -> Clip:
    """Read a clip back. Raises ClipError where the file is no recording."""
    try:
        whole = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ClipError(f"{path} is not JSON: {error}") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or whole.get("version", 0) > VERSION:
        raise ClipError(f"{path} is not a recorded clip of version {VERSION}, which has 'format': {FORMAT!r}")
    try:
        frames = whole["frames"]
        heads = [FrameHead(f["file"], f["time_s"], Camera(**f["camera"])) for f in frames]
        rows = [_read_hand(hand, k) for k, frame in enumerate(frames) for hand in frame["hands"]]
        table = np.concatenate(rows) if rows else np.empty(0, HAND_ROW)
        return Clip(whole["source"], whole["fps"], heads, table, model.faces, whole["num_vertices"], model=model)
    except (KeyError, TypeError, ValueError) as error:
        raise ClipError(f"{path} is not a recorded clip as docs/exports.md has it: {error!r}") from error


def _read_hand(record: dict, frame: int) -> np.ndarray:
    row = np.zeros(1, HAND_ROW)
    row["frame"] = frame
    row["pose"] = Rotation.from_quat(record["pose_xyzw"]).as_matrix()
    for name in HAND_ROW.names:
        if name not in ("frame", "pose"):
            row[name] = np.nan if record[name] is None else record[name]
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
        self._model, self._keeps_vertices = model, vertices
        self._failed = False
        if (folder / _ABOUT).exists():
            raise OutputError(
                f"{folder} holds a recording that was not finished: save it with "
                f"`handmesh convert-clip {folder} --output FILE`, or delete it"
            )
        with ExitStack() as stack, self._disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / _FACES, model.faces)
            names = (_FRAMES, _HANDS, _VERTICES) if vertices else (_FRAMES, _HANDS)
            self._files = {name: stack.enter_context(GrowingFile(folder / name, "w")) for name in names}
            about = {"format": FORMAT, "version": VERSION, "title": title, "fps": fps}
            (folder / _ABOUT).write_text(json.dumps({**about, "num_vertices": len(model.template)}))
            self._open = stack.pop_all()

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
        if self._keeps_vertices:
            self._files[_VERTICES].write(np.asarray(hand.vertices_m, "<f4").tobytes())
        self._files[_HANDS].write(hand_row(hand, self.frames).tobytes())

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            kept = f"; what was recorded is in {self.folder}" if self.frames else ""
            raise OutputError(f"cannot write to {self.folder}: {error.strerror or error}{kept}") from error

    @property
    def failed(self) -> bool:
        """Whether the disk refused something; what was written before stays readable."""
        return self._failed

    def close(self) -> None:
        """Close the files; the folder stays."""
        self._open.close()

    def remove(self) -> None:
        """Delete the folder, after it has become a file."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_spool(path: Path) -> bool:
    """Whether a recording that was not finished is there."""
    return (path / _ABOUT).is_file()


def read_spool(folder: Path, model: SkinnedHand) -> Clip:
    """The clip in a spool's folder, as far as it was written; its tables stay on the disk."""
    about = json.loads((folder / _ABOUT).read_text())
    if about.get("format") != FORMAT or about.get("version", 0) > VERSION:
        raise ClipError(f"{folder} is no recording of this version of handmesh: {about}")
    heads = list(_whole_lines(folder / _FRAMES))
    rows = _mapped(folder / _HANDS, HAND_ROW, ())
    rows = rows[: np.searchsorted(rows["frame"], len(heads))]
    vertices = None
    if (folder / _VERTICES).exists():
        vertices = _mapped(folder / _VERTICES, np.dtype("<f4"), (about["num_vertices"], 3))[: len(rows)]
    faces = np.load(folder / _FACES)
    return Clip(about["title"], about["fps"], heads, rows, faces, about["num_vertices"], vertices, model)


def _whole_lines(path: Path) -> Iterator[FrameHead]:
    with open(path, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return  # cut off in the middle of being written
            head = json.loads(line)
            yield FrameHead(head["name"], head["time_s"], Camera(**head["camera"]))


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """(M, *shape) the whole records of a file, read from the disk where they are used."""
    count = path.stat().st_size // (dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    if count == 0:
        return np.empty((0, *shape), dtype)
    return np.memmap(path, dtype, "r", shape=(count, *shape))


# Writes hands as a 3D file that other programs open the right way up.


WRITABLE = (".glb", ".obj", ".ply", ".stl")


def write_meshes(path: Path, hands: Sequence[Hand]) -> None:
    """Write the hands into one file, in metres, y up, the camera at the origin looking along -z.

    Raises OutputError for a suffix that is not in `WRITABLE`, for no hands at all, and for a path
    that cannot be written.
    """
    check_writable(path)
    if not hands:
        raise OutputError(f"cannot write {path}: there is no hand to write")
    import trimesh

    scene = trimesh.Scene()
    for hand in hands:
        mesh = hand.to_trimesh()
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=_rgba(hand))
        mesh.vertices = mesh.vertices * FROM_CAMERA  # glTF's axes are those of XR: y up, z towards the viewer
        name = f"{hand.side}_{hand.id}"
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    data = scene.export(file_type=path.suffix.lower()[1:])
    write_bytes(path, data.encode() if isinstance(data, str) else data)


def check_writable(path: Path) -> None:
    """Raise OutputError unless meshes can be written as the path's suffix says."""
    if path.suffix.lower() not in WRITABLE:
        raise OutputError(f"cannot write {path}: meshes are written as {', '.join(WRITABLE)}")


def _rgba(hand: Hand) -> np.ndarray:
    colour = [*(round(255 * channel) for channel in SIDE_COLOURS[hand.side]), 255]
    return np.tile(np.array(colour, np.uint8), (len(hand.vertices_m), 1))


# Clips to and from files, by suffix.


def read_clip(path: str | Path, model: SkinnedHand | None = None, vertices: bool = True) -> Clip:
    """Read a recorded clip: `.npz`, `.json`, or the `.part` folder that a recording which was killed leaves.

    model: the hand it was recorded with, by default the bundled one. vertices: whether to load recorded
    meshes; without them, meshes are posed anew when asked for. Raises ClipError where it cannot be read.
    """
    path, model = Path(path), model or SkinnedHand.open_hand()
    if is_spool(path):
        return read_spool(path, model)
    if not path.is_file():
        raise ClipError(f"no recorded clip at {path}")
    if path.suffix.lower() == ".npz":
        return read_npz(path, model, vertices)
    if path.suffix.lower() == ".json":
        return read_json(path, model)
    raise ClipError(f"cannot read {path}: a recorded clip is an .npz or .json file, or a .part folder")


def save_clip(clip: Clip, path: str | Path) -> Path:
    """Write a clip as the path's suffix says, whole or not at all; where it lies then.

    `.npz`: all parameters and, where the clip has them, meshes. `.json`: all parameters. `.glb`: the
    hands rigged and animated. No suffix: a folder with a `.glb` of every frame that shows a hand; `.obj`,
    `.ply` or `.stl`: the same folder, without the suffix, in that format. Raises OutputError.
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
    else:
        with output_errors(path), atomic_write(path) as part:
            (write_npz if path.suffix.lower() == ".npz" else write_json)(clip, part)
    return path


def save_rigged_hand(clip: Clip, path: str | Path, flat: bool = False) -> Path:
    """Write the hand that was seen longest, in its own shape and size, as a rigged `.glb` at rest.

    flat: joints side by side, as WebXR's `generic-hand` has them. Raises OutputError, also for a clip
    without hands.
    """
    path, tracks = Path(path), clip.tracks()
    if path.suffix.lower() != ".glb":
        raise OutputError(f"cannot write {path}: a rigged hand is written as .glb")
    if not tracks:
        raise OutputError(f"cannot write {path}: there is no hand in {clip.title or 'the clip'}")
    clip.check_model()
    track = max(tracks, key=lambda track: len(track.frames))
    shape = track.shapes.mean(0)
    write_bytes(path, rigged_glb(clip.model, shape, track.side, fit_rig(track, clip.model).scale, flat=flat))
    return path


def _animated(clip: Clip) -> bytes:
    clip.check_model()
    tracks = clip.tracks()
    if not tracks:
        raise OutputError(f"there is no hand in {clip.title or 'the clip'}, so there is nothing to animate")
    return animated_glb(tracks, clip.times_s, clip.model, SIDE_COLOURS)


def check_savable(path: Path) -> None:
    """Raise OutputError unless clips can be written as the path's suffix says."""
    if path.suffix.lower() not in (".npz", ".json", ".glb") and not is_mesh_folder(path):
        known = ", ".join((".npz", ".json", *WRITABLE))
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
    """The file to write (.npz, .json, .glb), or a folder for a mesh a frame: frames.obj is the folder `frames`."""
    rigged: bool = False
    """Write the hand that was seen longest at rest, in its own shape and size, ready to be posed, as .glb."""
    webxr: bool = False
    """The same with a flat skeleton, as WebXR's `generic-hand` has."""


def convert_clip(options: ConvertOptions) -> None:
    """`handmesh convert-clip`: read, write, and say where."""
    clip = read_clip(options.clip, vertices=options.output.suffix.lower() not in (".glb", ".json"))
    if options.rigged or options.webxr:
        written = save_rigged_hand(clip, options.output, flat=options.webxr)
    else:
        written = save_clip(clip, options.output)
    console.say(f"wrote {written}: {len(clip.heads)} frames, {len(clip.tracks())} hands")
