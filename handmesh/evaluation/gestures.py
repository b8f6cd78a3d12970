"""`handmesh evaluate gestures`: which gestures of rendered hands are read, from true joints and from the tracker's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from handmesh.assets import DEFAULT, detector_path, model_path
from handmesh.crop import crop_affine, warp
from handmesh.detection import Detector
from handmesh.evaluation.metrics import match_joints
from handmesh.evaluation.report import UNKNOWN, Headline, Image, Report, Section, Table, setting_of
from handmesh.evaluation.review import tiled
from handmesh.geometry import mirror_points_m, project
from handmesh.gestures import FINGERS, PINCH_ENDS, Gesture, GestureReader, Reading, SeenHand
from handmesh.hand.poses import FRACTIONS, PoseSampler, sample_view
from handmesh.render.overlay import draw_skeleton
from handmesh.skeleton import Joint
from handmesh.synthetic.generator import Generator, Sources
from handmesh.synthetic.renderer import draw_light
from handmesh.synthetic.scene import HandInstance, aim
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Box, Camera, Side, hand_length_m

MEASURED_SEED, TUNED_SEED = 20261, 15
"""Hands that are reported on, and those that the bounds of `handmesh.gestures` were chosen on: none is of both."""

DRAWN: tuple[Gesture, ...] = ("pinch", "point", "thumb up", "fist", "open")
OTHER: Gesture = ""
"""A pose that is no pinch, of whatever else the generator knows."""

SIZE_PX = 320
COVER = (0.4, 0.6)  # of the image, by the longer side of the joints' box
UP_DEG = 35.0  # from upwards in the image, the last phalanx of a thumb that is held up

TRUTH, BOX, TRACKER = "true joints", "box given", "tracker"
WAYS = (TRUTH, BOX, TRACKER)
"""Where the joints come from: the rendered hand; the mesh network with the true box and side; detector and network."""


class RenderedHand(NamedTuple):
    """One hand alone, and all that is true of it."""

    drawn: Gesture
    image: np.ndarray  # (SIZE_PX, SIZE_PX, 3) uint8 RGB
    camera: Camera
    side: Side
    joints_m: np.ndarray  # (21, 3), the camera's frame
    id: int = 0

    @property
    def joints_px(self) -> np.ndarray:
        """(21, 2)"""
        return project(self.joints_m, self.camera)


class Answer(NamedTuple):
    """What is read of one hand in one way."""

    hand: SeenHand | None  # None where no hand was found
    reading: Reading | None

    @property
    def gesture(self) -> Gesture | None:
        """None where no hand was found."""
        return self.reading.gesture if self.reading else None


class HandSource:
    """Draws single hands in a gesture: two thirds of them palm or back first, the rest from anywhere."""

    def __init__(self, seed: int, sources: Sources | None = None) -> None:
        self._seed, self._generator = seed, Generator(sources)
        self._poses = PoseSampler(self._generator.stage.arm.rest_joints, {**FRACTIONS, "pinch": 0.0})

    def draw(self, drawn: Gesture, index: int) -> RenderedHand:
        """The hand `index` of that gesture; every second one is a left hand. Equal seeds give equal hands."""
        generator = self._generator
        rng = np.random.default_rng([self._seed, [*DRAWN, OTHER].index(drawn), index])
        actor = generator.draw_actor(rng, None)
        self._pose(rng, actor, drawn)
        actor, posed, camera = aim(rng, generator.stage.arm, actor, generator.stage.pose([actor])[0], SIZE_PX, COVER)
        scene = generator.stage.render_scene([(actor, posed)], camera, draw_light(rng, generator.environments))
        image, joints, side = generator.simulate_sensor(scene.rgba, rng), posed.joints.astype(np.float64), "right"
        if index % 2:
            image, joints, side = np.ascontiguousarray(image[:, ::-1]), mirror_points_m(joints), "left"
            camera = replace(camera, cx=SIZE_PX - 1 - camera.cx)
        return RenderedHand(drawn, image, camera, side, joints)

    def _pose(self, rng: np.random.Generator, actor: HandInstance, drawn: Gesture) -> None:
        """Write the fingers' and the hand's rotations into the actor's; a thumb up is seen as one that is up."""
        rotations = actor.rotations
        while True:
            rotations[1:] = self._poses.sample(rng, drawn or None)
            rotations[0] = np.eye(3)
            joints = self._generator.stage.pose([actor])[0].joints.astype(np.float64)
            if drawn != OTHER or not _may_pinch(joints):
                break
        thumb = joints[Joint.THUMB_TIP] - joints[Joint.THUMB_IP]
        least = np.cos(np.radians(UP_DEG)) * np.linalg.norm(thumb) if drawn == "thumb up" else -np.inf
        rotations[0] = sample_view(rng)
        while -(rotations[0] @ thumb)[1] < least:
            rotations[0] = sample_view(rng)


