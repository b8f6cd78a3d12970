"""Fits the hands of a folder of labelled photographs: the mesh network proposes; progress, a summary, a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.progress import track

from handmesh.assets import model_path
from handmesh.data.fit_photos import FitPhotosConfig, PhotoFitter, Task, tasks_of
from handmesh.data.photos import Fit, Key, LabelledHand, Photo, read_photos, split_of, write_fits
from handmesh.evaluation.datasets import Case, Prediction, from_photos
from handmesh.evaluation.sheets import case_sheet, write_sheet
from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project
from handmesh.hand.model import HandModel
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Estimator
from handmesh.types import Camera, Hand


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
    """`handmesh data fit-photos`: fit, write, and say how well it went."""
    fit_folder(options.photos, options.output, options.model, options.fit, options.sheet, options.limit)


def fit_folder(
    root: Path, out: Path, model: str, config: FitPhotosConfig, sheet: Path | None = None, limit: int | None = None
) -> dict[Key, Fit]:
    """Fit the usable hands of a folder, both splits, and write them to `out`; prints how well it went."""
    estimator = Estimator(open_session(model_path(model), "mesh"))
    hand = HandModel.load()
    photos = [photo for split in ("train", "val") for photo in read_photos(root, split)[:limit]]
    tasks = [task for photo in track(photos, "proposing") for task in propose(photo, estimator, config.fov_deg)]
    fitter, fits = PhotoFitter(hand, config), {}
    for start in track(range(0, len(tasks), config.batch), "fitting"):
        fits |= fitter.fit(tasks[start : start + config.batch])
    write_fits(out, fits)
    for split in ("train", "val"):
        print(summary(split, [fit for key, fit in fits.items() if split_of(key[0]) == split]))
    if sheet is not None:
        write_sheet(sheet, overlay_sheet(photos, fits, hand))
    return fits


def propose(photo: Photo, estimator: Estimator, fov_deg: float) -> list[Task]:
    """The usable hands of a photograph with what the network says of each in the box around its label."""
    image = photo.load()

    def look(hand: LabelledHand, camera: Camera) -> Hand | None:
        estimate = estimator.estimate(image, camera, hand.box(), hand.side)
        return None if estimate is None else estimate.hand

    return tasks_of(photo, look, fov_deg)


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
    """The best, the median and the worst fits as `evaluation.sheets` draws them."""
    cases = []
    for example in from_photos(photos):
        for k, label in enumerate(example.hands):
            if (fit := fits.get((example.name, k))) is not None:
                seen = example._replace(camera=fit.camera)
                cases.append((Case(seen, k, Prediction(hand_of(fit, label, hand))), fit.residual))
    chosen, errors = zip(*cases, strict=True)
    return case_sheet(chosen, np.array(errors))
