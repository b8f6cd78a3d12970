"""A Python with a MediaPipe of its own, for tests: it finds what an image's first pixel tells it to."""

from __future__ import annotations

import sys
from pathlib import Path

VERSION = "0.10.0"
QUITS, SPINS = 7, 9
"""In an image's first pixel: at which red the process ends with a complaint, and is busy for `SPIN_S`."""

SPIN_S = 0.08

_MODULE = f"""
import json, sys, time
from pathlib import Path
from types import SimpleNamespace

__version__ = {VERSION!r}
print("a library that prints")

class Hands:
    def __init__(self, **options):
        self.count = options["max_num_hands"]
        with open(Path(__file__).with_name("options"), "a") as file:
            file.write(json.dumps(options) + "\\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def process(self, image):
        print("and prints again")
        red, green, blue = image[0, 0].tolist()
        if red == {QUITS}:
            sys.exit("out of hands")
        end = time.process_time() + (red == {SPINS}) * {SPIN_S}
        while time.process_time() < end:
            pass
        def points(x, y):
            return SimpleNamespace(landmark=[SimpleNamespace(x=x + k / 40, y=y, z=k / 100) for k in range(21)])
        found = range(self.count if image.any() else 0)
        said = [SimpleNamespace(classification=[SimpleNamespace(label="LR"[k] + ("eft", "ight")[k], score=0.875)])
                for k in found]
        return SimpleNamespace(
            multi_hand_landmarks=[points(green / 200, blue / 200) for _ in found] or None,
            multi_hand_world_landmarks=[points(0.0, 0.0) for _ in found] or None,
            multi_handedness=said or None,
        )

solutions = SimpleNamespace(hands=SimpleNamespace(Hands=Hands))
"""


def fake_python(folder: Path, module: str = _MODULE) -> Path:
    """An executable that runs a script as Python does, where `import mediapipe` gives `module`.

    Of the hands that it finds in an image that is not black, as many as asked for, the first is called Left. The
    wrist lies at (green, blue) / 200 of the first pixel, the other joints to its right. What it was asked to be is
    a line of `options` in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mediapipe.py").write_text(module)
    code = f"import runpy, sys; sys.argv = sys.argv[2:]; sys.path.insert(0, {str(folder)!r})"
    return executable(
        folder / "python", f"#!{sys.executable}\n{code}\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )


def executable(path: Path, text: str) -> Path:
    """A script that can be run."""
    path.write_text(text)
    path.chmod(0o755)
    return path
