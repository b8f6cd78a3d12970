"""Fits the hands of labelled photographs: the mesh network proposes; which fits are good enough; a summary, a sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from rich.progress import track
from scipy.spatial.transform import Rotation

from handmesh.assets import model_path
from handmesh.crop import view_rotation
from handmesh.data.photos import Fit, Key, LabelledHand, Photo, read_photos, split_of, usable_hands, write_fits
from handmesh.evaluation.datasets import Case, Prediction, from_photos
from handmesh.evaluation.review import case_sheet
from handmesh.files import write_image
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project, solve_translation
from handmesh.hand.fitting import THUMB_BASE, Evidence, FitConfig, Fitter, Posed, drawn
from handmesh.hand.model import HandModel
from handmesh.skeleton import ROOT
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Estimator
from handmesh.types import Camera, Hand

Proposer = Callable[[LabelledHand, Camera], Hand | None]
"""What a network makes of a labelled hand of a photograph; None where it sees none."""


@dataclass(frozen=True)
class FitPhotosConfig:
    """How hands are fitted, and which fits are good enough to learn from."""

    search: FitConfig = field(default_factory=FitConfig)
    accept: float = 0.03
    """A fit is accepted up to this mean 2D distance to its label, as a fraction of the longer box side,"""
    accept_worst: float = 0.1
    """this one of its farthest joint (the thumb's base does not count),"""
    accept_weak_3d_m: float = 0.025
    """and this mean distance to the weak 3D joints, metres, when these have its size and position."""
    fov_deg: float = 60.0
    """What the longer side of the images spans. Where hands are near, a wrong angle bends their fingers."""
    batch: int = 128


Start = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Where a search starts: the arguments of `Fitter.start` for one right hand."""


class Task(NamedTuple):
    """A labelled hand to be fitted; a left one is mirrored, as if it were the right hand of a mirrored image."""

    key: Key
    left: bool
    camera: Camera
    evidence: Evidence  # without the batch dimension
    proposal: Start | None


def tasks_of(photo: Photo, propose: Proposer, fov_deg: float) -> list[Task]:
    """The usable hands of a photograph with what the network proposes."""
    camera = Camera.from_fov(photo.width, photo.height, fov_deg)
    usable, tasks = {id(hand) for hand in usable_hands(photo)}, []
    for k, label in enumerate(photo.hands):
        if id(label) not in usable:
            continue
        seen, left = propose(label, camera), label.side == "left"
        rotation, flip = (mirror_rotations, mirror_points_m) if left else (np.asarray, np.asarray)
        joints_px = label.joints_px.astype(np.float64)
        if left:
            joints_px[:, 0] = 2 * camera.cx - joints_px[:, 0]
        # Weak 3D joints are those of a camera that looks straight at the hand.
        weak_3d_m = label.joints_m @ view_rotation(camera, label.box(rotation=False)).T
        side_px, focal_px = np.ptp(joints_px, axis=0).max(), np.float64(camera.fx)
        evidence = Evidence(joints_px, side_px, flip(weak_3d_m), focal_px, np.array([camera.cx, camera.cy]))
        proposal = seen and (rotation(seen.pose), seen.shape, flip(seen.joints_m[ROOT]))
        tasks.append(Task((photo.path.name, k), left, camera, evidence, proposal))
    return tasks


class PhotoFitter:
    """Fits labelled hands, many at once."""

    def __init__(self, hand: HandModel, config: FitPhotosConfig | None = None) -> None:
        """Raises ValueError where `hand` is MANO; see `KeypointHand`."""
        self.config = config or FitPhotosConfig()
        self.fitter = Fitter(hand, self.config.search)

    def fit(self, tasks: Sequence[Task]) -> dict[Key, Fit]:
        """Each hand, from its proposal and from the relaxed hand, whichever leads nearer."""
        evidence = Evidence(*map(np.stack, zip(*(task.evidence for task in tasks), strict=True)))
        relaxed = [self._relaxed(task.evidence) for task in tasks]
        proposed = [task.proposal or rest for task, rest in zip(tasks, relaxed, strict=True)]
        (posed, cost), (other, other_cost) = (self._search(evidence, starts) for starts in (proposed, relaxed))
        posed = posed.take(cost <= other_cost, other)
        return dict(zip((task.key for task in tasks), self._fits(tasks, evidence, posed), strict=True))

    def _search(self, evidence: Evidence, starts: Sequence[Start]) -> tuple[Posed, np.ndarray]:
        columns = (np.stack(column).astype(np.float64) for column in zip(*starts, strict=True))
        return self.fitter.fit(evidence, self.fitter.start(*columns))

    def _relaxed(self, evidence: Evidence) -> Start:
        """The hand at rest, turned as the weak 3D joints are and placed as the image shows."""
        rest = self.fitter.hand.rest_joints_m
        weak_3d = evidence.weak_3d_m
        rotation = Rotation.align_vectors(weak_3d - weak_3d.mean(0), rest - rest.mean(0))[0].as_matrix()
        camera = Camera(float(evidence.focal_px), float(evidence.focal_px), *evidence.centre_px.tolist(), 0, 0)
        rotations = np.concatenate([rotation[None], np.tile(np.eye(3), (15, 1, 1))])
        return rotations, np.zeros(10), solve_translation((rest - rest[ROOT]) @ rotation.T, evidence.joints_px, camera)

    def _fits(self, tasks: Sequence[Task], evidence: Evidence, posed: Posed) -> Iterator[Fit]:
        hand = self.fitter.hand
        rotations, joints_m = hand.rotations(posed), hand.joints_m(posed)
        off = np.linalg.norm(drawn(joints_m, evidence) - evidence.joints_px, axis=-1) / evidence.side_px[:, None]
        weak_3d_m = self.fitter.weak_3d_errors_m(evidence, posed)
        for k, task in enumerate(tasks):
            rotation, flip = (mirror_rotations, mirror_points_m) if task.left else (np.asarray, np.asarray)
            arrays = rotation(rotations[k]), posed.shape[k], flip(joints_m[k]), flip(posed.position_m[k])
            accepted = self._accepts(off[k], weak_3d_m[k])
            yield Fit(*(a.astype(np.float32) for a in arrays), weak_3d_m[k], off[k].mean(), accepted, task.camera)

    def _accepts(self, off: np.ndarray, weak_3d_m: float) -> bool:
        config, worst = self.config, np.delete(off, THUMB_BASE).max()
        return bool(
            off.mean() <= config.accept and worst <= config.accept_worst and weak_3d_m <= config.accept_weak_3d_m
        )


@dataclass(frozen=True)
class FitOptions:
    """Fit the posed hand to labelled photographs.

    Training learns rotations and shapes from the accepted fits (data.fits); those of the held-out split are
    written too, to be looked at.
    """

    photos: tyro.conf.Positional[Path]
    """Folder with pseudo_labels.json."""
    output: Path
    """The .npz file of fits."""
    model: str = "balanced"
    """The mesh network that proposes: a bundled one by name, or an .onnx file."""
    sheet: Path | None = None
    """Write a .png of the best, the median and the worst fits drawn over their photographs."""
    limit: int | None = None
    """Take the first so many photographs of each split. Default: all."""
    fit: tyro.conf.OmitArgPrefixes[FitPhotosConfig] = field(default_factory=FitPhotosConfig)


def run(options: FitOptions) -> None:
    """`handmesh data fit-photos`: fit the usable hands of both splits, write the fits, and say how well it went."""
    estimator = Estimator(open_session(model_path(options.model), "mesh"))
    hand, config = HandModel.load(), options.fit
    photos = [photo for split in ("train", "val") for photo in read_photos(options.photos, split)[: options.limit]]
    tasks: list[Task] = []
    for photo in track(photos, "proposing"):
        image = photo.load()

        def look(label: LabelledHand, camera: Camera, image: np.ndarray = image) -> Hand | None:
            estimate = estimator.estimate(image, camera, label.box(), label.side)
            return None if estimate is None else estimate.hand

        tasks += tasks_of(photo, look, config.fov_deg)
    fitter, fits = PhotoFitter(hand, config), {}
    for start in track(range(0, len(tasks), config.batch), "fitting"):
        fits |= fitter.fit(tasks[start : start + config.batch])
    write_fits(options.output, fits)
    for split in ("train", "val"):
        print(summary(split, [fit for key, fit in fits.items() if split_of(key[0]) == split]))
    if options.sheet is not None:
        write_image(options.sheet, overlay_sheet(photos, fits, hand))


def summary(name: str, fits: Sequence[Fit]) -> str:
    """One line: how many fits there are, how many are accepted and how near these come."""
    accepted = [fit for fit in fits if fit.accepted]
    if not accepted:
        return f"{name}: {len(fits)} hands, none accepted"
    residual, weak_3d_m = (np.median([getattr(fit, key) for fit in accepted]) for key in ("residual", "weak_3d_m"))
    return (
        f"{name}: {len(fits)} hands, {len(accepted) / len(fits):.1%} accepted; the median of these is "
        f"{residual:.2%} of the box off in 2D, {1000 * weak_3d_m:.1f} mm from the weak 3D joints"
    )


def hand_of(fit: Fit, label: LabelledHand, hand: HandModel) -> Hand:
    """A fit as a hand to be drawn."""
    left = label.side == "left"
    rotations = mirror_rotations(fit.rotations) if left else fit.rotations
    vertices = hand(torch.from_numpy(rotations)[None], torch.from_numpy(fit.shape)[None]).vertices[0].numpy()
    vertices = (mirror_points_m(vertices) if left else vertices) + fit.translation_m
    faces = mirror_faces(hand.faces) if left else hand.faces
    joints_px = project(fit.joints_m, fit.camera).astype(np.float32)
    return Hand(vertices, fit.joints_m, joints_px, label.side, label.score, fit.rotations, fit.shape, faces)


def overlay_sheet(photos: Sequence[Photo], fits: Mapping[Key, Fit], hand: HandModel) -> np.ndarray:
    """(H, W, 3) the best, the median and the worst fits as `case_sheet` draws them."""
    cases = []
    for example in from_photos(photos):
        for k, label in enumerate(example.hands):
            if (fit := fits.get((example.name, k))) is not None:
                seen = example._replace(camera=fit.camera)
                cases.append((Case(seen, k, Prediction(hand_of(fit, label, hand))), fit.residual))
    chosen, errors = zip(*cases, strict=True)
    return case_sheet(chosen, np.array(errors))
