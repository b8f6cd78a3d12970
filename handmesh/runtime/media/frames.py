"""What all sources give and have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class SourceError(ValueError):
    """A source that cannot be opened or gives no frames; the message is one line that names it."""


class Frame(NamedTuple):
    """One picture of a source."""

    name: str  # the file's path below the source, or the frame's number
    time_s: float
    image_rgb: np.ndarray  # (H, W, 3) uint8
    shrink: int = 1  # pixels of the file, along each side, to one of `image_rgb`
    captured_s: float | None = None  # `time.perf_counter()` when it came in; None where it comes from a file


@runtime_checkable
class Source(Protocol):
    """What all sources have in common. Iterating over one gives its frames, once."""

    title: str
    live: bool  # frames come when they come, and those not taken in time are gone
    stills: bool  # frames have nothing to do with one another
    length: int | None  # how many frames there should be, where that is known
    fps: float
    troubles: list[str]  # a line for each thing that was skipped or went wrong on the way

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Give the camera or file back."""
