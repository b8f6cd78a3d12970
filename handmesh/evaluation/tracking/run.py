"""Film the sequences, let each preset follow them, score, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from handmesh import skeleton
from handmesh.evaluation.tracking.drawing import OverlayFilm
from handmesh.evaluation.tracking.footage import Footage, shoot
from handmesh.evaluation.tracking.matching import Followed, match
from handmesh.evaluation.tracking.options import TrackingOptions
from handmesh.evaluation.tracking.report import Report, Row, Speed, print_report, write_report
from handmesh.evaluation.tracking.scores import score
from handmesh.runtime.console import progress
from handmesh.runtime.smoothing import Smooth
from handmesh.runtime.tracker import HandTracker
from handmesh.structs import Hand, hand_length_m


class Track(NamedTuple):
    """One take as one preset followed it."""

    sequence: str
    take: int
    smooth: Smooth
    hands: list[Followed]


def run_tracking(options: TrackingOptions) -> Report:
    """Do all that `options` ask for; prints the tables and writes the files."""
    from handmesh.evaluation.tracking.plots import write_plot

    options.check()
    trackers = {smooth: _tracker(options, smooth) for smooth in options.smooth}
    report, tracks = Report.of(options), []
    with progress() as bar:
        for footage in _footage(options, bar):
            report.speeds.append(speed_of(footage))
            for smooth, said in follow(trackers, footage, options, bar).items():
                hands, false = match(footage.truth, said)
                report.rows.append(Row(footage.name, footage.take, smooth, score(hands, false)))
                tracks.append(Track(footage.name, footage.take, smooth, hands))
    print_report(Console(), report)
    files = write_report(options.output / "tracking.json", report)
    write_plot(files.with_suffix(".png"), report, tracks)
    Console().print(f"wrote {files} and {files.with_suffix('.png')}", highlight=False)
    return report


def _footage(options: TrackingOptions, bar: Progress) -> Iterator[Footage]:
    for name in options.chosen():
        for take in range(options.takes):
            yield shoot(name, take, options, bar)


def _tracker(options: TrackingOptions, smooth: Smooth) -> HandTracker:
    return HandTracker.load(options.model, num_hands=options.num_hands, smooth=smooth, threads=options.threads)


def follow(
    trackers: Mapping[Smooth, HandTracker], footage: Footage, options: TrackingOptions, bar: Progress
) -> dict[Smooth, list[list[Hand]]]:
    """Each tracker's hands in every frame; drawn into a video where `options` ask for it."""
    for tracker in trackers.values():
        tracker.reset()
        tracker.hand_size_m = hand_size_m(footage) if options.hand_size == "true" else None
    said: dict[Smooth, list[list[Hand]]] = {smooth: [] for smooth in trackers}
    task = bar.add_task(footage.title, total=len(footage.pngs))
    with ExitStack() as stack:
        drawn = {} if options.draw is None else {one: OverlayFilm(options.draw, footage, one) for one in trackers}
        films = {smooth: stack.enter_context(film) for smooth, film in drawn.items()}
        for k, frame in enumerate(footage.frames()):
            for smooth, tracker in trackers.items():
                said[smooth].append(tracker.track(frame.image_rgb, frame.time_s, footage.camera))
                if smooth in films:
                    films[smooth].add(k, frame, said[smooth][-1])
            bar.advance(task)
    bar.remove_task(task)
    return said


def hand_size_m(footage: Footage) -> float:
    """From the wrist along the bones to the middle finger's tip; all hands of a take are one person's."""
    return hand_length_m(footage.truth.joints_m[0, 0])


def speed_of(footage: Footage) -> Speed:
    """How fast the root joints of a take move, those outside the picture left out."""
    there = footage.truth.inside[1:] > 0.5
    steps_px = np.linalg.norm(np.diff(footage.truth.joints_px[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    steps_m = np.linalg.norm(np.diff(footage.truth.joints_m[:, :, skeleton.ROOT], axis=0), axis=-1)[there]
    rate = 1 / float(np.median(np.diff(footage.truth.times_s)))
    depth_m = footage.truth.joints_m[:, :, skeleton.ROOT, 2]
    return Speed(
        *(footage.name, footage.take, len(footage.truth.times_s), len(footage.truth.sides)),
        *(rate * float(steps_px.max()), 100 * rate * float(steps_m.max())),
        *(float(depth_m.min()), float(depth_m.max()), hand_size_m(footage)),
    )
