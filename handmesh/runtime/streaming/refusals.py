"""The log of what was refused: one line each, and no more lines than a person can read."""

from __future__ import annotations

import time
from collections.abc import Callable

Note = Callable[[str], None]
"""Takes a line for the user."""

_LINES_A_SECOND = 5


class Notes:
    """Passes lines on, at most five in a second; then says how many there were more."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._second = 0
        self._lines = 0

    def __call__(self, line: str) -> None:
        """Say `line`, unless this second has had its share."""
        second = int(time.monotonic())
        if second != self._second:
            unsaid = self._lines - _LINES_A_SECOND
            if unsaid > 0:
                self._note(f"{unsaid} more lines like these within a second")
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            self._note(line)
