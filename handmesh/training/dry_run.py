"""`handmesh train PRESET --dry-run`: what a training would see, what is wrong with it, and how long it would take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from lightning_fabric import Fabric

from handmesh.crop import px_from_normalised
from handmesh.data.freihand import FreihandSource
from handmesh.data.label_checks import Mistake, Statistics, mistakes, statistics
from handmesh.data.loader import Changing, Source
from handmesh.data.mixture import Mixed, WithCropProtocol
from handmesh.data.samples import Batch, CropSample, HandSample, collate, make_crop_sample
from handmesh.files import make_folder, write_image
from handmesh.render.overlay import draw_skeleton
from handmesh.training.config import OptimiserConfig, RunConfig
from handmesh.training.engine import Task, prepare, take_step, validate
from handmesh.training.mesh import MeshTask

DRAWN = 48
"""Samples of each source that are looked at."""

SHEET = "dry_run.png"


def dry_run(task: Task, run: RunConfig, optimiser: OptimiserConfig) -> int:
    """Look at what the task would train on and take a few steps; prints, and gives 1 where something is wrong.

    Nothing is trained: only the image `dry_run.png` is written to the run's folder. Label statistics and mistakes are
    those of the mesh network's sources; of a detector, times alone are said.
    """
    wrong = _look(task, run) if isinstance(task, MeshTask) else None
    _check_best(task, run)
    for line in timed(task, run, optimiser):
        print(line)
    if wrong is None:
        print("labels were not looked at: only those of a mesh network's training are")
    else:
        print(f"mistakes found: {wrong}" if wrong else "no mistake found")
    return 1 if wrong else 0


def _look(task: MeshTask, run: RunConfig) -> int:
    """Say and draw what each source gives; how many mistakes there are in it."""
    sources = list(look_at(task))
    for line in (line for source in sources for line in source.lines()):
        print(line)
    make_folder(run.out)
    write_image(run.out / SHEET, sheet(sources))
    print(f"wrote {run.out / SHEET}: crops of each source with what is labelled in them")
    for note in _untrained(sources, task.config.losses):
        print(note)
    return sum(len(source.mistakes) for source in sources)


# What is drawn from each source.


class Looked(NamedTuple):
    """Samples of a source, the crops that training makes of them, and what is to be said of both."""

    mixed: Mixed
    samples: list[HandSample]
    crops: list[CropSample]
    mistakes: list[Mistake]

    @property
    def batch(self) -> Batch:
        """The crops as training has them."""
        return collate(self.crops)

    def lines(self) -> list[str]:
        """What there is to read."""
        batch, found = self.batch, statistics(self.samples)
        labels = ", ".join(f"{name} {100 * part:.0f} %" for name, part in _fractions(batch).items() if part)
        heights, widths = zip(*(sample.image.shape[:2] for sample in self.samples), strict=True)
        lines = [
            f"{self.mixed.name}: {100 * self.mixed.fraction:.1f} % of the crops",
            f"  images of {min(widths)} to {max(widths)} x {min(heights)} to {max(heights)} px, batches "
            f"{tuple(batch.image.shape)} {str(batch.image.dtype).removeprefix('torch.')}",
            f"  labelled: {labels or 'nothing, there is no hand'}",
            *(f"  {line}" for line in _measures(found)),
        ]
        return [*lines, *(f"  MISTAKE, {wrong.what}: {wrong.found}; {wrong.remedy}" for wrong in self.mistakes)]


def look_at(task: MeshTask) -> Iterator[Looked]:
    """Samples of each source of a task, in order."""
    config = task.config
    whole = sum(mixed.fraction for mixed in task.sources)
    size = config.run.stages[-1].crop_size
    for number, mixed in enumerate(task.sources):
        rng = np.random.default_rng([config.run.seed, number])
        source = _with_masks(mixed.source.at(0) if isinstance(mixed.source, Changing) else mixed.source, task)
        samples = [source.draw(rng) for _ in range(DRAWN)]
        augment, scale = config.data.augment, config.box_scale
        crops = [make_crop_sample(sample, size, scale, augment, rng, task.look) for sample in samples]
        yield Looked(mixed._replace(fraction=mixed.fraction / whole), samples, crops, mistakes(samples))


def _with_masks(source: Source, task: MeshTask) -> Source:
    """FreiHAND with its masks, which say where in the image the hand is, whether they are trained on or not."""
    if not isinstance(source, WithCropProtocol):
        return source
    hands = FreihandSource(source.source.freihand, task.hand_model, masks=True)
    return WithCropProtocol(hands, source.boxes, source.box_scale)


_LABELS = {
    "presence": "a hand", "has_joints_crop": "joints in the image", "has_joints_m": "exact joints in space",
    "has_weak_3d": "weak ones", "has_parameters": "rotations and shape", "has_vertices": "vertices",
    "has_mask": "a mask", "has_contact": "contact", "has_taught": "a teacher's features",
}  # fmt: skip


def _fractions(batch: Batch) -> dict[str, float]:
    """By label, of the crops; how many of the hands look like right ones as shown comes last."""
    found = {text: float(getattr(batch, name).mean()) for name, text in _LABELS.items()}
    hands = batch.presence > 0
    if hands.any():
        found["right as shown"] = float(batch.right[hands].mean())
        found["joints out of the crop"] = float((batch.joints_crop[hands].abs() > 1).any(-1).float().mean())
    return found


def _measures(found: Statistics) -> Iterator[str]:
    if found.finger_mm is not None:
        fingers = ", ".join(f"{length:.3g}" for length in found.finger_mm)
        yield f"hands of {found.hand_mm:.3g} mm from wrist to middle fingertip, fingers of {fingers} mm"
    if found.reprojection_px is not None:
        yield f"joints in space lie {found.reprojection_px:.3g} px from those in the image, seen by the camera"
    if found.right is not None:
        yield f"right hands: {100 * found.right:.0f} %"


def _untrained(sources: Sequence[Looked], losses: dict[str, float]) -> Iterator[str]:
    """Outputs that have a loss and that nothing teaches."""
    drawn = [source for source in sources if source.mixed.fraction > 0]
    hands = np.concatenate([[crop.presence for crop in source.crops] for source in drawn])
    right = np.concatenate([[crop.right for crop in source.crops if crop.presence] for source in drawn])
    if losses.get("presence") and len(set(hands.tolist())) < 2:
        yield "note: every crop shows a hand: `presence` learns nothing; add data.backgrounds"
    if losses.get("handedness") and len(set(right.tolist())) < 2:
        yield "note: every hand is of one side as shown: `handedness` learns nothing; set data.augment.wrong_side"


# The image.


COLUMNS, TILE_PX, HEAD_PX = 8, 160, 22
_BACK, _WRONG, _TEXT = (40, 40, 46), (150, 40, 40), (235, 235, 235)


def sheet(sources: Sequence[Looked]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row of crops for each source below its name, red where something is wrong with it."""
    return np.concatenate([part for source in sources for part in (_head(source), _row(source))])


