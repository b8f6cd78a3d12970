"""MediaPipe Hands, to be judged and timed beside our networks: in a process of a Python that has it. No torch."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from handmesh.data.photos import LabelledHand, read_hand
from handmesh.evaluation import mediapipe_worker

MEDIAPIPE = "MediaPipe"

PYTHON = Path(".venv-mediapipe/bin/python")
"""Where MediaPipe's own environment is looked for; it holds NumPy back, so that it is not in ours."""


class MediaPipeUnavailable(RuntimeError):
    """There is no MediaPipe Hands to compare with; the message says why, and how to get it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}; MediaPipe needs an environment of its own, of Python 3.9 to 3.12: "
            f"`python3 -m venv .venv-mediapipe` and `.venv-mediapipe/bin/pip install mediapipe==0.10.21`, "
            f"or name its Python with --beside-python"
        )


class Seen(NamedTuple):
    """What MediaPipe says of an image."""

    hands: list[LabelledHand]
    wall_ms: float  # its own, without the way to its process and back


class MediaPipe:
    """MediaPipe Hands, full model, with its own defaults otherwise; see `mediapipe_worker`. It ends with this one."""

    def __init__(self, python: Path, num_hands: int, video: bool = False) -> None:
        """python: of an environment with mediapipe. video: whether images are frames that follow each other.

        Raises MediaPipeUnavailable where it cannot be started.
        """
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._python = python
        options = json.dumps({"num_hands": num_hands, "video": video})
        try:
            self._process = subprocess.Popen(
                [python, "-I", mediapipe_worker.__file__, options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            )  # fmt: skip
        except OSError as error:
            self._said.close()
            raise MediaPipeUnavailable(f"{python} cannot be started ({error.strerror})") from error
        try:
            self.version = self._answer("version")
        except BaseException:
            self.close()
            raise

    def see(self, image_rgb: np.ndarray) -> Seen:
        """The hands of an (H, W, 3) uint8 RGB image, not mirrored. Raises RuntimeError where the process has ended."""
        height, width = image_rgb.shape[:2]
        self._ask(json.dumps({"height": height, "width": width}).encode() + b"\n", image_rgb.tobytes())
        hands = self._answer("hands")
        return Seen([read_hand(hand) for hand in hands], self._last["wall_ms"])

    def processor_s(self) -> float:
        """The processor's time of all its threads since it was started."""
        self._ask(b"\n")
        return self._answer("processor_s")

    def _ask(self, *parts: bytes) -> None:
        try:
            for part in parts:
                self._process.stdin.write(part)
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def _answer(self, name: str) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        try:
            self._last = json.loads(line)
            if "error" in self._last:
                raise MediaPipeUnavailable(f"{self._python} has no MediaPipe Hands ({self._last['error']})")
            return self._last[name]
        except (ValueError, KeyError, TypeError):
            raise RuntimeError(f"{self._python} answered what is no {name} of MediaPipe's: {line[:80]!r}") from None

    def _ended(self) -> RuntimeError:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return RuntimeError(f"MediaPipe's process ({self._python}) ended with code {code}: {last[:200]}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> MediaPipe:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
