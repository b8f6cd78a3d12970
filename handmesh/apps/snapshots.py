"""Snapshots: what is seen as a picture, and the hands beside it as meshes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np

from handmesh.runtime.media.meshes import write_meshes
from handmesh.runtime.media.pictures import write_picture
from handmesh.structs import Hand


class Snapshots:
    """Writes them beside the loop, which does not wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="snapshots")  # starts with the first
        self._running: list[Future[list[Path]]] = []
        self.saved: list[Path] = []
        """What was written so far."""

    def take(self, picture_rgb: np.ndarray, hands: Sequence[Hand]) -> None:
        """Have a picture and its hands written."""
        name = f"snapshot-{datetime.now():%Y%m%d-%H%M%S-%f}"
        self._running.append(self._worker.submit(_write, self._folder / name, picture_rgb, list(hands)))

    def news(self) -> list[str]:
        """A line for each snapshot that was finished since the last call, or could not be written."""
        finished = [future for future in self._running if future.done()]
        self._running = [future for future in self._running if future not in finished]
        return [self._told(future) for future in finished]

    def _told(self, future: Future[list[Path]]) -> str:
        try:
            paths = future.result()
        except (OSError, ValueError) as error:
            return str(error)
        self.saved += paths
        return f"saved {paths[0]}" + (" and .glb" if len(paths) > 1 else "")

    def close(self) -> list[str]:
        """Wait for the last ones, and tell of them."""
        self._worker.shutdown()
        return self.news()


def _write(path: Path, picture_rgb: np.ndarray, hands: Sequence[Hand]) -> list[Path]:
    """Write `path`.png, and `path`.glb where there are hands; the paths."""
    written = [path.with_suffix(".png")]
    write_picture(written[0], picture_rgb)
    if hands:
        written.append(path.with_suffix(".glb"))
        write_meshes(written[1], hands)
    return written
