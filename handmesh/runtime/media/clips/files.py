"""Clips to and from files, by suffix."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from handmesh.gltf import animated_glb, rigged_glb
from handmesh.gltf.animation import fit_rig
from handmesh.render import SIDE_COLOURS
from handmesh.runtime.media import meshes
from handmesh.runtime.media.clips.clip import Clip, ClipError
from handmesh.runtime.media.clips.readable import read_json, write_json
from handmesh.runtime.media.clips.spool import is_spool, read_spool
from handmesh.runtime.media.clips.table import read_npz, write_npz
from handmesh.runtime.media.pictures import OutputError, make_folder, write_whole
from handmesh.skinning import SkinnedHand
from handmesh.structs import Hand


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
        write_whole(path, _animated(clip))
    else:
        _replace(path, lambda part: (write_npz if path.suffix.lower() == ".npz" else write_json)(clip, part))
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
    write_whole(path, rigged_glb(clip.model, shape, track.side, fit_rig(track, clip.model).scale, flat=flat))
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
        known = ", ".join((".npz", ".json", *meshes.WRITABLE))
        raise OutputError(f"cannot write {path}: clips are written as {known}, or into a folder")


def is_mesh_folder(path: Path) -> bool:
    """Whether the path stands for a folder of one mesh file a frame."""
    suffix = path.suffix.lower()
    return path.is_dir() or not suffix or (suffix in meshes.WRITABLE and suffix != ".glb")


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
            meshes.write_meshes(self.path / Path(name).with_suffix(self._suffix), hands)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` make the file beside its place, then move it there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
