"""A clip as `.npz`: one array a field, for NumPy and whatever reads its files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from handmesh.runtime.media.clips.clip import FORMAT, HAND_ROW, VERSION, Clip, ClipError, FrameHead
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera


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
