"""The page beside MediaPipe Tasks, in one headless Chromium: how soon each is ready, and two hands' frames a second.

`python tests/web/beside_mediapipe.py --tasks FOLDER --wheel FILE` with what the page itself does not use:

    npm install --prefix FOLDER @mediapipe/tasks-vision
    pip download mediapipe==0.10.21 --no-deps --only-binary=:all: --python-version 3.11

MediaPipe's hand_landmarker.task, which neither registry has, is put together from the two full models of the wheel.
Every round opens each page in a browser with an empty profile (cold), tracks the clip's two hands there, and opens it
twice more (warm). Rounds take turns, so that what else runs on the machine strikes all alike. Times are the page's own,
from the beginning of its navigation; processor time is that of all processes of the browser, pictures that are decoded
for it included. MediaPipe runs on its CPU delegate. Nothing is drawn. Linux only, for /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
import web_workspace
from chromium import Page, browsing

from handmesh.assets import DEMO_CLIP
from handmesh.video.sources import Video

MEDIAPIPE = "MediaPipe"
PATIENCE_S = 600
CLIP_FROM, CLIP_FRAMES = 150, 90  # two hands, one shape after the other
MODELS = {
    "palm_detection/palm_detection_full": "hand_detector",
    "hand_landmark/hand_landmark_full": "hand_landmarks_detector",
}
MEDIAPIPE_PAGE = """<!doctype html>
<title>MediaPipe Tasks</title>
<script type="module">
  import { FilesetResolver, HandLandmarker } from './vision_bundle.mjs';
  const files = await FilesetResolver.forVisionTasks('wasm');
  const baseOptions = { modelAssetPath: 'hand_landmarker.task', delegate: 'CPU' };
  window.tracker = await HandLandmarker.createFromOptions(files, { baseOptions, runningMode: 'VIDEO', numHands: 2 });
  performance.mark('ready');
</script>
"""
MEDIAPIPE_RUN = """
async (frames) => {
  const reports = [];
  for (const { url, timeS } of frames) {
    const image = await createImageBitmap(await (await fetch(url)).blob());
    const start = performance.now();
    const { landmarks } = tracker.detectForVideo(image, 1000 * timeS);
    reports.push({ hands: landmarks, waitedMs: performance.now() - start });
    image.close();
  }
  return { frames: reports };
}
"""
READY = "performance.getEntriesByName('ready')[0]?.startTime"


@dataclass(frozen=True)
class Options:
    """How soon the page is ready and how fast it tracks, beside MediaPipe Tasks in the same browser."""

    tasks: Path
    """The folder where `npm install` put @mediapipe/tasks-vision."""
    wheel: Path
    """The wheel of mediapipe 0.10.21."""
    page: tuple[Path, ...] = ()
    """Built pages to compare, several for before and after; built anew where none is given."""
    models: tuple[str, ...] = ("fast", "balanced")
    query: str = "provider=wasm"
    """What else the page's address says."""
    rounds: int = 5
    frames: int = 45
    """How many are tracked; the first third warms up."""
    output: Path | None = None
    """Keep every figure in this .json file."""


class Candidate(NamedTuple):
    """A page that tracks two hands, and what runs in it."""

    name: str
    address: str
    run: str
    """A function of frames, as `handmesh.run` is."""


Figures = dict[str, list[float]]
"""By the figure's name, one a round."""


def mediapipe_site(folder: Path, options: Options) -> Path:
    """MediaPipe's own files and a page that loads them, and the .task of the wheel's models."""
    package = options.tasks / "node_modules" / "@mediapipe" / "tasks-vision"
    shutil.copytree(package / "wasm", folder / "wasm")
    shutil.copy(package / "vision_bundle.mjs", folder)
    with zipfile.ZipFile(options.wheel) as wheel, zipfile.ZipFile(folder / "hand_landmarker.task", "w") as task:
        for source, name in MODELS.items():
            task.writestr(f"{name}.tflite", wheel.read(f"mediapipe/modules/{source}.tflite"))
    (folder / "index.html").write_text(MEDIAPIPE_PAGE)
    return folder