def _may_pinch(joints_m: np.ndarray) -> bool:
    """Whether a pinch that was there would go on: such a pose is neither a pinch nor none."""
    hand = RenderedHand(OTHER, np.empty(0), Camera(1, 1, 0, 0, 1, 1), "right", joints_m)
    return bool(GestureReader(PINCH_ENDS, PINCH_ENDS).read([hand])[0].pinches)


class Reader:
    """Reads a rendered hand in all three ways."""

    def __init__(self, model: str = DEFAULT, threads: int | None = None) -> None:
        self.path = model_path(model)
        self.session = open_session(self.path, "mesh", threads)
        self._estimator = Estimator(self.session)
        detector = Detector(open_session(detector_path(), "detector", threads))
        self._tracker = HandTracker(self._estimator, detector)

    def read(self, hand: RenderedHand) -> dict[str, Answer]:
        """By `WAYS`. Neither a video nor what was read before counts."""
        given = self._estimator.estimate(hand.image, hand.camera, Box.around(hand.joints_px), hand.side)
        found = self._tracker.detect(hand.image, hand.camera)
        match = match_joints([one.joints_px for one in found], [hand.joints_px]).get(0)
        seen = (hand, given and given.hand, None if match is None else found[match])
        return {
            way: Answer(one, None if one is None else GestureReader().read([one])[0])
            for way, one in zip(WAYS, seen, strict=True)
        }


# What the readings come to.


class Case(NamedTuple):
    """A rendered hand, of which only its tile is kept, and what was read of it."""

    drawn: Gesture
    answers: dict[str, Answer]
    tile: np.ndarray  # (TILE_PX, TILE_PX, 3) uint8 RGB, with the tracker's joints

    @property
    def finger(self) -> int:
        """Which of FINGERS is nearest to the thumb in truth."""
        return int(self.answers[TRUTH].reading.pinch_distances.argmin())

    def pinches(self, way: str) -> bool | None:
        """Whether any finger is read as pinching; None where no hand was found."""
        reading = self.answers[way].reading
        return None if reading is None else bool(reading.pinches)

    def distance_mm(self, way: str) -> float:
        """Between the phalanges that pinch in truth, on a hand of its true length; NaN where no hand was found."""
        reading = self.answers[way].reading
        length_mm = 1000 * hand_length_m(self.answers[TRUTH].hand.joints_m)
        return np.nan if reading is None else float(length_mm * reading.pinch_distances[self.finger])


TILE_PX, COLUMNS = 144, 10


def read_case(reader: Reader, hand: RenderedHand) -> Case:
    """Read a hand in all ways."""
    answers = reader.read(hand)
    tile = warp(hand.image, crop_affine(Box((SIZE_PX / 2 - 0.5, SIZE_PX / 2 - 0.5), SIZE_PX), TILE_PX), TILE_PX)
    found = answers[TRACKER].hand
    if found is not None:
        draw_skeleton(tile, found.joints_px * (TILE_PX / SIZE_PX))
    return Case(hand.drawn, answers, tile)


