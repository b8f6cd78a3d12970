"""Writes hands as a 3D file that other programs open the right way up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handmesh.render import SIDE_COLOURS
from handmesh.runtime.media.pictures import OutputError, write_whole
from handmesh.structs import Hand
from handmesh.xr.poses import FROM_CAMERA

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
    write_whole(path, data.encode() if isinstance(data, str) else data)


def check_writable(path: Path) -> None:
    """Raise OutputError unless meshes can be written as the path's suffix says."""
    if path.suffix.lower() not in WRITABLE:
        raise OutputError(f"cannot write {path}: meshes are written as {', '.join(WRITABLE)}")


def _rgba(hand: Hand) -> np.ndarray:
    colour = [*(round(255 * channel) for channel in SIDE_COLOURS[hand.side]), 255]
    return np.tile(np.array(colour, np.uint8), (len(hand.vertices_m), 1))