def processor_s() -> float:
    """What all processes below this one have computed so far."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid], spent[pid] = int(fields[1]), sum(map(int, fields[11:15]))  # with the children that ended
    ours = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= below
    return sum(spent[pid] for pid in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def visit(page: Page, candidate: Candidate) -> tuple[float, float]:
    """Seconds until the page is ready, and those that processors worked on it."""
    before_s = processor_s()
    page.open(candidate.address)
    page.wait_for(READY, PATIENCE_S)
    spent_s = processor_s() - before_s
    return page.value(READY) / 1000, spent_s


def track(page: Page, candidate: Candidate, frames: list[dict]) -> list[dict]:
    """What becomes of frames."""
    page.value(f"void ({candidate.run})({json.dumps(frames)}).then((answer) => window.answer = answer)")
    page.wait_for("window.answer", PATIENCE_S)
    answer = page.value("window.answer.frames.map(({ hands, waitedMs }) => ({ hands: hands.length, waitedMs }))")
    page.value("delete window.answer")
    return answer


def play(candidate: Candidate, count: int, figures: Figures) -> None:
    """One round of one candidate."""
    frames = [{"url": f"frames/{k % CLIP_FRAMES}.png", "timeS": 1 + k / 30} for k in range(count)]
    with browsing() as page:
        ready_s, spent_s = visit(page, candidate)
        figures["ready, cold: s"].append(ready_s)
        figures["ready, cold: processor s"].append(spent_s)
        first = track(page, candidate, frames[:1])[0]
        figures["first hands, cold: s"].append(ready_s + first["waitedMs"] / 1000)
        track(page, candidate, frames[1 : count // 3])
        before_s = processor_s()
        timed = track(page, candidate, frames[count // 3 :])
        figures["two hands: processor ms a frame"].append(1000 * (processor_s() - before_s) / len(timed))
        figures["two hands: ms a frame"].append(statistics.median(frame["waitedMs"] for frame in timed))
        figures["frames with two hands: %"].append(100 * statistics.mean(frame["hands"] == 2 for frame in timed))
        for _ in range(2):
            page.open("about:blank")
            ready_s, spent_s = visit(page, candidate)
        figures["ready, warm: s"].append(ready_s)
        figures["ready, warm: processor s"].append(spent_s)
        first = track(page, candidate, frames[:1])[0]
        figures["first hands, warm: s"].append(ready_s + first["waitedMs"] / 1000)


def table(measured: dict[str, Figures]) -> Table:
    """Medians of all rounds, and the median of each round's ratio to MediaPipe."""
    shown = Table(title="Medians (in brackets, the median of the rounds' ratios to MediaPipe)")
    shown.add_column("")
    for name in measured:
        shown.add_column(name, justify="right")
    beside = measured[MEDIAPIPE]
    for figure in beside:
        cells = []
        for name, figures in measured.items():
            ratio = statistics.median(a / b for a, b in zip(figures[figure], beside[figure], strict=True))
            cells.append(f"{statistics.median(figures[figure]):.2f}" + (f" ({ratio:.2f})" if name != MEDIAPIPE else ""))
        shown.add_row(figure, *cells)
    return shown


def main(options: Options) -> None:
    """Measure, print, keep."""
    images = [frame.image_rgb for frame in islice(Video(DEMO_CLIP), CLIP_FROM, CLIP_FROM + CLIP_FRAMES)]
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        pages = list(options.page)
        if not pages:
            pages = [Path(temporary, "page")]
            web_workspace.build("browser", pages[0])
        theirs = Path(temporary, "mediapipe")
        theirs.mkdir()
        sites = [*pages, mediapipe_site(theirs, options)]
        addresses = []
        for site in sites:
            (site / "frames").mkdir(exist_ok=True)
            for k, image in enumerate(images):
                cv2.imwrite(str(site / "frames" / f"{k}.png"), image[..., ::-1])
            addresses.append(stack.enter_context(web_workspace.serving(site, keeps=True)).address)
        candidates = [
            Candidate(
                f"{model}{f', {site.name}' if len(pages) > 1 else ''}",
                f"{address}?model={model}&{options.query}",
                "(frames) => handmesh.run(frames, false)",
            )
            for model in options.models
            for site, address in zip(pages, addresses[:-1], strict=True)
        ]
        candidates.append(Candidate(MEDIAPIPE, addresses[-1], MEDIAPIPE_RUN))
        measured = {candidate.name: defaultdict(list) for candidate in candidates}
        for k in range(options.rounds):
            for candidate in candidates if k % 2 else candidates[::-1]:
                play(candidate, options.frames, measured[candidate.name])
            print(f"round {k + 1} of {options.rounds}, load average {os.getloadavg()[0]:.1f}", flush=True)
            Console(width=160).print(table(measured))
            if options.output:
                options.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