def fractions(cases: Sequence[Case], way: str) -> dict[str, float]:
    """In one way: of each gesture's hands the fraction read as it, of the others that of false pinches.

    A hand that is not found counts as read wrongly among the gestures, and as no pinch among the others. A pinch is
    found where any finger pinches.
    """
    found = {}
    for drawn in (*DRAWN, OTHER):
        of = [case for case in cases if case.drawn == drawn]
        if of:
            right = [bool(c.pinches(way)) if drawn in ("pinch", OTHER) else c.answers[way].gesture == drawn for c in of]
            found[drawn or "false pinches"] = float(np.mean(right))
    return found


def found_table(cases: Sequence[Case]) -> Table:
    """What is read, by gesture and way."""
    by_way = {way: fractions(cases, way) for way in WAYS}
    rows = []
    for name in by_way[TRUTH]:
        of = [case for case in cases if (case.drawn or "false pinches") == name]
        lost = np.mean([case.answers[TRACKER].hand is None for case in of])
        rows.append((name, str(len(of)), *(f"{by_way[way][name]:.1%}" for way in WAYS), f"{lost:.1%}"))
    note = "Without a hand no gesture is found. False pinches are counted among poses that are none."
    return Table("Read as drawn", ("gesture", "hands", *WAYS, "no hand found"), rows, note=note)


def distance_table(cases: Sequence[Case]) -> Table:
    """How far apart the phalanges that pinch are told to be, by way."""
    pinches = [case for case in cases if case.drawn == "pinch"]
    rows = []
    for way in WAYS:
        distances = [one for one in (case.distance_mm(way) for case in pinches) if np.isfinite(one)]
        right = [FINGERS[case.finger] in reading.pinches for case in pinches if (reading := case.answers[way].reading)]
        quartiles = [f"{one:.1f}" for one in np.percentile(distances, (10, 50, 90))] if distances else [UNKNOWN] * 3
        rows.append((way, str(len(distances)), *quartiles, f"{np.mean(right):.1%}" if right else UNKNOWN))
    columns = ("pinches: joints from", "hands", "10 %, mm", "median, mm", "90 %, mm", "that finger pinches")
    return Table("Between the phalanges that pinch", columns, rows)


def _by_distance(answer: Answer) -> bool:
    return bool(GestureReader().read([replace(answer.hand, contact=None)])[0].pinches)


def _by_contact(answer: Answer) -> bool:
    return bool(answer.hand.contact.max() > 0.5)


def _by_both(answer: Answer) -> bool:
    return bool(answer.reading.pinches)


_EVIDENCE: dict[str, Callable[[Answer], bool]] = {
    "the distance alone": _by_distance,
    "contact alone, likelier than not": _by_contact,
    "both, as they are read": _by_both,
}
"""By what a hand may be said to pinch; the latter two where the network tells contact."""


def evidence_table(cases: Sequence[Case]) -> Table:
    """What each kind of evidence finds of the pinches, and how often it sees one where there is none."""
    tells = any(hand is not None and hand.contact is not None for case in cases for hand in [case.answers[BOX].hand])
    rows = []
    for name, pinches in _EVIDENCE.items():
        cells, known = [], cases if tells or pinches is _by_distance else []
        for way in (BOX, TRACKER):
            for drawn in ("pinch", OTHER):
                answers = [case.answers[way] for case in known if case.drawn == drawn]
                told = [answer.hand is not None and pinches(answer) for answer in answers]
                cells.append(f"{np.mean(told):.1%}" if told else UNKNOWN)
        rows.append((name, *cells))
    columns = ("pinches, told by", *(f"{way}: {of}" for way in (BOX, TRACKER) for of in ("found", "false")))
    note = "" if tells else "This network does not tell contact: pinches are read off the distance alone."
    return Table("What pinches are told by", columns, rows, note=note)


