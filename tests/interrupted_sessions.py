"""Whole short recordings, each struck by Ctrl-C at a moment of its own: `python tests/interrupted_sessions.py ROUNDS`.

Every round must end, and leave either nothing or files that are whole. The last line counts what was left.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from posed_hand import FakeTracker

from handmesh import console
from handmesh.app import webcam as app
from handmesh.types import Frame
from handmesh.video.sinks import VideoRecorder
from handmesh.video.sources import Video

FRAMES, HUNG_S = 24, 60


def clip(path: Path) -> None:
    recorder = VideoRecorder(path, 30)
    for k in range(FRAMES):
        recorder.write(Frame(str(k), k / 30, np.zeros(0)), np.full((48, 64, 3), 9 * k, np.uint8))
    recorder.close()


def struck(work: Callable[[], int], after_s: list[float]) -> int:
    """The exit code of `work`, to which Ctrl-C comes at these moments, as long as it runs."""
    over = threading.Event()

    def strike() -> None:
        for pause_s in after_s:
            if over.wait(pause_s):
                return
            os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        code = work()
    except KeyboardInterrupt:  # it came before the command began, or after it had ended
        code = console.INTERRUPTED
    over.set()
    try:
        striker.join(10)
    except KeyboardInterrupt:
        striker.join(10)
    return code


def session(folder: Path) -> int:
    options = app.Options(
        source=("clip.mp4",), record=folder / "v.mp4", export=folder / "h.json", output=folder / "o", window=False
    )
    return console.guarded(lambda: app.run(options, lambda _: FakeTracker()))


def left(folder: Path) -> int:
    """How many frames were kept; all files must agree, and none be left unfinished."""
    assert not list(folder.rglob("*part*")), list(folder.rglob("*"))
    if not (folder / "v.mp4").exists():
        assert not (folder / "h.json").exists()
        return 0
    video = Video(folder / "v.mp4")
    counts = {
        len(list(video)),
        len(json.loads((folder / "h.json").read_text())["frames"]),
        len(json.loads((folder / "o" / "hands.json").read_text())),
        len(list((folder / "o").glob("*.jpg"))),
    }
    assert len(counts) == 1 and not video.warnings, (counts, video.warnings)
    return counts.pop()


def main(rounds: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    dice, counts, codes = random.Random(0), Counter(), Counter()
    os.chdir(tempfile.mkdtemp(prefix="interrupted"))
    clip(Path("clip.mp4"))
    assert session(Path("first")) == 0 and left(Path("first")) == FRAMES  # compiles what is compiled once
    start_s = time.perf_counter()
    session(Path("second"))
    usual_s = time.perf_counter() - start_s
    for _ in range(rounds):
        faulthandler.dump_traceback_later(HUNG_S, exit=True)
        moments_s = [dice.uniform(0, usual_s), dice.uniform(0, usual_s / 10)][: dice.choice([1, 1, 2])]
        codes[struck(lambda: session(Path("out")), moments_s)] += 1
        faulthandler.cancel_dump_traceback_later()
        counts[left(Path("out")) if Path("out").exists() else 0] += 1
        shutil.rmtree("out", ignore_errors=True)
    shutil.rmtree(Path.cwd())
    part = sum(count for frames, count in counts.items() if 0 < frames < FRAMES)
    print(f"{rounds} rounds: nothing {counts[0]}, a part {part}, all {counts[FRAMES]}; exit codes {dict(codes)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
