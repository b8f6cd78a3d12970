"""The recording that the user starts and stops with a key."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from handmesh.apps.keeping import Outputs, Writer, add_output
from handmesh.runtime.media.pictures import OutputError
from handmesh.runtime.media.recording import open_output


class ClipRecording:
    """A video at a time, each in a file of its own; or the one that was asked for from the start."""

    def __init__(self, outputs: Outputs, folder: Path, fps: float) -> None:
        self._outputs, self._folder, self._fps = outputs, folder, fps
        self._writer: Writer | None = None
        self._start_s = 0.0

    def start(self, path: Path) -> None:
        """Record from now on. Raises OutputError for what is no .mp4 or cannot be written."""
        if path.suffix.lower() != ".mp4":
            raise OutputError(f"cannot record to {path}: give a file as .mp4")
        self._writer = add_output(self._outputs, open_output(path, many=True, fps=self._fps))
        self._start_s = time.perf_counter()

    @property
    def since_s(self) -> float | None:
        """For how long it has been going on; None where nothing is being recorded."""
        return time.perf_counter() - self._start_s if self._writer else None

    def toggle(self) -> str:
        """Start or stop; a notice for the user."""
        if self._writer:
            ended, self._writer = self._writer, None
            ended.end()
            return f"recorded {ended.path}"
        path = self._folder / f"recording-{datetime.now():%Y%m%d-%H%M%S}.mp4"
        try:
            self.start(path)
        except OutputError as error:
            return str(error)
        return f"recording {path}"
