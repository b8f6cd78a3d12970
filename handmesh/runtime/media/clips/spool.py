"""A recording while it grows: a folder beside the file it will become, complete after every frame.

`clip.json` says what it is, `frames.jsonl` has a line a frame, `hands.bin` a `HAND_ROW` a hand and
`vertices.bin` its mesh. What a killed process leaves can be read; memory does not grow with time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from handmesh.runtime.media.clips.clip import FORMAT, HAND_ROW, VERSION, Clip, ClipError, FrameHead, hand_row
from handmesh.runtime.media.pictures import OutputError
from handmesh.runtime.media.video_recorder import GrowingFile
from handmesh.skinning import SkinnedHand
from handmesh.structs import Camera, Hand

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
                f"`python scripts/convert_clip.py {folder} --out FILE`, or delete it"
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