def sheet(cases: Sequence[Case], wrong: bool) -> np.ndarray | None:
    """(H, W, 3) the tracker's readings, right or `wrong`, as tiles with what was read; None where there are none."""
    tiles = []
    for drawn in (*DRAWN, OTHER):
        of = [case for case in cases if case.drawn == drawn and _is_wrong(case) == wrong]
        tiles += [(case.tile, f"{drawn or 'other'}: {_told(case)}") for case in of[:COLUMNS]]
    return tiled(tiles, COLUMNS, 4) if tiles else None


def _is_wrong(case: Case) -> bool:
    if case.drawn in ("pinch", OTHER):
        return bool(case.pinches(TRACKER)) != (case.drawn == "pinch")
    return case.answers[TRACKER].gesture != case.drawn


def _told(case: Case) -> str:
    gesture = case.answers[TRACKER].gesture
    return "no hand" if gesture is None else gesture or "none"


# The command.


@dataclass(frozen=True)
class GesturesOptions:
    """Measure which gestures are read of rendered hands: pinch, point, thumb up, fist, open; and false pinches.

    Each hand is read from its true joints, from the mesh network's with the true box and side given, and from the
    whole tracker's, which tells a rule that fails from a network that does. Every second hand is a left one, before
    procedural backgrounds, two thirds seen from the palm or the back, the rest from anywhere; thumbs up are up.
    """

    output: Path
    """Folder for report.html, report.md, gestures.json and images of what was read."""
    model: str = DEFAULT
    """The mesh network: a bundled one by name, or the path of an exported .onnx file."""
    count: int = 48
    """Hands of each gesture."""
    others: int = 500
    """Other poses, none of them a pinch."""
    seed: int = MEASURED_SEED
    """Another one gives other hands; nothing was tuned on these."""
    threads: int | None = None
    """Cores that the networks may use. Default: all but one."""

    def __post_init__(self) -> None:
        for name in ("count", "others"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")


def evaluate_gestures(options: GesturesOptions) -> None:
    """Draw, read, and write the report. Raises ModelFileError where the model is none."""
    reader, source = Reader(options.model, options.threads), HandSource(options.seed)
    counts = dict.fromkeys(DRAWN, options.count) | {OTHER: options.others}
    order = [(drawn, index) for drawn, count in counts.items() for index in range(count)]
    cases = [
        read_case(reader, source.draw(drawn, index)) for drawn, index in track(order, "reading hands", transient=True)
    ]
    report = report_of(cases, reader, options)
    report.publish(options.output, {"gestures.json": {way: fractions(cases, way) for way in WAYS}})


def report_of(cases: Sequence[Case], reader: Reader, options: GesturesOptions) -> Report:
    """The tables and the sheets."""
    sheets = {"read right": sheet(cases, wrong=False), "read wrong": sheet(cases, wrong=True)}
    images = [Image.of_image(name, one, name) for name, one in sheets.items() if one is not None]
    of_tracker = fractions(cases, TRACKER)
    setting = setting_of(reader.path, reader.session, options.threads).described()
    return Report(
        title="Gestures of rendered hands",
        subtitle=f"{reader.path.stem}: {len(cases)} hands of seed {options.seed}, {SIZE_PX} pixels a side",
        setting=setting | {"seed": options.seed},
        sections=[
            Section("What is read", [found_table(cases), distance_table(cases), evidence_table(cases)]),
            Section("Hands, the tracker's joints, and what it reads", images=images),
        ],
        headline=[Headline(name, f"{100 * value:.1f}", "%") for name, value in of_tracker.items()],
        notes=[
            "A pose is a pinch where the generator lays the pads of thumb and finger on one another. Other poses are "
            "drawn from everything else it knows, as often as for training, without those whose true joints are near "
            "enough for a pinch to go on. The camera is known to the tracker.",
        ],
    )
