"""Writes a session's hands to a file with all their parameters, frame by frame, and loses nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from handmesh.runtime.media.clips.clip import FrameHead
from handmesh.runtime.media.clips.files import MeshFolder, check_savable, is_mesh_folder, save_clip
from handmesh.runtime.media.clips.spool import SPOOL_SUFFIX, Spool, read_spool
from handmesh.runtime.media.frames import Frame
from handmesh.runtime.media.interrupts import uninterrupted
from handmesh.runtime.media.pictures import OutputError, make_folder
from handmesh.runtime.media.video_recorder import FrameClock
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand


@runtime_checkable
class Export(Protocol):
    """What all exports have in common."""

    path: Path

    def add(self, frame: Frame, hands: Sequence[Hand], camera: Camera) -> None:
        """Keep the hands of a frame, as `camera` saw it."""

    def close(self) -> None:
        """Finish the files."""


def open_export(
    path: str | Path, source_title: str = "", fps: float = 30.0, model: SkinnedHand | None = None
) -> Export:
    """An export to the file or folder that `path` names; see `clips.save_clip` for what a suffix means.

    fps: how far apart frames are where their clock does not say. model: the tracker's hand, by default the
    bundled one. Raises OutputError for another suffix, for a place that cannot be written to, and where
    a recording that was never finished is in the way.
    """
    path, model = Path(path), model or SkinnedHand.open_hand()
    check_savable(path)
    if is_mesh_folder(path):
        return MeshExport(path)
    return ClipExport(path, source_title, fps, model)


class MeshExport:
    """A mesh file for every frame with a hand."""

    def __init__(self, path: Path) -> None:
        self._folder = MeshFolder(path)
        self.path = self._folder.path

    def add(self, frame: Frame, hands: Sequence[Hand], camera: Camera) -> None:
        """Write the frame's hands, if there are any. Raises OutputError."""
        self._folder.write(frame.name, hands)

    def close(self) -> None:
        """Nothing is held open between frames."""


class ClipExport:
    """A clip in one file.

    It grows as a folder `NAME.part` beside it, whole after every frame: after a kill or a full disk,
    `scripts/convert_clip.py` makes a file of that. Closing makes the file and removes the folder.
    """

    def __init__(self, path: Path, title: str, fps: float, model: SkinnedHand) -> None:
        make_folder(path.parent)
        self.path = path
        self._model, self._clock, self._closed = model, FrameClock(fps), False
        keeps_meshes = path.suffix.lower() == ".npz"
        self._spool = Spool(path.with_name(path.name + SPOOL_SUFFIX), title, fps, model, keeps_meshes)

    def add(self, frame: Frame, hands: Sequence[Hand], camera: Camera) -> None:
        """Keep a frame; its time counts from the first one and always rises. Raises OutputError."""
        with uninterrupted():
            self._spool.add(FrameHead(frame.name, self._clock.shown_s(frame.time_s), camera), hands)

    def close(self) -> None:
        """Make the file; without a frame, nothing is left. Raises OutputError, and then the folder stays."""
        if self._closed:
            return
        self._closed = True
        with uninterrupted():
            self._spool.close()
            if self._spool.frames:
                self._finish()
            self._spool.remove()

    def _finish(self) -> None:
        clip = read_spool(self._spool.folder, self._model)
        if not len(clip.rows) and self.path.suffix.lower() == ".glb":
            self._spool.remove()
            raise OutputError(f"{self.path} was not written: no hand was seen")
        try:
            save_clip(clip, self.path)
        except OutputError as error:
            raise OutputError(f"{error}; what was recorded is in {self._spool.folder}") from error