def _head(source: Looked) -> np.ndarray:
    strip = np.full((HEAD_PX, COLUMNS * TILE_PX, 3), _WRONG if source.mistakes else _BACK, np.uint8)
    wrong = ", ".join(dict.fromkeys(mistake.what for mistake in source.mistakes))
    _write(strip, f"{source.mixed.name}{': ' if wrong else ''}{wrong}", (6, 16))
    return strip


def _row(source: Looked) -> np.ndarray:
    tiles = [_tile(*pair) for pair in islice(zip(source.samples, source.crops, strict=True), COLUMNS)]
    return np.concatenate(tiles, axis=1)


def _tile(sample: HandSample, crop: CropSample) -> np.ndarray:
    """A crop with its joints; below, the hand's own side and what the network is to say of it."""
    image = np.ascontiguousarray(crop.image.transpose(1, 2, 0))
    image = cv2.resize(image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    if crop.presence:
        draw_skeleton(image, px_from_normalised(crop.joints_crop, TILE_PX))
        text = f"{sample.side}{'' if crop.right else ', shown wrong'}"
    else:
        text = "no hand"
    cv2.rectangle(image, (0, TILE_PX - 18), (TILE_PX, TILE_PX), _BACK, cv2.FILLED)
    _write(image, text, (6, TILE_PX - 5))
    return image


def _write(image: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _TEXT, 1, cv2.LINE_AA)


# Time.


LONGEST_S, TIMED_STEPS = 30.0, 4
"""A stage's steps are timed until so many were, the first not counted, or until so long has passed."""


def timed(task: Task, run: RunConfig, optimiser: OptimiserConfig) -> Iterable[str]:
    """Lines on the time that a step of each stage takes, its loading included, and the hours of the whole schedule."""
    fabric = Fabric(accelerator=run.accelerator, devices=1, precision=run.precision)
    fabric.launch()
    network, model, moves = prepare(fabric, task, run, optimiser)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    yield f"{parameters / 1e6:.2f} million parameters, on {fabric.device}, {run.precision}"
    world, start, whole_s = max(1, run.devices) * run.num_nodes, 0, 0.0
    for stage in run.stages:
        batches, took = iter(task.batches(start, 0, world)), []
        for _ in range(min(stage.steps, TIMED_STEPS + 1)):
            begun = time.perf_counter()
            parts = list(islice(batches, run.accumulate))
            take_step(fabric, task, model, moves, parts, optimiser, run.out)
            took.append(time.perf_counter() - begun)
            if sum(took) > LONGEST_S:
                break
        step_s = float(np.median(took[1:] or took))
        whole_s += stage.steps * step_s
        start += stage.steps
        yield f"{stage.steps:,} steps of {stage.batch} crops of {stage.crop_size} px: {step_s:.3g} s each"
    among = f", on each of {world} devices, without what they exchange" if world > 1 else ""
    yield f"about {whole_s / 3600:.3g} hours for the schedule{among}; validation and checkpoints come on top"


def _check_best(task: Task, run: RunConfig) -> None:
    """Raise ValueError where `run.best` is no metric of the validation: better now than at its first one."""
    if run.best is not None:
        metrics, _ = validate(task, task.model)
        if run.best not in metrics:
            raise ValueError(f"run.best: no metric {run.best!r} in the validation; choose one of {', '.join(metrics)}")
